//! A process that the helper waits for: its own child, or an orphan of the runtime's program that became its child.

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// A child of this process, or a process that becomes one when the runtime's program has ended.
pub struct Child {
    /// The process' number.
    pub pid: Pid,
    /// The process' pidfd.
    pub descriptor: OwnedFd,
}

impl Child {
    /// Opens the process with this number.
    ///
    /// # Errors
    /// Those of pidfd_open(2).
    pub fn of(pid: i32) -> io::Result<Self> {
        let raw = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("it has no number"))?;
        Ok(Self { pid: Pid::from_raw(pid), descriptor: pidfd_open(raw, PidfdFlags::empty())? })
    }
}
