//! Whether mksquashfs(1) still gets on: on some damaged images it turns round for ever, and reads and writes nothing.

use std::fs;
use std::time::{Duration, Instant};

/// The slowest compressor writes a block within seconds; a disk that wakes up takes less than a minute.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// Looks at how much was read and written, again and again.
#[derive(Debug)]
pub(super) struct Stall {
    patience: Duration,
    count: u64,
    since: Instant,
}

impl Stall {
    /// Returns a program that begins now.
    pub(super) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, count: 0, since: now }
    }

    /// Returns whether nothing has been read or written for too long; `count` is how much has been by `now`.
    pub(super) fn is_stalled(&mut self, count: u64, now: Instant) -> bool {
        if count != self.count {
            (self.count, self.since) = (count, now);
        }
        now.duration_since(self.since) >= self.patience
    }

    /// Returns how long that may last.
    pub(super) fn patience(&self) -> Duration {
        self.patience
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
    fn a_program_is_stalled_when_it_has_moved_nothing_for_as_long_as_one_waits() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut stall = Stall::new(Duration::from_secs(10), start);
        let seen = [(0, 0), (9, 0), (9, 1), (18, 1), (19, 1), (20, 2), (29, 2), (30, 2)]
            .map(|(second, count)| stall.is_stalled(count, at(second)));
        assert_eq!(seen, [false, false, false, false, true, false, false, true]);
    }

    #[test]
    fn what_this_process_reads_is_counted() {
        let before = bytes_moved(std::process::id()).unwrap();
        fs::read("/proc/self/stat").unwrap();
        assert!(bytes_moved(std::process::id()).unwrap() > before);
        assert_eq!(bytes_moved(u32::MAX), None);
    }
}
