//! Forecasts a build: the steps that it would run, and those whose results are in the store.

use std::collections::HashMap;

use super::restored::restored;
use super::{Below, CacheCheckError, CacheChecker, CacheStatus};
use crate::cache::key::{Parents, Reason};
use crate::model::{Action, StepId};
use crate::plan::{Plan, WrittenInput, written_inputs};

/// The expected status of each segment.
#[derive(Debug, Clone)]
pub struct Forecast {
    statuses: Vec<CacheStatus>,
    /// By segment: the reasons for which a fresh one may become stale, or a stale one fresh.
    open: Vec<Vec<Reason>>,
}

impl Forecast {
    /// Returns the reasons for which a segment would run, or may run; empty where it certainly remains fresh.
    pub fn reasons(&self, segment: usize) -> &[Reason] {
        match &self.statuses[segment] {
            CacheStatus::Stale { reasons, .. } if self.open[segment].is_empty() => reasons,
            _ => &self.open[segment],
        }
    }

    /// Returns the number of its first steps whose changes would come from a checkpoint.
    pub fn resumed(&self, segment: usize) -> usize {
        match &self.statuses[segment] {
            CacheStatus::Stale { resume: Some(resume), .. } => resume.steps,
            _ => 0,
        }
    }

    /// Returns the status of a segment, by the present host and store.
    pub fn status(&self, segment: usize) -> &CacheStatus {
        &self.statuses[segment]
    }
}

/// Checks all segments of a plan against the present host and store.
///
/// # Errors
/// As [`CacheChecker::checker`].
pub fn forecast(checker: &CacheChecker<'_>, plan: &Plan) -> Result<Forecast, CacheCheckError> {
    let mut parents: HashMap<StepId, Parents> = HashMap::new();
    let mut statuses: Vec<Option<CacheStatus>> = vec![None; checker.segments.all().len()];
    let mut open: Vec<Vec<Reason>> = vec![Vec::new(); statuses.len()];
    let mut inputs: Option<Vec<Vec<WrittenInput>>> = None;
    for step in plan.order() {
        let Some(index) = checker.segments.of_step(*step).filter(|index| statuses[*index].is_none()) else { continue };
        // The first step of a segment comes after all steps that the segment is built on.
        let below = checker.below(index, |step| parents.get(&step).cloned())?;
        let status = checker.check(index, &below, false)?;
        let result = match &status {
            CacheStatus::Fresh(recorded) => Some((**recorded).clone()),
            CacheStatus::Stale { reasons, .. } => {
                let written = inputs.get_or_insert_with(|| written_inputs(checker.build, plan, checker.segments));
                // The output of a snapshot or an export from the store is put back in its place.
                let writes = |step: StepId| {
                    let runs = |at: usize| matches!(statuses[at], Some(CacheStatus::Stale { .. }));
                    matches!(checker.build.step(step).action, Action::Snapshot(_) | Action::Export(_))
                        || checker.segments.of_step(step).is_some_and(runs)
                };
                let may_run = |step: StepId| {
                    let at = checker.segments.of_step(step)?;
                    let CacheStatus::Stale { reasons, .. } = statuses[at].as_ref()? else { return None };
                    let reasons = if open[at].is_empty() { reasons } else { &open[at] };
                    reasons.iter().all(Reason::is_open).then(|| checker.build.step(step).name.clone())
                };
                if let Below::Unwritten(on) = below
                    && let Some(on) = may_run(on)
                {
                    // The layer below may be in the store after all.
                    open[index] = reasons.iter().map(|reason| reason.if_below_may_change(&on)).collect();
                }
                let restored = restored(checker, index, reasons, &written[index], writes)?;
                restored.map(|(result, reasons)| {
                    open[index] = reasons;
                    result
                })
            }
        };
        if let (Some(recorded), Below::Known(below)) = (&result, &below)
            && let (Some(snapshot), Some(layer)) = (checker.segments.get(index).snapshot, &recorded.layer)
        {
            let above = checker.above(snapshot, below, &layer.digest);
            checker.note_snapshot(snapshot, above.clone());
            parents.insert(snapshot, above);
        }
        statuses[index] = Some(status);
    }
    // Each segment has a step in the plan's order.
    let statuses: Vec<CacheStatus> = statuses.into_iter().flatten().collect();
    // If all segments are fresh, no step runs that could change one.
    if let Some(inputs) = inputs {
        add_open(checker, plan, &statuses, &inputs, &mut open);
    }
    Ok(Forecast { statuses, open })
}

/// Adds for each fresh segment the reasons for which it may run after all: a step that runs before it may write its
/// inputs, and then the build checks the segment after that step.
fn add_open(
    checker: &CacheChecker<'_>,
    plan: &Plan,
    statuses: &[CacheStatus],
    inputs: &[Vec<WrittenInput>],
    open: &mut [Vec<Reason>],
) {
    let CacheChecker { build, segments, .. } = checker;
    let is_stale = |index: usize| matches!(statuses[index], CacheStatus::Stale { .. });
    // Repeated until no reason is added: a segment that may run may write the inputs of another one. In the plan's
    // order one pass is mostly enough.
    loop {
        let mut is_changed = false;
        for index in plan.order().iter().filter_map(|step| segments.of_step(*step)) {
            if is_stale(index) || !open[index].is_empty() {
                continue;
            }
            let runs = |step: &StepId| segments.of_step(*step).is_some_and(|at| is_stale(at) || !open[at].is_empty());
            let name = |step: StepId| build.step(step).name.clone();
            let mut reasons = Vec::new();
            for input in &inputs[index] {
                let steps: Vec<String> = input.steps.iter().copied().filter(runs).map(name).collect();
                if !steps.is_empty() {
                    reasons.push(Reason::InputMayChange { steps, target: input.name.clone() });
                }
            }
            let below = segments.built_on(build, index).filter(runs);
            reasons.extend(below.map(|step| Reason::BelowMayChange { step: name(step) }));
            is_changed |= !reasons.is_empty();
            open[index] = reasons;
        }
        if !is_changed {
            return;
        }
    }
}
