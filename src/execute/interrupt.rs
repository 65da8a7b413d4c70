//! The request to end a build early, for threads that wait for descriptors and for those that check a flag. A second
//! request ends the grace of steps that were asked to end.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A request to end the build. Set once, never unset.
#[derive(Debug)]
pub struct Interrupt {
    is_set: Arc<AtomicBool>,
    raised: PollSignal,
    grace_ended: PollSignal,
    /// Steps that are in their grace.
    in_grace: AtomicUsize,
}

/// A signal to threads that poll: a pipe that becomes readable once.
#[derive(Debug)]
struct PollSignal {
    reader: PipeReader,
    writer: PipeWriter,
}

impl PollSignal {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader, writer })
    }

    fn raise(&self) {
        // One byte that nobody reads keeps the pipe readable; it has room for it.
        let _ = (&self.writer).write_all(&[1]);
    }
}

/// Counts a step as in its grace until this is dropped.
#[derive(Debug)]
pub struct Grace<'a>(&'a Interrupt);

impl Drop for Grace<'_> {
    fn drop(&mut self) {
        self.0.in_grace.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Interrupt {
    /// Makes one that is not set.
    ///
    /// # Errors
    /// Those of pipe(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            is_set: Arc::default(),
            raised: PollSignal::new()?,
            grace_ended: PollSignal::new()?,
            in_grace: AtomicUsize::new(0),
        })
    }

    /// Sets it.
    pub fn set(&self) {
        if !self.is_set.swap(true, Ordering::SeqCst) {
            self.raised.raise();
        }
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Returns a flag for code that knows nothing else of a build: true as soon as it is set.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_set)
    }

    /// Returns a descriptor that is readable as soon as it is set.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.raised.reader.as_fd()
    }

    /// Notes that a step has been asked to end, and that runner waits for it.
    pub fn grace(&self) -> Grace<'_> {
        self.in_grace.fetch_add(1, Ordering::SeqCst);
        Grace(self)
    }

    /// Ends the grace of all steps; false where none is in its grace.
    pub fn end_grace(&self) -> bool {
        let any = self.in_grace.load(Ordering::SeqCst) > 0;
        if any {
            self.grace_ended.raise();
        }
        any
    }

    /// Returns a descriptor that is readable as soon as no step has any grace.
    pub fn end_of_grace(&self) -> BorrowedFd<'_> {
        self.grace_ended.reader.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_second_request_ends_the_grace_only_of_steps_in_their_grace() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.set();
        assert!(interrupt.is_set() && is_readable(interrupt.descriptor()));
        assert!(!interrupt.end_grace() && !is_readable(interrupt.end_of_grace()));
        let grace = interrupt.grace();
        assert!(!is_readable(interrupt.end_of_grace()));
        assert!(interrupt.end_grace() && is_readable(interrupt.end_of_grace()));
        drop(grace);
        assert!(!interrupt.end_grace());
    }
}
