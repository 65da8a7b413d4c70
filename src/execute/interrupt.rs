//! The wish to end a build early: seen by threads that wait for descriptors as by those that look now and then.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, never unset.
#[derive(Debug)]
pub struct Interrupt {
    is_set: Arc<AtomicBool>,
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
        Ok(Self { is_set: Arc::default(), reader, writer })
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

    /// For those who know nothing else of a build: true from the moment when it is set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_set)
    }

    /// Readable from the moment when it is set.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}
