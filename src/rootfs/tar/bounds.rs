//! The bounds of unpacking: an archive of a few bytes may hold any number of files, of any size.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// The room that an unpacked archive may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackRoom {
    /// The bytes of its files, holes not counted.
    pub bytes: u64,
    /// The number of its entries.
    pub files: u64,
}

impl UnpackRoom {
    /// The room of a disk, which has its own bounds.
    pub const ALL: Self = Self { bytes: u64::MAX, files: u64::MAX };
}

/// The bounds of unpacking one archive.
pub struct Bounds<'s> {
    stop: &'s AtomicBool,
    room: UnpackRoom,
    bytes: Cell<u64>,
    files: Cell<u64>,
    report: Option<&'s dyn Fn(u64)>,
}

impl<'s> Bounds<'s> {
    /// Makes bounds of which nothing is used. Unpacking stops as soon as `stop` is set.
    pub fn new(stop: &'s AtomicBool, room: UnpackRoom) -> Self {
        Self { stop, room, bytes: Cell::new(room.bytes), files: Cell::new(room.files), report: None }
    }

    /// Has that function get the bytes of files so far, at each part that is written.
    #[must_use]
    pub fn reporting(self, report: &'s dyn Fn(u64)) -> Self {
        Self { report: Some(report), ..self }
    }

    /// Counts one entry.
    pub(super) fn entry(&self) -> Result<(), Failure> {
        self.take(&self.files, 1)
    }

    /// Counts bytes of a file.
    pub(super) fn bytes(&self, count: usize) -> Result<(), Failure> {
        self.take(&self.bytes, count as u64)?;
        if let Some(report) = self.report {
            report(self.room.bytes - self.bytes.get());
        }
        Ok(())
    }

    fn take(&self, of: &Cell<u64>, count: u64) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Failure::Stopped);
        }
        let remaining = of.get().checked_sub(count).ok_or(Failure::TooLarge(self.room))?;
        of.set(remaining);
        Ok(())
    }
}
