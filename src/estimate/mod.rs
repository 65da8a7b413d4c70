//! The estimate of a build's remaining time: a stage between the queue of events and the reporters, which adds
//! [`Event::BuildEstimated`] and stores how long steps took for the next build.
//!
//! No file is read before the build has lasted a second, and none is written where no step ran: a build that soon ends costs
//! neither.

mod progress;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Instant, SystemTime};

use self::progress::Progress;
use crate::event::{Event, EventSource, Stamped};
use crate::model::Build;
use crate::plan::Plan;
use crate::store::{Store, Timings};

/// The events of a build with estimates among them.
#[derive(Debug)]
pub struct EstimatedEvents {
    events: Receiver<Stamped>,
    progress: Progress,
    timings: StoredTimings,
    /// An event that came when an estimate was due, which goes before it.
    next: Option<Stamped>,
}

impl EstimatedEvents {
    /// Returns the events of a run of this plan, with so many steps at once.
    pub fn new(events: Receiver<Stamped>, build: &Build, plan: &Plan, jobs: usize, store: Store) -> Self {
        let (name, project) = (build.name.clone(), build.project.clone());
        let timings = StoredTimings { store, build: name, project, before: None };
        Self { events, progress: Progress::new(build, plan, jobs), timings, next: None }
    }

    /// Has a reporter take the events. Takes those itself that a reporter leaves which panics, for the timings are to be stored
    /// all the same.
    pub fn report<T>(mut self, reporter: impl FnOnce(&mut Self) -> T) -> T {
        let shown = catch_unwind(AssertUnwindSafe(|| reporter(&mut self)));
        while self.next_until(None).is_ok() {}
        shown.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Returns the event that a reporter gets next, of an event from the queue.
    fn pass(&mut self, stamped: Stamped) -> Option<Stamped> {
        if let Some(estimate) = self.estimate(stamped.at, stamped.time) {
            self.next = Some(stamped);
            return Some(estimate);
        }
        self.progress.add(stamped.at, &stamped.event);
        match &stamped.event {
            Event::StageReached { .. } => return None,
            Event::BuildFinished { .. } => self.timings.store(&self.progress),
            _ => {}
        }
        Some(stamped)
    }

    /// Returns the estimate that is due at this time, if one is.
    fn estimate(&mut self, at: Instant, time: SystemTime) -> Option<Stamped> {
        if self.progress.due()? > at {
            return None;
        }
        let estimate = self.progress.estimate(at, self.timings.before())?;
        // An estimate that takes long to make is not made all the time.
        self.progress.rest(Instant::now());
        Some(Stamped::new(time, estimate))
    }
}

impl EventSource for EstimatedEvents {
    fn try_next(&mut self) -> Result<Stamped, TryRecvError> {
        loop {
            let stamped = match self.next.take().map_or_else(|| self.events.try_recv(), Ok) {
                Err(TryRecvError::Empty) => {
                    return self.estimate(Instant::now(), SystemTime::now()).ok_or(TryRecvError::Empty);
                }
                received => received?,
            };
            if let Some(stamped) = self.pass(stamped) {
                return Ok(stamped);
            }
        }
    }

    fn next_until(&mut self, until: Option<Instant>) -> Result<Stamped, RecvTimeoutError> {
        loop {
            let due = until.into_iter().chain(self.progress.due()).min();
            let stamped = match self.next.take().map_or_else(|| self.events.next_until(due), Ok) {
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    match self.estimate(now, SystemTime::now()) {
                        Some(estimate) => return Ok(estimate),
                        None if until.is_some_and(|until| until <= now) => return Err(RecvTimeoutError::Timeout),
                        None => continue,
                    }
                }
                received => received?,
            };
            if let Some(stamped) = self.pass(stamped) {
                return Ok(stamped);
            }
        }
    }
}

/// The timings of a build in the store.
#[derive(Debug)]
struct StoredTimings {
    store: Store,
    build: String,
    project: PathBuf,
    /// Those of earlier builds, once they are read.
    before: Option<Timings>,
}

impl StoredTimings {
    fn before(&mut self) -> &Timings {
        let Self { store, build, project, before } = self;
        before.get_or_insert_with(|| store.timings(build, project))
    }

    /// Stores how long steps took, and forgets steps that the build no longer has.
    fn store(&mut self, progress: &Progress) {
        if progress.took().is_empty() {
            return self.store.touch_timings(&self.build);
        }
        let mut timings = self.before().clone();
        timings.extend(progress.took().iter().map(|(step, timing)| (step.clone(), *timing)));
        timings.retain(|step, _| progress.has(step));
        // Only an estimate is lost; the steps that write to the store report that it cannot be written to.
        let _ = self.store.set_timings(&self.build, &self.project, &timings);
    }
}

#[cfg(test)]
mod tests;
