//! The arrival of one source of a root, from its first byte to the layer in the store: its events, bounded in their rate.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::Reporter;
use crate::digest::Digest;
use crate::event::{Event, ImportMethod, ImportStage, ImportStatus, milliseconds};
use crate::poison::lock;

/// The time between two reports of the progress, and before the first one.
const INTERVAL: Duration = Duration::from_millis(250);

/// The arrival of a source. It is reported from [`Arrival::begin`] on, and has failed if it is dropped before [`Arrival::done`].
#[derive(Debug)]
pub struct Arrival<'r> {
    reporter: &'r Reporter,
    container: String,
    source: String,
    method: ImportMethod,
    digest: Option<Digest>,
    size: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    /// No progress is reported before.
    next: Option<Instant>,
    /// The bytes that have arrived, by part.
    arrived: Vec<u64>,
    /// The end is reported.
    is_over: bool,
}

impl<'r> Arrival<'r> {
    /// Describes a source that arrives by that method for a container.
    pub fn new(reporter: &'r Reporter, container: &str, source: String, method: ImportMethod) -> Self {
        let (container, state) = (container.to_owned(), Mutex::default());
        Self { reporter, container, source, method, digest: None, size: None, state }
    }

    /// Adds the digest of the source, and the bytes that are to arrive if their number is known.
    #[must_use]
    pub fn of(mut self, digest: Digest, size: Option<u64>) -> Self {
        (self.digest, self.size) = (Some(digest), size);
        self
    }

    /// Reports the beginning, once.
    pub fn begin(&self) {
        {
            let mut state = lock(&self.state);
            if state.began.is_some() {
                return;
            }
            let now = Instant::now();
            (state.began, state.next) = (Some(now), Some(now + INTERVAL));
            if self.method == ImportMethod::Import {
                state.arrived = vec![self.size.unwrap_or_default()];
            }
        }
        self.reporter.send(Event::ImportStarted {
            container: self.container.clone(),
            source: self.source.clone(),
            method: self.method,
            digest: self.digest.map(|digest| digest.to_string()),
            size: self.size,
        });
    }

    /// Notes that so many bytes of a part are there, such as a layer, of `total` where that is known now.
    pub fn arrived(&self, part: usize, bytes: u64, total: Option<u64>) {
        let all = {
            let mut state = lock(&self.state);
            if state.arrived.len() <= part {
                state.arrived.resize(part + 1, 0);
            }
            state.arrived[part] = bytes;
            state.arrived.iter().sum()
        };
        self.progress(ImportStage::Arrives, all, self.size.or(total));
    }

    /// Notes the progress of a later stage. While other parts arrive, that is not reported.
    pub fn stage(&self, stage: ImportStage, bytes: u64, total: Option<u64>) {
        let arrived: u64 = lock(&self.state).arrived.iter().sum();
        if self.size.is_none_or(|size| arrived >= size) {
            self.progress(stage, bytes, total);
        }
    }

    fn progress(&self, stage: ImportStage, bytes: u64, total: Option<u64>) {
        {
            let mut state = lock(&self.state);
            let now = Instant::now();
            if !self.reporter.has_build() || state.next.is_none_or(|next| now < next) {
                return;
            }
            state.next = Some(now + INTERVAL);
        }
        let (container, source) = (self.container.clone(), self.source.clone());
        self.reporter.send(Event::ImportProgress { container, source, stage, bytes, total });
    }

    /// Reports the end of an arrival that has begun: the source is in the store, or its digest is known now.
    pub fn done(&self, digest: &Digest) {
        self.end(ImportStatus::Done, Some(digest));
    }

    fn end(&self, status: ImportStatus, digest: Option<&Digest>) {
        let (began, size) = {
            let mut state = lock(&self.state);
            let Some(began) = state.began.filter(|_| !state.is_over) else { return };
            state.is_over = true;
            (began, state.arrived.iter().sum())
        };
        self.reporter.send(Event::ImportFinished {
            container: self.container.clone(),
            source: self.source.clone(),
            method: self.method,
            status,
            digest: digest.map(ToString::to_string),
            size,
            duration_ms: milliseconds(began.elapsed()),
        });
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.end(ImportStatus::Failed, self.digest.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;
    use crate::event::Events;

    /// Returns the events of an arrival of two layers, with 30 bytes together.
    fn events(work: impl FnOnce(&Arrival<'_>)) -> Vec<Event> {
        let reporter = Reporter::new(|_| ());
        let (events, receiver) = Events::channel();
        let reporting = reporter.send_to(&events);
        let arrival = Arrival::new(&reporter, "base", "debian:12".to_owned(), ImportMethod::Pull);
        work(&arrival.of(Digest::of_bytes(b"x"), Some(30)));
        drop((reporting, events));
        receiver.into_iter().map(|stamped| stamped.event).collect()
    }

    #[test]
    fn progress_is_of_all_parts_together_and_bounded_in_its_rate() {
        let events = events(|arrival| {
            arrival.begin();
            arrival.begin();
            arrival.arrived(1, 5, None);
            sleep(INTERVAL);
            // The first layer is unpacked while the second one arrives.
            arrival.stage(ImportStage::Unpacked, 100, None);
            (1..=10).for_each(|bytes| arrival.arrived(0, bytes, None));
            arrival.arrived(1, 20, None);
            sleep(INTERVAL);
            arrival.stage(ImportStage::Written, 3, Some(4));
            arrival.done(&Digest::of_bytes(b"x"));
        });
        let progress = events.iter().filter_map(|event| match event {
            Event::ImportProgress { stage, bytes, total, .. } => Some((*stage, *bytes, *total)),
            _ => None,
        });
        assert_eq!(
            progress.collect::<Vec<_>>(),
            [(ImportStage::Arrives, 6, Some(30)), (ImportStage::Written, 3, Some(4))]
        );
        assert!(matches!(&events[0], Event::ImportStarted { size: Some(30), .. }), "{events:?}");
        let last = &events[events.len() - 1];
        assert!(matches!(last, Event::ImportFinished { size: 30, status: ImportStatus::Done, .. }), "{last:?}");
        assert_eq!(events.len(), 4);
    }

    #[test]
    fn a_source_of_the_store_is_not_reported_and_one_that_breaks_has_failed() {
        assert_eq!(events(|arrival| arrival.done(&Digest::of_bytes(b"x"))), []);
        let events = events(|arrival| arrival.begin());
        assert!(matches!(&events[1], Event::ImportFinished { status: ImportStatus::Failed, .. }), "{events:?}");
        assert_eq!(events.len(), 2);
    }
}
