//! Times each step for the next run, and estimates the remaining time of this one from stored times.
//!
//! Nothing is read before the build has lasted a second, and nothing is written where no step was run: a short build
//! pays for neither.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::context::Context;
use super::milliseconds::milliseconds;
use crate::event::Event;
use crate::model::StepId;
use crate::plan::{Plan, RemainingWork, StepProgress, remaining_time};
use crate::store::{Timing, Timings};

/// The time between two estimates, and before the first.
const ESTIMATE_INTERVAL: Duration = Duration::from_secs(1);

/// The stage of an unfinished step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits, or runs.
    Open,
    /// It is frozen and being written.
    Written {
        /// Whether the next segment waits for the image, because it may be equal to the old one.
        is_awaited: bool,
    },
}

/// Times the steps of a run.
#[derive(Debug)]
pub(super) struct TimingHistory<'a> {
    context: Context<'a>,
    jobs: usize,
    /// The durations of earlier runs; none before they are read.
    history: Option<Timings>,
    /// The time of the next estimate; none where no step of the plan was timed before.
    due: Option<Instant>,
    /// By step.
    begun: Vec<Option<Instant>>,
    frozen: Vec<Option<Instant>>,
    took: Timings,
}

impl<'a> TimingHistory<'a> {
    pub(super) fn new(context: Context<'a>, jobs: usize, now: Instant) -> Self {
        let none = vec![None; context.build.steps.len()];
        let (begun, frozen) = (none.clone(), none);
        Self { context, jobs, history: None, due: Some(now + ESTIMATE_INTERVAL), begun, frozen, took: Timings::new() }
    }

    /// Notes that a step begins.
    pub(super) fn begins(&mut self, step: StepId) {
        self.begun[step.0] = Some(Instant::now());
    }

    /// Notes that dependents of the step may begin, although it is not finished.
    pub(super) fn frozen(&mut self, step: StepId) {
        self.frozen[step.0] = Some(Instant::now());
    }

    /// Notes that a step has succeeded.
    pub(super) fn ran(&mut self, step: StepId, end_ms: u64) {
        let since = |begun: Instant| self.frozen[step.0].map(|frozen| milliseconds(frozen.duration_since(begun)));
        let next_ms = self.begun[step.0].and_then(since).map_or(end_ms, |next_ms| next_ms.min(end_ms));
        self.took.insert(self.context.build.step(step).name.clone(), Timing { next_ms, end_ms });
    }

    /// Returns the time of the next estimate; none where there will be none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the remaining time, if it can be estimated. `stage` returns the stage of each unfinished step.
    pub(super) fn estimate(&mut self, plan: &Plan, stage: impl Fn(StepId) -> Option<Stage>) -> Option<Event> {
        let Context { build, store, .. } = self.context;
        let history = self.history.get_or_insert_with(|| store.timings(&build.name, &build.project));
        let timing = |step: StepId| history.get(&build.step(step).name);
        if !plan.order().iter().any(|step| timing(*step).is_some()) {
            self.due = None;
            return None;
        }
        let now = Instant::now();
        let rest = |step: StepId| {
            let stage = stage(step)?;
            let begun = self.begun[step.0];
            let since = milliseconds(begun.map(|begun| now.duration_since(begun)).unwrap_or_default());
            let Timing { next_ms, end_ms } = timing(step).copied().unwrap_or(Timing { next_ms: 0, end_ms: 0 });
            let end = end_ms.saturating_sub(since);
            let (progress, next) = match stage {
                Stage::Open if begun.is_none() => (StepProgress::Waits, next_ms.min(end_ms)),
                Stage::Open => (StepProgress::Runs, next_ms.saturating_sub(since).min(end)),
                Stage::Written { is_awaited } => (StepProgress::Written, if is_awaited { end } else { 0 }),
            };
            Some(RemainingWork { progress, next_ms: next, end_ms: end })
        };
        let left_ms = remaining_time(plan, self.jobs, rest);
        let untimed = plan.order().iter().filter(|step| stage(**step).is_some() && timing(**step).is_none()).count();
        // Counted from now, so that slow estimates do not follow each other without a pause.
        self.due = Some(Instant::now() + ESTIMATE_INTERVAL);
        Some(Event::BuildEstimated { left_ms, untimed })
    }

    /// Stores the measured durations, and removes steps that the build no longer has.
    pub(super) fn close(self) {
        let Context { build, store, .. } = self.context;
        if self.took.is_empty() {
            return store.touch_timings(&build.name);
        }
        let mut history = self.history.unwrap_or_else(|| store.timings(&build.name, &build.project));
        history.extend(self.took);
        let names: HashSet<&str> = build.steps.iter().map(|step| step.name.as_str()).collect();
        history.retain(|name, _| names.contains(name.as_str()));
        // Only an estimate is lost; the calls that must write to the store report one that is read-only.
        let _ = store.set_timings(&build.name, &build.project, &history);
    }
}
