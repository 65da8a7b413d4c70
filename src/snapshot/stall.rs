//! Detects a stalled mksquashfs(1): on some damaged images it loops for ever, and reads and writes nothing.

use std::fs;
use std::time::{Duration, Instant};

/// The slowest compressor writes a block within seconds; a disk that wakes up takes less than a minute.
pub(super) const TIMEOUT: Duration = Duration::from_secs(600);

/// Compares the bytes that were read and written, again and again.
#[derive(Debug)]
pub(super) struct Stall {
    timeout: Duration,
    count: u64,
    since: Instant,
}

impl Stall {
    /// Watches a program that begins now.
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, count: 0, since: now }
    }

    /// Returns whether nothing has been read or written for too long; `count` is the number of bytes by `now`.
    pub(super) fn is_stalled(&mut self, count: u64, now: Instant) -> bool {
        if count != self.count {
            (self.count, self.since) = (count, now);
        }
        now.duration_since(self.since) >= self.timeout
    }

    /// Returns the time after which a program is stalled.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Returns how many bytes a process has read and written, see proc_pid_io(5); none where the kernel does not count.
pub(super) fn bytes_moved(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    let counted = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    Some(counted("rchar:")?.wrapping_add(counted("wchar:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_moved_nothing_within_the_timeout_is_stalled() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::new(Duration::from_secs(10), start);
        let seen = [(0, 0), (9, 0), (9, 1), (18, 1), (19, 1), (20, 2), (29, 2), (30, 2)]
            .map(|(second, count)| stall.is_stalled(count, at(second)));
        assert_eq!(seen, [false, false, false, false, true, false, false, true]);
    }

    #[test]
    fn bytes_that_this_process_reads_are_counted() {
        let before = bytes_moved(std::process::id()).unwrap();
        fs::read("/proc/self/stat").unwrap();
        assert!(bytes_moved(std::process::id()).unwrap() > before);
        assert_eq!(bytes_moved(u32::MAX), None);
    }
}
