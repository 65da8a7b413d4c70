//! How long each step takes: remembered for the next run, and what is left of this one told by what was remembered.
//!
//! Nothing is read before the build has lasted a second, and nothing written where no step was run: a build that is soon
//! done pays for neither.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::context::Context;
use super::milliseconds::milliseconds;
use crate::event::Event;
use crate::model::StepId;
use crate::plan::{Plan, RemainingWork, StepProgress, remaining_time};
use crate::store::{Timing, Timings};

/// Between two estimates, and before the first.
const EACH: Duration = Duration::from_secs(1);

/// What is known of a step that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits, or runs.
    Open,
    /// It is frozen and being written.
    Written {
        /// What comes next waits for it, to see whether it is what it was.
        is_awaited: bool,
    },
}

/// Times the steps of a run.
#[derive(Debug)]
pub(super) struct TimingHistory<'a> {
    context: Context<'a>,
    jobs: usize,
    /// How long steps took before; not read yet, or with nothing of this plan.
    known: Option<Timings>,
    /// When the next estimate is due; never where nothing is known.
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
        Self { context, jobs, known: None, due: Some(now + EACH), begun, frozen, took: Timings::new() }
    }

    /// A step begins.
    pub(super) fn begins(&mut self, step: StepId) {
        self.begun[step.0] = Some(Instant::now());
    }

    /// What needs the step may begin, though it is not over.
    pub(super) fn frozen(&mut self, step: StepId) {
        self.frozen[step.0] = Some(Instant::now());
    }

    /// A step that has begun ended well.
    pub(super) fn ran(&mut self, step: StepId, end_ms: u64) {
        let since = |begun: Instant| self.frozen[step.0].map(|frozen| milliseconds(frozen.duration_since(begun)));
        let next_ms = self.begun[step.0].and_then(since).map_or(end_ms, |next_ms| next_ms.min(end_ms));
        self.took.insert(self.context.build.step(step).name.clone(), Timing { next_ms, end_ms });
    }

    /// When the next estimate is due; none where there will be none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is left by now, if that is known; `stage` tells of each step that is not over how far it is.
    pub(super) fn estimate(&mut self, plan: &Plan, stage: impl Fn(StepId) -> Option<Stage>) -> Option<Event> {
        let Context { build, store, .. } = self.context;
        let known = self.known.get_or_insert_with(|| store.timings(&build.name, &build.project));
        let timing = |step: StepId| known.get(&build.step(step).name);
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
        // Counted from now: what took long to tell is not told all the time.
        self.due = Some(Instant::now() + EACH);
        Some(Event::BuildEstimated { left_ms, untimed })
    }

    /// Remembers what was timed, and forgets steps that the build no longer has.
    pub(super) fn close(self) {
        let Context { build, store, .. } = self.context;
        if self.took.is_empty() {
            return store.touch_timings(&build.name);
        }
        let mut known = self.known.unwrap_or_else(|| store.timings(&build.name, &build.project));
        known.extend(self.took);
        let names: HashSet<&str> = build.steps.iter().map(|step| step.name.as_str()).collect();
        known.retain(|name, _| names.contains(name.as_str()));
        // Only an estimate is lost; a store that cannot be written to is told by whatever must be written there.
        let _ = store.set_timings(&build.name, &build.project, &known);
    }
}
