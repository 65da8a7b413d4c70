//! `runner __terminal`: a process that restores the terminal after runner has ended in any way.
//!
//! A killed process runs no handler, and a terminal that stays in raw mode does not show typed keys.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::signal::{SigSet, Signal};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// The argument that makes runner a guard.
pub const GUARD_ARGUMENT: &str = "__terminal";

/// The guard of a terminal; it acts when this is dropped, or ends with its process.
#[derive(Debug)]
pub struct Guard {
    process: Child,
    /// Closing it makes the guard act.
    link: UnixStream,
}

impl Guard {
    /// Starts a guard, which has read the terminal's modes when this returns.
    ///
    /// # Errors
    /// Where the process cannot be started, or finds no terminal.
    pub fn start(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let (link, there) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("runner")
            .arg(GUARD_ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(terminal.try_clone_to_owned()?)
            .stdout(OwnedFd::from(there))
            .stderr(Stdio::null())
            // A signal to runner's own group must not end its guard.
            .process_group(0)
            .spawn()?;
        let mut guard = Self { process, link };
        guard.link.read_exact(&mut [0])?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.link.shutdown(Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// Reads the modes of the terminal on standard input, and restores them when standard output has closed.
pub fn main() -> ExitCode {
    match guard() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn guard() -> io::Result<()> {
    // A process in the background is stopped by this signal when it changes a terminal, unless it blocks it.
    SigSet::from(Signal::SIGTTOU).thread_block()?;
    let terminal = io::stdin();
    let before = tcgetattr(terminal.as_fd())?;
    let mut link = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    // The other copy would stay open only in runner, and ends with this process.
    link.write_all(&[1])?;
    let _ = link.read(&mut [0]);
    Ok(tcsetattr(terminal.as_fd(), OptionalActions::Drain, &before)?)
}
