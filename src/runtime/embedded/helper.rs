//! `runner __session`: the process of one thread that makes a session's container and waits for its end.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};

use super::setup::{Inheritance, become_init, has_namespace};
use super::{Open, group::Group, sealed, view};
use crate::error::told;
use crate::runtime::protocol::{Opened, receive, send};
use crate::runtime::{devices, reap};
use crate::sys::{self, Fork};

/// Init's program, which build.rs compiles.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    match serve() {
        Ok(true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Makes the container and waits for its end; true when nothing of it is left.
fn serve() -> io::Result<bool> {
    let socket = UnixStream::from(sys::take_stdin()?);
    let Some((open, descriptors)) = receive::<Open>(&socket)? else { return Ok(true) };
    let [requests] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| io::Error::other("no socket for init"))?;
    let (init, group) = match create(&open, requests) {
        Ok(created) => created,
        Err(error) => {
            send(&socket, &Opened::Failed(error.to_string()), &[])?;
            return Ok(true);
        }
    };
    send(&socket, &Opened::Ready, &[])?;
    drop(socket);
    reap(init.as_fd())?;
    Ok(group.remove())
}

/// Clones the container's first process, which builds the container while this one makes its cgroups.
fn create(open: &Open, requests: OwnedFd) -> Result<(OwnedFd, Group), Box<dyn Error>> {
    let view = sealed("view", &view::encode(&open.spec, &[], false)?)?;
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
    let group = Group::create(&open.id, &open.spec);
    let built = group.as_ref().map_err(ToString::to_string).and_then(|group| {
        let admitted = group.add(pid).and_then(|()| enforce_rules(open, pid));
        admitted.map_err(|error| error.to_string())?;
        // An early end of that process is reported by what comes, or does not.
        let _ = go.write_all(&[1]);
        let mut words = String::new();
        report.read_to_string(&mut words).map_err(|error| error.to_string())?;
        // The other end closes with execve(2).
        if words.is_empty() { Ok(()) } else { Err(words) }
    });
    let Err(why) = built else { return Ok((init, group?)) };
    let _ = pidfd_send_signal(&init, Signal::KILL);
    reap(init.as_fd())?;
    if let Ok(group) = group {
        group.remove();
    }
    Err(why.into())
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

fn enforce_rules(open: &Open, pid: i32) -> Result<(), Box<dyn Error>> {
    match devices::enforce(&open.id, pid, &devices::of(&open.spec)) {
        // Without nodes of its own making nothing inside has any to open: those of its root do not open either.
        Err(_) if !open.makes_nodes => Ok(()),
        other => Ok(other.map_err(|error| devices::lacking(error.as_ref()))?),
    }
}
