//! Reports of host files that take long to read: events of a build once it has events, else warnings on standard error.

use std::sync::{Arc, OnceLock};

use super::console::warn;
use crate::content::LongRead;
use crate::event::Events;
use crate::warning::Warning;

/// The receiver of such reports.
#[derive(Default)]
pub struct LongReads(Arc<OnceLock<Events>>);

impl LongReads {
    /// Returns the function that reports a file.
    pub fn reporter(&self) -> LongRead {
        let events = Arc::clone(&self.0);
        LongRead::reported_by(move |path, bytes| {
            let warning = Warning::LongRead { path: path.to_owned(), bytes };
            match events.get() {
                Some(events) => events.warn(None, &warning),
                None => warn(&warning),
            }
        })
    }

    /// Makes the following reports events. The events end no sooner than the last owner of a reporter.
    pub fn send_to(self, events: &Events) {
        let _ = self.0.set(events.clone());
    }
}
