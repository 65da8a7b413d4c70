//! The place where a reporter takes events from: the queue, or a stage behind it that adds events.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use super::Stamped;

/// The receiving end of the events of a build.
pub trait EventSource {
    /// Returns the next event, where there is one already.
    ///
    /// # Errors
    /// Where there is none yet, or all senders are gone.
    fn try_next(&mut self) -> Result<Stamped, TryRecvError>;

    /// Returns the next event, and waits for it, until this time at most.
    ///
    /// # Errors
    /// Where none came, or all senders are gone.
    fn next_until(&mut self, until: Option<Instant>) -> Result<Stamped, RecvTimeoutError>;
}

impl EventSource for Receiver<Stamped> {
    fn try_next(&mut self) -> Result<Stamped, TryRecvError> {
        self.try_recv()
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Stamped, RecvTimeoutError> {
        match until {
            Some(until) => self.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => self.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }
}

impl<S: EventSource + ?Sized> EventSource for &mut S {
    fn try_next(&mut self) -> Result<Stamped, TryRecvError> {
        (**self).try_next()
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Stamped, RecvTimeoutError> {
        (**self).next_until(until)
    }
}
