//! A process that the helper waits for: one that it has started, or that the runtime's program has left to it.

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// A process that is this one's child, or will be when the runtime's program has ended.
pub struct Child {
    /// Its number.
    pub pid: Pid,
    /// Its pidfd.
    pub descriptor: OwnedFd,
}

impl Child {
    /// Opens the process of that number.
    ///
    /// # Errors
    /// What pidfd_open(2) says.
    pub fn of(pid: i32) -> io::Result<Self> {
        let raw = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("it has no number"))?;
        Ok(Self { pid: Pid::from_raw(pid), descriptor: pidfd_open(raw, PidfdFlags::empty())? })
    }
}
