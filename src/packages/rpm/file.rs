//! The bytes of a database, of which no more than a bound is read.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::packages::Problem;

/// The bytes that are read of a database in all: a header that is referred to twice is read twice.
const MAX_READ: u64 = 1 << 30;

/// The bytes of a header. The headers of packages with very many files have some megabytes.
pub(super) const MAX_HEADER: usize = 64 << 20;

/// A database.
#[derive(Debug)]
pub(super) struct DatabaseFile<'f> {
    file: &'f File,
    length: u64,
    remaining: u64,
}

impl<'f> DatabaseFile<'f> {
    pub(super) fn new(file: &'f File) -> Result<Self, Problem> {
        let length = file.metadata().map_err(|_| Problem::Unreadable)?.len();
        Ok(Self { file, length, remaining: MAX_READ })
    }

    /// Returns its length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads bytes from an offset on.
    pub(super) fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, Problem> {
        let end = offset.checked_add(length as u64).ok_or(Problem::OutOfBounds)?;
        if end > self.length {
            return Err(Problem::OutOfBounds);
        }
        self.remaining = self.remaining.checked_sub(length as u64).ok_or(Problem::TooMuch)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(|_| Problem::Unreadable)?;
        Ok(bytes)
    }
}

/// Returns the bytes at an offset.
pub(super) fn array<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Problem> {
    bytes.get(offset..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Problem::OutOfBounds)
}

/// Returns the big-endian number at an offset.
pub(super) fn u32_be(bytes: &[u8], offset: usize) -> Result<u32, Problem> {
    array(bytes, offset).map(u32::from_be_bytes)
}

/// Returns the big-endian number at an offset.
pub(super) fn u16_be(bytes: &[u8], offset: usize) -> Result<u16, Problem> {
    array(bytes, offset).map(u16::from_be_bytes)
}

/// Returns the little-endian number at an offset.
pub(super) fn u32_le(bytes: &[u8], offset: usize) -> Result<u32, Problem> {
    array(bytes, offset).map(u32::from_le_bytes)
}
