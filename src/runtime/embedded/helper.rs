//! Runs `runner __session`: the single-threaded process that makes a session's container and waits for its end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Signal, pidfd_send_signal};

use super::setup::{InitDescriptors, become_init};
use super::{OpenRequest, PrepareRequest, sealed};
use crate::cgroup::ContainerGroup;
use crate::error::{context, error_chain};
use crate::runtime::container::helper_exit_code;
use crate::runtime::protocol::{OpenReply, receive, send};
use crate::runtime::{devices, reap};
use crate::sys::{self, Fork};

/// Init's program, which build.rs compiles. Started with an argument, it is the first process of a step.
pub const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// How long init may take to end before the helper kills all processes of its groups.
const FROZEN_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    helper_exit_code(serve())
}

/// Makes the container and waits for its end. Returns whether nothing of it remains.
fn serve() -> io::Result<bool> {
    let socket = UnixStream::from(sys::take_stdin()?);
    // A real-time process cannot be moved into a new v1 group, which has no share of that time yet.
    sys::leave_real_time()?;
    // The steps would inherit the personality, which is in no cache key.
    sys::ordinary_personality()?;
    let Some((prepare, _)) = receive::<PrepareRequest>(&socket)? else { return Ok(true) };
    let prepared = make_namespaces(&prepare).map_err(|error| error_chain(&error)).and_then(|()| create_group(&prepare));
    let Some((open, descriptors)) = receive::<OpenRequest>(&socket)? else {
        // The root could not be mounted.
        return Ok(prepared.is_ok_and(|group| group.remove()));
    };
    let [requests, setup] =
        <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| io::Error::other("init's descriptors are missing"))?;
    let created = match prepared {
        Ok(group) => create(&open, group, requests, setup),
        Err(why) => Err(why),
    };
    let (init, group) = match created {
        Ok(created) => created,
        Err(error) => {
            send(&socket, &OpenReply::Failed(error), &[])?;
            return Ok(true);
        }
    };
    send(&socket, &OpenReply::Ready(group.set_limits()), &[])?;
    wait(&init, &group, &socket)?;
    Ok(group.remove())
}

/// Waits for the end of init, which ends with runner. A process inside may have frozen init, so the helper also thaws it.
fn wait(init: &OwnedFd, group: &ContainerGroup, socket: &UnixStream) -> io::Result<()> {
    let mut polled = [PollFd::new(init, PollFlags::IN), PollFd::new(socket, PollFlags::RDHUP)];
    poll_again(&mut polled, None)?;
    let [mut ended, _] = polled;
    while ended.revents().is_empty() {
        // Runner has closed its end, or has ended.
        let _ = pidfd_send_signal(init, Signal::KILL);
        group.thaw();
        if poll_again(std::slice::from_mut(&mut ended), Some(&FROZEN_AGAIN))? == 0 {
            group.kill();
        }
    }
    reap(init.as_fd())?;
    Ok(())
}

fn poll_again(polled: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<usize> {
    loop {
        match poll(polled, timeout) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Makes the container's namespaces that this process can enter too, before the root is mounted: a network namespace takes a
/// millisecond to make.
fn make_namespaces(prepare: &PrepareRequest) -> io::Result<()> {
    let network = if prepare.own_network { CloneFlags::CLONE_NEWNET } else { CloneFlags::empty() };
    let namespaces = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | network;
    nix::sched::unshare(namespaces).map_err(context("make the container's namespaces"))?;
    if prepare.own_network {
        sys::bring_loopback_up().map_err(context("bring the loopback interface up"))?;
        open_all_ports().map_err(context("let each user bind each port"))?;
    }
    Ok(())
}

/// Lets each user bind each port of the network namespace, as Docker does; an external runtime does the same by `linux.sysctl`.
fn open_all_ports() -> io::Result<()> {
    const FILE: &str = "sys/net/ipv4/ip_unprivileged_port_start";
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(format!("/proc/{FILE}"), flags, Mode::empty()) {
        // In a container of another tool, /proc may be mounted read-only, and for the namespace of that container.
        Err(Errno::ROFS) => rustix::fs::openat(new_proc()?, FILE, flags, Mode::empty()),
        opened => opened,
    };
    match opened {
        Ok(file) => File::from(file).write_all(b"0"),
        // A kernel without IPv4.
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes a detached proc(5).
fn new_proc() -> io::Result<OwnedFd> {
    let filesystem = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&filesystem)?;
    Ok(fsmount(&filesystem, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// Clones the container's first process, which builds the container.
fn create(
    open: &OpenRequest,
    group: ContainerGroup,
    requests: OwnedFd,
    setup: OwnedFd,
) -> Result<(OwnedFd, ContainerGroup), String> {
    match start(open, &group, requests, setup) {
        Ok(init) => Ok((init, group)),
        Err(error) => {
            group.remove();
            Err(error)
        }
    }
}

fn start(open: &OpenRequest, group: &ContainerGroup, requests: OwnedFd, setup: OwnedFd) -> Result<OwnedFd, String> {
    let begin = || -> io::Result<_> {
        let descriptors = InitDescriptors { requests, setup, program: sealed("init", INIT)? };
        let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok((descriptors, UnixStream::pair()?, proc))
    };
    let (descriptors, (mut report, mut reporting), proc) = begin().map_err(|error| error_chain(&error))?;
    let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let forked = sys::fork_into(namespaces as u64, group.v2().map(AsFd::as_fd), proc.as_fd());
    let init =
        match forked.map_err(context("start the container's first process")).map_err(|error| error_chain(&error))? {
            Fork::Child => {
                drop(report);
                let built = group.join_v1().map_err(|error| error.message_with_hint());
                let Err(message) =
                    built.and_then(|()| become_init(&open.spec, descriptors).map_err(|error| error_chain(&error)));
                let _ = reporting.write_all(message.as_bytes());
                sys::exit_now(1);
            }
            Fork::Parent(init) => init,
        };
    drop((descriptors, reporting));
    // The other end closes with execve(2), or with the end of the first process.
    let mut message = String::new();
    let read = report.read_to_string(&mut message).map_err(|error| error.to_string());
    let built = if message.is_empty() { read.map(drop) } else { Err(message) };
    let Err(why) = built else { return Ok(init) };
    let _ = pidfd_send_signal(&init, Signal::KILL);
    reap(init.as_fd()).map_err(|error| error.to_string())?;
    Err(why)
}

fn create_group(prepare: &PrepareRequest) -> Result<ContainerGroup, String> {
    let rules = prepare.resources.devices().clone().unwrap_or_default();
    ContainerGroup::create(&prepare.id, &prepare.resources, |groups| match devices::allow_only(groups, &rules) {
        // A container that may not make nodes has none to open: the nodes of its root cannot be opened either.
        Err(_) if !prepare.makes_nodes => Ok(()),
        other => other.map_err(devices::refusal),
    })
}
