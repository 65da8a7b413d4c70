//! `runner __session`: the process of one thread that makes a session's container and waits for its end.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use super::setup::{Inheritance, become_init, has_namespace};
use super::{Open, sealed};
use crate::cgroup::ContainerGroup;
use crate::error::told;
use crate::runtime::container::last_words;
use crate::runtime::protocol::{Opened, receive, send};
use crate::runtime::{devices, reap};
use crate::sys::{self, Fork};

/// Init's program, which build.rs compiles.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// How long init may take to end before everything in its groups is killed with it.
const FROZEN_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    last_words(serve())
}

/// Makes the container and waits for its end; true when nothing of it is left.
fn serve() -> io::Result<bool> {
    let socket = UnixStream::from(sys::take_stdin()?);
    // With real-time scheduling nothing can be moved into a new v1 group, which has no share of that time yet.
    sys::leave_real_time()?;
    let Some((open, descriptors)) = receive::<Open>(&socket)? else { return Ok(true) };
    let [requests, view] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| io::Error::other("nothing for init"))?;
    let (init, group) = match create(&open, requests, view) {
        Ok(created) => created,
        Err(error) => {
            send(&socket, &Opened::Failed(error.to_string()), &[])?;
            return Ok(true);
        }
    };
    send(&socket, &Opened::Ready, &[])?;
    wait(&init, &group, &socket)?;
    Ok(group.remove())
}

/// Waits for the end of init, which comes with the end of runner: but something inside may have frozen init.
fn wait(init: &OwnedFd, group: &ContainerGroup, socket: &UnixStream) -> io::Result<()> {
    let mut polled = [PollFd::new(init, PollFlags::IN), PollFd::new(socket, PollFlags::RDHUP)];
    poll_again(&mut polled, None)?;
    let [mut ended, _] = polled;
    while ended.revents().is_empty() {
        // Runner has closed its end, or is dead.
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

/// Clones the container's first process, which builds the container while this one makes its cgroups.
fn create(open: &Open, requests: OwnedFd, view: OwnedFd) -> Result<(OwnedFd, ContainerGroup), Box<dyn Error>> {
    let inheritance = Inheritance { requests, view, program: sealed("init", INIT)? };
    let (mut go, joined) = UnixStream::pair()?;
    let (mut report, mut reporting) = UnixStream::pair()?;
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let (pid, init) = match sys::fork_into(namespaces(open), proc.as_fd())? {
        Fork::Child => {
            drop((go, report));
            let Err(error) = become_init(&open.spec, inheritance, joined);
            let _ = reporting.write_all(told(&error).as_bytes());
            sys::exit_now(1);
        }
        Fork::Parent(pid, init) => (pid, init),
    };
    drop((inheritance, joined, reporting));
    let group = create_group(open);
    let joins = group.as_ref().map_err(Clone::clone).and_then(|group| group.add(pid).map_err(|error| error.told()));
    match joins {
        // An early end of that process is reported by what comes, or does not.
        Ok(()) => drop(go.write_all(&[1])),
        Err(_) => drop(pidfd_send_signal(&init, Signal::KILL)),
    }
    let mut words = String::new();
    let heard = report.read_to_string(&mut words).map_err(|error| error.to_string());
    // The other end closes with execve(2), or with the end of that process. What it says comes first: one that has ended
    // belongs to no group any more.
    let built = if words.is_empty() { joins.and(heard.map(drop)) } else { Err(words) };
    let Err(why) = built else { return Ok((init, group?)) };
    let _ = pidfd_send_signal(&init, Signal::KILL);
    reap(init.as_fd())?;
    if let Ok(group) = group {
        group.remove();
    }
    Err(why.into())
}

fn create_group(open: &Open) -> Result<ContainerGroup, String> {
    let resources = open.spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    ContainerGroup::create(&open.id, &resources, |groups| match devices::allow_only(groups, &devices::of(&open.spec)) {
        // Without nodes of its own making nothing inside has any to open: those of its root do not open either.
        Err(_) if !open.makes_nodes => Ok(()),
        other => other.map_err(devices::refusal),
    })
}

fn namespaces(open: &Open) -> u64 {
    let all = [
        (LinuxNamespaceType::Pid, libc::CLONE_NEWPID),
        (LinuxNamespaceType::Mount, libc::CLONE_NEWNS),
        (LinuxNamespaceType::Ipc, libc::CLONE_NEWIPC),
        (LinuxNamespaceType::Uts, libc::CLONE_NEWUTS),
        (LinuxNamespaceType::Network, libc::CLONE_NEWNET),
    ];
    let asked = all.into_iter().filter(|(kind, _)| has_namespace(&open.spec, *kind));
    asked.fold(0, |flags, (_, flag)| flags | flag as u64)
}
