//! System calls for pseudo-terminals, see pty(7) and ioctl_tty(2).

use super::call::{Result, checked, fd};
use super::number;

pub fn ioctl(descriptor: i32, request: usize, argument: usize) -> Result<usize> {
    checked(number::IOCTL, [fd(descriptor), request, argument])
}

/// Unlocks the slave's side of a terminal, see ioctl_tty(2).
pub fn unlock_terminal(master: i32) -> Result<()> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    let unlocked = 0i32;
    ioctl(master, TIOCSPTLCK, (&raw const unlocked) as usize).map(drop)
}

pub fn set_terminal_size(terminal: i32, rows: u16, columns: u16) -> Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [rows, columns, 0, 0];
    ioctl(terminal, TIOCSWINSZ, (&raw const size) as usize).map(drop)
}

/// Changes the owner of a terminal, but not its group.
pub fn change_owner(descriptor: i32, uid: u32) -> Result<()> {
    checked(number::FCHOWN, [fd(descriptor), uid as usize, u32::MAX as usize]).map(drop)
}

/// Makes the process group of this process, which leads it, the foreground group of the terminal at standard input, if that is a
/// terminal.
pub fn take_foreground() {
    const TIOCSPGRP: usize = 0x5410;
    let Ok(own) = checked(number::GETPID, []) else { return };
    let own = own as i32;
    let _ = ioctl(0, TIOCSPGRP, (&raw const own) as usize);
}

/// Returns the number of a terminal's slave side below /dev/pts.
pub fn terminal_number(master: i32) -> Result<u32> {
    const TIOCGPTN: usize = 0x8004_5430;
    let mut number = 0u32;
    ioctl(master, TIOCGPTN, (&raw mut number) as usize)?;
    Ok(number)
}
