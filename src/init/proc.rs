//! Reads the properties of processes from the proc(5) of this container's PID namespace.

use crate::PROC;
use crate::disposition;
use crate::step::{self, DIGITS};
use crate::sys::{self, Buffer, O_DIRECTORY, Result};

/// The longest path below a process' directory that this file opens.
const MAX_SUFFIX: usize = 16;

/// The number of bytes that are read of a process' status: the signals follow the groups, of which there may be 65,536.
const MAX_STATUS: usize = 1 << 20;

static STATUS: Buffer<MAX_STATUS> = Buffer::new();

/// Opens a file of a process, by a path that begins with `/` and ends with its NUL.
pub fn open(number: u32, suffix: &[u8]) -> Result<i32> {
    let mut digits = [0u8; DIGITS];
    let number = step::decimal(number, &mut digits);
    let mut path = [0u8; DIGITS + MAX_SUFFIX];
    let length = number.len() + suffix.len();
    path[..number.len()].copy_from_slice(number);
    path.get_mut(number.len()..length).ok_or(sys::EINVAL)?.copy_from_slice(suffix);
    sys::open(PROC, &path[..length], 0)
}

fn read_of(number: u32, suffix: &[u8], bytes: &mut [u8]) -> Result<usize> {
    let file = open(number, suffix)?;
    let mut length = 0;
    let read = loop {
        match sys::read(file, &mut bytes[length..]) {
            Ok(0) => break Ok(length),
            Ok(count) => length += count,
            Err(error) => break Err(error),
        }
    };
    sys::close(file);
    read
}

/// Returns whether SIGTERM would end a process at once, see [`disposition`].
pub fn is_ended_by_sigterm(number: u32) -> bool {
    of_status(number, disposition::is_ended_by_sigterm)
}

/// Returns whether the kernel has dropped a SIGTERM that was just sent to a process, see [`disposition`].
pub fn drops_sigterm(number: u32) -> bool {
    of_status(number, disposition::drops_sigterm)
}

/// Returns whether a process has a handler for SIGTERM.
pub fn catches_sigterm(number: u32) -> bool {
    of_status(number, disposition::catches_sigterm)
}

fn of_status(number: u32, question: impl FnOnce(&[u8]) -> bool) -> bool {
    STATUS.lend(|bytes| read_of(number, b"/status\0", bytes).is_ok_and(|length| question(&bytes[..length])))
}

/// Returns whether a process has a child that has not ended. The first process of a PID namespace has one as long as any other
/// process in it has not ended, because it becomes the parent of orphans.
///
/// # Errors
/// Where the processes cannot be listed.
pub fn has_live_child(parent: u32) -> Result<bool> {
    const LIST_BYTES: usize = 8 << 10;
    let mut list = [0u8; LIST_BYTES];
    // Opened each time, so that the list begins at its first entry.
    let directory = sys::open(PROC, b".\0", O_DIRECTORY)?;
    let found = loop {
        match sys::entries(directory, &mut list) {
            Ok(0) => break Ok(false),
            Ok(length) if numbers(&list[..length]).any(|number| is_live_child(number, parent)) => break Ok(true),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    sys::close(directory);
    found
}

/// Returns the numbers among the names of `struct linux_dirent64`, see getdents(2).
fn numbers(mut entries: &[u8]) -> impl Iterator<Item = u32> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    core::iter::from_fn(move || {
        let length = entries.get(LENGTH..LENGTH + 2)?;
        let length = u16::from_le_bytes([length[0], length[1]]).into();
        let (entry, rest) = entries.split_at_checked(length)?;
        entries = rest;
        Some(entry.get(NAME..).and_then(number))
    })
    .flatten()
}

/// Reads a number in decimal digits, which ends where its text does.
fn number(text: &[u8]) -> Option<u32> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let is_whole = end > 0 && matches!(text.get(end), None | Some(0 | b' '));
    let digits = text[..end].iter().filter(|_| is_whole);
    digits.fold(None, |number: Option<u32>, digit| {
        number.unwrap_or(0).checked_mul(10)?.checked_add((*digit - b'0').into())
    })
}

fn is_live_child(process: u32, parent: u32) -> bool {
    // Up to the last field that is read here there are the number, the name of at most 64 bytes, the state, and 17 numbers of at
    // most 20 digits, see proc_pid_stat(5).
    const MAX_STAT: usize = 512;
    // The positions of the parent and of the number of threads after the state.
    const PARENT: usize = 0;
    const THREADS: usize = 16;
    let mut stat = [0u8; MAX_STAT];
    let Ok(file) = open(process, b"/stat\0") else { return false };
    let read = sys::read(file, &mut stat);
    sys::close(file);
    let Ok(length) = read else { return false };
    // A name may contain any byte, so the next field follows the last bracket.
    let Some(end) = stat[..length].iter().rposition(|byte| *byte == b')') else { return false };
    let (Some(state), Some(rest)) = (stat.get(end + 2), stat.get(end + 4..length)) else { return false };
    let field = |index| rest.split(|byte| *byte == b' ').nth(index).and_then(number);
    // A process whose main thread has ended is a zombie too, although its other threads run.
    let has_ended = matches!(state, b'Z' | b'X' | b'x') && field(THREADS).is_none_or(|threads| threads <= 1);
    field(PARENT) == Some(parent) && !has_ended
}
