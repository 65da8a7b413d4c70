//! Reports of pulls and downloads: events while a build runs, and lines of the command before and after that.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::event::{Event, Events, milliseconds};
use crate::poison::lock;
use crate::registry::Notices;
use crate::warning::Warning;

/// Receives reports from any thread.
#[derive(Debug)]
pub struct Reporter {
    events: Mutex<Option<Events>>,
    without_build: fn(&Event),
    /// The ends of the waits that were reported, by their sources and reasons: the layers of an image may all wait for the same.
    waits: Mutex<HashMap<(String, String), Instant>>,
}

/// Sends reports to the events of a build until it is dropped: as long as a sender exists, the display of the build does not end.
#[derive(Debug)]
pub struct Reporting<'r>(&'r Reporter);

impl Reporter {
    /// Makes one that passes its reports to that function while no build runs.
    pub fn new(without_build: fn(&Event)) -> Self {
        Self { events: Mutex::default(), without_build, waits: Mutex::default() }
    }

    /// Sends the reports to these events.
    pub fn send_to(&self, events: &Events) -> Reporting<'_> {
        *lock(&self.events) = Some(events.clone());
        Reporting(self)
    }

    /// Reports an event.
    pub fn send(&self, event: Event) {
        // The queue may be full for a while, and other threads report too.
        let events = lock(&self.events).clone();
        match events {
            Some(events) => events.send(event),
            None => (self.without_build)(&event),
        }
    }

    /// Returns whether a build runs, whose display shows progress.
    pub(super) fn has_build(&self) -> bool {
        lock(&self.events).is_some()
    }
}

impl Drop for Reporting<'_> {
    fn drop(&mut self) {
        *lock(&self.0.events) = None;
    }
}

impl Notices for Reporter {
    fn waits(&self, source: &str, wait: Duration, reason: &str) {
        let (source, reason) = (source.to_owned(), reason.to_owned());
        let now = Instant::now();
        let before = lock(&self.waits).insert((source.clone(), reason.clone()), now + wait);
        if before.is_some_and(|end| now < end) {
            return;
        }
        self.send(Event::RequestWaits { source, wait_ms: milliseconds(wait), reason });
    }

    fn skips_mirror(&self, mirror: &str, registry: &str, why: &str) {
        let (mirror, registry, why) = (mirror.to_owned(), registry.to_owned(), why.to_owned());
        let warning = Warning::MirrorSkipped { mirror, registry, why };
        self.send(Event::Warning { step: None, message: warning.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn reports_are_events_only_while_a_build_runs_and_no_sender_remains() {
        static WITHOUT: AtomicUsize = AtomicUsize::new(0);
        let reporter = Reporter::new(|_| {
            WITHOUT.fetch_add(1, Ordering::SeqCst);
        });
        let (events, receiver) = Events::channel();
        reporter.waits("debian:12", Duration::from_secs(2), "it answered 429");
        {
            let _reporting = reporter.send_to(&events);
            // Another layer that waits for the same.
            reporter.waits("debian:12", Duration::from_secs(2), "it answered 429");
            reporter.waits("debian:12", Duration::from_secs(3), "it answered 503");
        }
        reporter.skips_mirror("localhost:5000", "docker.io", "the connection failed");
        drop(events);
        let received: Vec<Event> = receiver.into_iter().map(|stamped| stamped.event).collect();
        let reason = "it answered 503".to_owned();
        assert_eq!(received, [Event::RequestWaits { source: "debian:12".into(), wait_ms: 3000, reason }]);
        assert_eq!(WITHOUT.load(Ordering::SeqCst), 2);
    }
}
