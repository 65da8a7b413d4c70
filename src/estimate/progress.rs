//! How far each step of a build is, from its events; from that, the remaining time and how long steps took. Pure; no I/O.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::event::{Event, StepStage, StepStatus, milliseconds};
use crate::model::{Build, StepId};
use crate::plan::{Plan, RemainingWork, StepProgress, remaining_time};
use crate::store::{Timing, Timings};

/// The time between two estimates, and before the first.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far a step is.
#[derive(Debug, Clone, Copy, Default)]
struct StepState {
    begun: Option<Instant>,
    /// The next steps may begin since then, while its image is written.
    frozen: Option<Instant>,
    /// The next steps wait for its image.
    is_awaited: bool,
    /// It has ended, or will not run because its results are in the store.
    is_done: bool,
}

/// How far a build is.
#[derive(Debug)]
pub(super) struct Progress {
    plan: Plan,
    jobs: usize,
    /// All steps of the build, by name.
    ids: HashMap<String, StepId>,
    /// By step.
    steps: Vec<StepState>,
    /// When the next estimate is due; never before the build begins, after its end, or where nothing was timed.
    due: Option<Instant>,
    took: Timings,
}

impl Progress {
    /// Returns that of a build that has not begun.
    pub(super) fn new(build: &Build, plan: &Plan, jobs: usize) -> Self {
        let ids = build.steps.iter().enumerate().map(|(id, step)| (step.name.clone(), StepId(id))).collect();
        let steps = vec![StepState::default(); build.steps.len()];
        Self { plan: plan.clone(), jobs, ids, steps, due: None, took: Timings::new() }
    }

    /// Adds an event.
    pub(super) fn add(&mut self, at: Instant, event: &Event) {
        match event {
            Event::BuildStarted { .. } => self.due = Some(at + INTERVAL),
            Event::StepStarted { step, .. } => {
                if let Some(step) = self.step(step) {
                    step.begun.get_or_insert(at);
                }
            }
            Event::StageReached { steps, stage } => {
                for step in steps {
                    let step = &mut self.steps[step.0];
                    match stage {
                        StepStage::Cached => step.is_done = true,
                        StepStage::Frozen => step.frozen = Some(at),
                        StepStage::Awaited => step.is_awaited = true,
                    }
                }
            }
            Event::StepFinished { step: name, status, duration_ms, .. } => {
                let Some(step) = self.step(name) else { return };
                step.is_done = true;
                let next_ms = step
                    .begun
                    .zip(step.frozen)
                    .map(|(begun, frozen)| milliseconds(frozen.saturating_duration_since(begun)));
                let end_ms = *duration_ms;
                if *status == StepStatus::Ran {
                    let next_ms = next_ms.map_or(end_ms, |next_ms| next_ms.min(end_ms));
                    self.took.insert(name.clone(), Timing { next_ms, end_ms });
                }
            }
            Event::BuildFinished { .. } => self.due = None,
            _ => {}
        }
    }

    /// Returns when the next estimate is due, if there will be one.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the remaining time, if any planned step was timed `before`.
    pub(super) fn estimate(&mut self, now: Instant, before: &Timings) -> Option<Event> {
        let mut timings: Vec<Option<Timing>> = vec![None; self.steps.len()];
        for (step, timing) in before {
            if let Some(id) = self.ids.get(step).filter(|id| self.plan.contains(**id)) {
                timings[id.0] = Some(*timing);
            }
        }
        if timings.iter().all(Option::is_none) {
            self.due = None;
            return None;
        }
        self.due = Some(now + INTERVAL);
        let left_ms = remaining_time(&self.plan, self.jobs, |id| self.steps[id.0].rest(now, timings[id.0]));
        let is_untimed = |id: &&StepId| !self.steps[id.0].is_done && timings[id.0].is_none();
        Some(Event::BuildEstimated { left_ms, untimed: self.plan.order().iter().filter(is_untimed).count() })
    }

    /// Has the next estimate wait for an interval from now on.
    pub(super) fn rest(&mut self, now: Instant) {
        self.due = self.due.map(|due| due.max(now + INTERVAL));
    }

    /// Returns how long the steps took that ran and ended well.
    pub(super) fn took(&self) -> &Timings {
        &self.took
    }

    /// Whether the build has a step of that name.
    pub(super) fn has(&self, step: &str) -> bool {
        self.ids.contains_key(step)
    }

    fn step(&mut self, name: &str) -> Option<&mut StepState> {
        self.ids.get(name).map(|id| &mut self.steps[id.0])
    }
}

impl StepState {
    /// Returns the remaining time of the step, if it takes as long as before; an untimed step takes none.
    fn rest(&self, now: Instant, before: Option<Timing>) -> Option<RemainingWork> {
        if self.is_done {
            return None;
        }
        let Timing { next_ms, end_ms } = before.unwrap_or(Timing { next_ms: 0, end_ms: 0 });
        let since = self.begun.map_or(0, |begun| milliseconds(now.saturating_duration_since(begun)));
        let end = end_ms.saturating_sub(since);
        let (progress, next_ms) = match (self.begun, self.frozen) {
            (None, _) => (StepProgress::Waits, next_ms.min(end_ms)),
            (_, None) => (StepProgress::Runs, next_ms.saturating_sub(since).min(end)),
            (_, Some(_)) => (StepProgress::Written, if self.is_awaited { end } else { 0 }),
        };
        Some(RemainingWork { progress, next_ms, end_ms: end })
    }
}
