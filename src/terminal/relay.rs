//! Passes keys in, output out and the window's size on, between the caller's terminal and one in a container.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcsetwinsize;
use signal_hook::consts::{SIGCONT, SIGWINCH};
use signal_hook::low_level::{pipe, unregister};

use super::first::ending_signal;
use super::{Raw, size};

/// The time for the remaining output after the process has ended, if another process still has its terminal open.
const DRAIN: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The reason why the relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The process has ended.
    Process,
    /// Runner was interrupted.
    Interrupt,
    /// A key was pressed that would have ended the process by this signal, were it not first in its PID namespace.
    Key(i32),
}

/// Passes keys and output on until `ended` or `interrupt` can be read.
///
/// # Errors
/// Where one of the terminals cannot be used.
pub fn relay(
    caller: &Raw<'_>,
    output: &mut impl Write,
    inside: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
    interrupt: BorrowedFd<'_>,
) -> io::Result<Ending> {
    let (changes, sender) = UnixStream::pair()?;
    changes.set_nonblocking(true)?;
    let second = sender.try_clone()?;
    let registered = [pipe::register(SIGWINCH, sender)?, pipe::register(SIGCONT, second)?];
    let result = pass_on(caller, output, inside, ended, interrupt, &changes);
    for signal in registered {
        unregister(signal);
    }
    result
}

fn pass_on(
    caller: &Raw<'_>,
    output: &mut impl Write,
    inside: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
    interrupt: BorrowedFd<'_>,
    changes: &UnixStream,
) -> io::Result<Ending> {
    // A program that does not read its input must not block its own output.
    rustix::io::ioctl_fionbio(inside, true)?;
    resize(caller, inside);
    let mut typed: Vec<u8> = Vec::new();
    let mut more_typed = true;
    let mut more_printed = true;
    loop {
        let flags_if = |is_enabled: bool, flag| if is_enabled { flag } else { PollFlags::empty() };
        // poll(2) would report a hang-up of an unused descriptor again and again.
        let poll_for =
            |fd, flags: PollFlags| PollFd::from_borrowed_fd(if flags.is_empty() { changes.as_fd() } else { fd }, flags);
        let of_inside = flags_if(more_printed, PollFlags::IN) | flags_if(!typed.is_empty(), PollFlags::OUT);
        let mut polled = [
            poll_for(caller.terminal, flags_if(more_typed && typed.is_empty(), PollFlags::IN)),
            poll_for(inside, of_inside),
            PollFd::from_borrowed_fd(ended, PollFlags::IN),
            PollFd::from_borrowed_fd(interrupt, PollFlags::IN),
            PollFd::new(changes, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [keys, printed, process, stop, change] = polled.map(|fd| !fd.revents().is_empty());
        if change {
            let _ = rustix::io::read(changes, &mut [0; 64]);
            caller.set()?;
            resize(caller, inside);
        }
        if keys && more_typed && typed.is_empty() {
            more_typed = read_some(caller.terminal, &mut |bytes| {
                typed.extend_from_slice(bytes);
                Ok(())
            })? != Read::End;
        }
        if !typed.is_empty() {
            match rustix::io::write(inside, &typed) {
                Ok(written) => {
                    if let Some(signal) = ending_signal(inside, &typed[..written]) {
                        return Ok(Ending::Key(signal));
                    }
                    typed.drain(..written);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::IO) => typed.clear(),
                Err(error) => return Err(error.into()),
            }
        }
        if printed && more_printed {
            more_printed = read_some(inside, &mut |bytes| show(output, bytes))? != Read::End;
        }
        if process {
            drain(inside, output)?;
            return Ok(Ending::Process);
        }
        if stop {
            return Ok(Ending::Interrupt);
        }
    }
}

/// Passes on the output from before the end.
///
/// # Errors
/// Where it cannot be written.
fn drain(inside: BorrowedFd<'_>, output: &mut impl Write) -> io::Result<()> {
    loop {
        let mut polled = [PollFd::from_borrowed_fd(inside, PollFlags::IN)];
        match poll(&mut polled, Some(&DRAIN)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if read_some(inside, &mut |bytes| show(output, bytes))? == Read::End {
            return Ok(());
        }
    }
}

fn show(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes)?;
    output.flush()
}

#[derive(PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    End,
}

fn read_some(from: BorrowedFd<'_>, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Read> {
    let mut buffer = [0; 16 << 10];
    match rustix::io::read(from, &mut buffer) {
        // EIO: no process has the other side open any more, see pty(7).
        Ok(0) | Err(Errno::IO) => Ok(Read::End),
        Ok(length) => take(&buffer[..length]).map(|()| Read::Some),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Read::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// Sets the inside terminal to the size of the caller's window; the kernel signals the processes there, if it has changed.
fn resize(caller: &Raw<'_>, inside: BorrowedFd<'_>) {
    if let Some(size) = size(caller.terminal.as_fd()) {
        let _ = tcsetwinsize(inside, size);
    }
}
