//! The caller's terminal and standard input, for a program inside a container.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::fs::FileType;

use crate::error::{Error, Exit};
use crate::terminal;

/// Opens the terminal that standard input and standard output are connected to.
///
/// # Errors
/// With [`Exit::Usage`] and this hint, if one of them is not a terminal.
pub fn keyboard(hint: &str) -> Result<OwnedFd, Error> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let error = "cannot open a terminal in the container: standard input or standard output is not a terminal";
        return Err(Error::new(Exit::Usage, error).with_hint(Some(hint.to_owned())));
    }
    terminal::keyboard().map_err(|error| Error::new(Exit::Host, format!("cannot open the terminal: {error}")))
}

/// Returns standard input for a program inside, which is hostile: the program could type into a terminal (TIOCSTI of
/// tty_ioctl(4)), and could change the owner of a file or write to it by a descriptor that is open for reading. So the
/// program gets a pipe.
///
/// Starts a thread.
pub fn stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(File::open("/dev/null")?.into());
    }
    let stdin = stdin.as_fd().try_clone_to_owned()?;
    if FileType::from_raw_mode(rustix::fs::fstat(&stdin)?.st_mode) == FileType::Fifo {
        return Ok(stdin);
    }
    let (reader, mut writer) = io::pipe()?;
    // The thread ends at the end of the input, or when the program reads no more.
    let copy = move || io::copy(&mut File::from(stdin), &mut writer);
    thread::Builder::new().name("stdin".into()).spawn(copy)?;
    Ok(reader.into())
}

/// Returns whether standard input has commands for a shell. /dev/null has none, and a person types into a terminal.
///
/// # Errors
/// With [`Exit::Host`], if the kind of standard input is unknown.
pub fn has_script() -> Result<bool, Error> {
    let kind = rustix::fs::fstat(io::stdin()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let kind = kind.map_err(|error| Error::new(Exit::Host, format!("cannot examine standard input: {error}")))?;
    Ok(matches!(kind, FileType::RegularFile | FileType::Fifo | FileType::Socket))
}
