//! A step's terminal: made by the step itself, with the devpts of its container; the master's side goes to runner.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use oci_spec::runtime::Process;
use rustix::fs::{CWD, Mode, OFlags, Uid, fchown, openat};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::runtime::protocol::{Told, send};

/// Makes a terminal the controlling one of this process, which leads its session; gives the side that it uses.
///
/// # Errors
/// Where the container has no devpts, or runner is gone.
pub fn open(process: &Process, status: &UnixStream) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(CWD, "/dev/ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    // By the master and not by a path: that could have been replaced.
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    fchown(&slave, Some(Uid::from_raw(process.user().uid())), None)?;
    if let Some(size) = process.console_size() {
        let side = |side: u64| u16::try_from(side).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: side(size.height()), ws_col: side(size.width()), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size)?;
    }
    ioctl_tiocsctty(&slave)?;
    send(status, &Told::Terminal, &[master.as_fd()])?;
    Ok(slave)
}
