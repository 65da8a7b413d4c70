//! Watches the writing of an export: reports its progress, and ends it where the build is interrupted.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::snapshot::ImageProgress;

/// How often the progress is reported, and an interrupt noticed.
const INTERVAL: Duration = Duration::from_millis(100);

/// The watch over one export.
pub struct Watch<'a> {
    interrupt: BorrowedFd<'a>,
    progress: &'a mut dyn FnMut(ImageProgress),
    bytes: u64,
    next: Instant,
}

impl<'a> Watch<'a> {
    /// Begins with nothing read.
    pub fn new(interrupt: BorrowedFd<'a>, progress: &'a mut dyn FnMut(ImageProgress)) -> Self {
        Self { interrupt, progress, bytes: 0, next: Instant::now() + INTERVAL }
    }

    /// Counts bytes that were read.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn read(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes += bytes;
        self.check()
    }

    /// Reports the progress now and then.
    ///
    /// # Errors
    /// Where the build was interrupted.
    pub fn check(&mut self) -> io::Result<()> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + INTERVAL;
        if self.is_interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        (self.progress)(ImageProgress { bytes: self.bytes, percent: None });
        Ok(())
    }

    /// Whether the build was interrupted.
    pub fn is_interrupted(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.interrupt, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
