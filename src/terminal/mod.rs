//! The caller's terminal: passed on to a process in a container while that runs, and restored afterwards.

mod first;
pub mod guard;
mod relay;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use guard::Guard;
pub use relay::{Ending, relay};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal that is standard input and standard output, in raw mode: every key is passed on. Dropping it restores the modes;
/// if this process is killed, a guard does.
#[derive(Debug)]
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    _guard: Guard,
}

/// Returns a descriptor of the terminal on standard input.
///
/// # Errors
/// Where the process can open no more descriptors.
pub fn keyboard() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// Returns the number of its rows and of its columns; none where it does not report them.
pub fn size(terminal: BorrowedFd<'_>) -> Option<Winsize> {
    tcgetwinsize(terminal).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0)
}

impl<'a> Raw<'a> {
    /// Sets the terminal to raw mode.
    ///
    /// # Errors
    /// Where it is no terminal, or the guard cannot be started.
    pub fn take(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let guard = Guard::start(terminal)?;
        let raw = Self { terminal, before, _guard: guard };
        raw.set()?;
        Ok(raw)
    }

    /// Sets raw mode again, which a shell changes when it stops this process and lets it continue.
    fn set(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        Ok(tcsetattr(self.terminal, OptionalActions::Drain, &raw)?)
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // The guard tries too.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}
