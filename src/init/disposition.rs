//! Finds the effect of SIGTERM on a process from its proc_pid_status(5); runner and init both contain this file.

/// The bit of SIGTERM in a mask of signals.
const SIGTERM: u64 = 1 << (15 - 1);

/// Returns whether a process has a handler for SIGTERM.
pub fn catches_sigterm(status: &[u8]) -> bool {
    has_sigterm(status, b"SigCgt:\t") == Some(true)
}

/// Returns whether SIGTERM would end a process at once, if it were not the first of its PID namespace: it neither catches the
/// signal, nor ignores it, nor blocks it to receive it in another way. To such a first process the kernel does not deliver it.
///
/// A process that sleeps in sigtimedwait(2) looks the same, because meanwhile it does not block the signals that it waits for:
/// see [`drops_sigterm`].
pub fn is_ended_by_sigterm(status: &[u8]) -> bool {
    [&b"SigBlk:\t"[..], b"SigIgn:\t", b"SigCgt:\t"].iter().all(|name| has_sigterm(status, name) == Some(false))
}

/// Returns whether the kernel has dropped a SIGTERM that was just sent to a first process that [`is_ended_by_sigterm`]. A process
/// that waits for the signal has it pending, or blocks it again.
pub fn drops_sigterm(status: &[u8]) -> bool {
    is_ended_by_sigterm(status) && has_sigterm(status, b"ShdPnd:\t") == Some(false)
}

/// Returns whether SIGTERM is in the mask of the line that begins with `name`.
fn has_sigterm(status: &[u8], name: &[u8]) -> Option<bool> {
    let digits = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
    let mask = digits.iter().try_fold(0u64, |mask, digit| {
        let digit = (*digit as char).to_digit(16)?;
        mask.checked_mul(16)?.checked_add(digit.into())
    })?;
    Some(mask & SIGTERM != 0)
}

#[cfg(test)]
mod tests {
    use super::{catches_sigterm, drops_sigterm, is_ended_by_sigterm};

    #[test]
    fn a_process_that_catches_ignores_or_blocks_sigterm_is_not_ended_by_it() {
        let status = |blocked: &str, ignored: &str, caught: &str| {
            format!(
                "Name:\tSigCgt:\\t4000\nGroups:\t0 1\nSigPnd:\tffffffffffffffff\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\nCapInh:\t0\n"
            )
        };
        let (none, sigterm, others) = ("0000000000000000", "0000000000004000", "ffffffffffffbfff");
        assert!(is_ended_by_sigterm(status(none, none, none).as_bytes()));
        assert!(is_ended_by_sigterm(status(others, others, others).as_bytes()));
        for masks in [[sigterm, none, none], [none, sigterm, none], [none, none, sigterm]] {
            let status = status(masks[0], masks[1], masks[2]);
            assert!(!is_ended_by_sigterm(status.as_bytes()), "{masks:?}");
            assert_eq!(catches_sigterm(status.as_bytes()), masks[2] == sigterm, "{masks:?}");
        }
        // A status that is cut off does not count as ended by the signal.
        assert!(!is_ended_by_sigterm(b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
    }

    #[test]
    fn a_process_with_sigterm_pending_or_blocked_again_waits_for_it() {
        let status = |pending: &str, blocked: &str| {
            format!("SigPnd:\t0\nShdPnd:\t{pending}\nSigBlk:\t{blocked}\nSigIgn:\t0\nSigCgt:\t0\n")
        };
        let dropped = [("0", "0"), ("bfff", "bfff")];
        assert!(dropped.iter().all(|(pending, blocked)| drops_sigterm(status(pending, blocked).as_bytes())));
        let waiting = [("4000", "0"), ("0", "4000"), ("4000", "4000")];
        assert!(waiting.iter().all(|(pending, blocked)| !drops_sigterm(status(pending, blocked).as_bytes())));
        assert!(!drops_sigterm(b"SigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n"), "the pending signals are unknown");
    }

    #[test]
    fn this_process_is_ended_by_sigterm_by_its_real_status() {
        let status = std::fs::read("/proc/self/status").unwrap();
        let caught = String::from_utf8_lossy(&status);
        assert!(caught.contains("SigCgt:\t"), "{caught}");
        assert!(is_ended_by_sigterm(&status));
    }
}
