//! The wish to end a build early: seen by threads that wait for descriptors as by those that look now and then.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, never unset.
#[derive(Debug)]
pub struct Interrupt {
    is_set: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Interrupt {
    /// Not set.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { is_set: AtomicBool::new(false), reader, writer })
    }

    /// Sets it.
    pub fn set(&self) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            // One byte that nobody reads keeps the pipe readable; it has room for it.
            let _ = (&self.writer).write_all(&[1]);
        }
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Readable from the moment when it is set.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
