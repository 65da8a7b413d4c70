//! Keys that end a process, for one that is first in its PID namespace.
//!
//! The kernel does not deliver signals to such a process unless it has a handler, see pid_namespaces(7): `sleep` as the command
//! of a container would ignore Ctrl-C. Outside of a container it would end, so it does here.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr, tcgetpgrp};

const KEYS: [(SpecialCodeIndex, i32); 2] =
    [(SpecialCodeIndex::VINTR, libc::SIGINT), (SpecialCodeIndex::VQUIT, libc::SIGQUIT)];

/// Returns the signal by which the typed keys must end the terminal's foreground process, if the kernel does not deliver it.
pub fn ending_signal(terminal: BorrowedFd<'_>, typed: &[u8]) -> Option<i32> {
    // Reading a terminal's modes costs a system call, and most keys end nothing.
    if !typed.iter().any(u8::is_ascii_control) {
        return None;
    }
    let modes = tcgetattr(terminal).ok()?;
    if !modes.local_modes.contains(LocalModes::ISIG) {
        return None;
    }
    let is_typed = |key: SpecialCodeIndex| modes.special_codes[key] != 0 && typed.contains(&modes.special_codes[key]);
    let signal = KEYS.into_iter().find(|(key, _)| is_typed(*key)).map(|(_, signal)| signal)?;
    let leader = tcgetpgrp(terminal).ok()?;
    let status = fs::read_to_string(format!("/proc/{}/status", leader.as_raw_pid())).ok()?;
    is_protected_from(&status, signal).then_some(signal)
}

/// Returns whether a process of that status, see proc(5), is first in its PID namespace and neither handles nor ignores the
/// signal.
fn is_protected_from(status: &str, signal: i32) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let numbers: Vec<&str> = field("NSpid").unwrap_or_default().split_whitespace().collect();
    let is_first = numbers.len() > 1 && numbers.last() == Some(&"1");
    let has = |mask: &str| {
        let bits = field(mask).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        bits.is_none_or(|bits| bits >> (signal - 1) & 1 == 1)
    };
    is_first && !["SigBlk", "SigIgn", "SigCgt"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(numbers: &str, ignored: &str, caught: &str) -> String {
        format!("Name:\tsleep\nNSpid:\t{numbers}\nSigBlk:\t0000000000000000\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n")
    }

    #[test]
    fn only_the_first_process_without_a_handler_gets_no_signal() {
        let none = "0000000000000000";
        assert!(is_protected_from(&status("812\t1", none, none), libc::SIGINT));
        assert!(is_protected_from(&status("812\t40\t1", none, "0000000000000004"), libc::SIGINT));
        assert!(!is_protected_from(&status("812\t1", none, "0000000000000002"), libc::SIGINT));
        assert!(!is_protected_from(&status("812\t1", "0000000000000004", none), libc::SIGQUIT));
        assert!(!is_protected_from(&status("812\t7", none, none), libc::SIGINT));
        assert!(!is_protected_from(&status("1", none, none), libc::SIGINT));
        assert!(!is_protected_from("", libc::SIGINT));
    }
}
