//! What SIGTERM does to a process, by its status in proc_pid_status(5); both programs contain this file.

/// SIGTERM in a mask of signals.
const SIGTERM: u64 = 1 << (15 - 1);

/// Whether a process has a handler for SIGTERM.
pub fn catches_sigterm(status: &[u8]) -> bool {
    let caught = status.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"SigCgt:")).find_map(mask);
    caught.is_some_and(|mask| mask & SIGTERM != 0)
}

/// Whether SIGTERM would end a process at once, were it not the first of its PID namespace: it neither catches the signal,
/// nor ignores it, nor blocks it to take it in another way. Of such a first process the kernel keeps the signal.
pub fn is_ended_by_sigterm(status: &[u8]) -> bool {
    let mut masks = status.split(|byte| *byte == b'\n').filter_map(mask);
    let mut next = || masks.next().is_some_and(|mask| mask & SIGTERM == 0);
    next() && next() && next()
}

/// The mask in a line that says which signals a process blocks, ignores or catches.
fn mask(line: &[u8]) -> Option<u64> {
    let names = [&b"SigBlk:\t"[..], b"SigIgn:\t", b"SigCgt:\t"];
    let digits = names.iter().find_map(|name| line.strip_prefix(*name))?;
    digits.iter().try_fold(0u64, |mask, digit| {
        let digit = (*digit as char).to_digit(16)?;
        mask.checked_mul(16)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use super::{catches_sigterm, is_ended_by_sigterm};

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
        for kept in [[sigterm, none, none], [none, sigterm, none], [none, none, sigterm]] {
            let status = status(kept[0], kept[1], kept[2]);
            assert!(!is_ended_by_sigterm(status.as_bytes()), "{kept:?}");
            assert_eq!(catches_sigterm(status.as_bytes()), kept[2] == sigterm, "{kept:?}");
        }
        // Of one that cannot be read to its end nothing is known.
        assert!(!is_ended_by_sigterm(b"SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"));
    }

    #[test]
    fn this_process_is_ended_by_sigterm_as_the_kernel_says() {
        let status = std::fs::read("/proc/self/status").unwrap();
        let caught = String::from_utf8_lossy(&status);
        assert!(caught.contains("SigCgt:\t"), "{caught}");
        assert!(is_ended_by_sigterm(&status));
    }
}
