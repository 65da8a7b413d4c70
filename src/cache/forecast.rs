//! The forecast of a build: the steps that it would run, and those that it would take from the store.

use std::collections::HashMap;

use super::{Below, CacheCheckError, CacheChecker, CacheStatus};
use crate::cache::key::{Parents, Reason};
use crate::model::StepId;
use crate::plan::{Plan, written_inputs};

/// A status for each segment.
#[derive(Debug, Clone)]
pub struct Forecast {
    statuses: Vec<CacheStatus>,
    /// By segment: why it is not known that a fresh one stays fresh.
    open: Vec<Vec<Reason>>,
}

impl Forecast {
    /// Why the segment of that index would run, or may run; nothing where it is fresh and stays so.
    pub fn reasons(&self, segment: usize) -> &[Reason] {
        match &self.statuses[segment] {
            CacheStatus::Fresh(_) => &self.open[segment],
            CacheStatus::Stale { reasons, .. } => reasons,
        }
    }

    /// How many of its first steps would be taken from a checkpoint.
    pub fn resumed(&self, segment: usize) -> usize {
        match &self.statuses[segment] {
            CacheStatus::Stale { resume: Some(resume), .. } => resume.steps,
            _ => 0,
        }
    }

    /// The status on the segment of that index, by what is there now.
    pub fn status(&self, segment: usize) -> &CacheStatus {
        &self.statuses[segment]
    }
}

/// Checks all segments of a plan by what is there now.
///
/// # Errors
/// As [`CacheChecker::checker`].
pub fn forecast(checker: &CacheChecker<'_>, plan: &Plan) -> Result<Forecast, CacheCheckError> {
    let mut known: HashMap<StepId, Parents> = HashMap::new();
    let mut statuses: Vec<Option<CacheStatus>> = vec![None; checker.segments.all().len()];
    for step in plan.order() {
        let Some(index) = checker.segments.of_step(*step).filter(|index| statuses[*index].is_none()) else { continue };
        // The first step of a segment comes after all that the segment stands on.
        let below = checker.below(index, |step| known.get(&step).cloned())?;
        let status = checker.check(index, &below, false)?;
        if let (CacheStatus::Fresh(recorded), Below::Known(below)) = (&status, &below)
            && let (Some(snapshot), Some(layer)) = (checker.segments.get(index).snapshot, &recorded.layer)
        {
            known.insert(snapshot, checker.above(snapshot, below, &layer.digest));
        }
        statuses[index] = Some(status);
    }
    // Each segment has a step in the plan's order.
    let statuses: Vec<CacheStatus> = statuses.into_iter().flatten().collect();
    let open = open(checker, plan, &statuses);
    Ok(Forecast { statuses, open })
}

/// By segment: why one that is fresh may run after all. A step that runs before it may write what it reads, and then the build
/// checks it after that step.
fn open(checker: &CacheChecker<'_>, plan: &Plan, statuses: &[CacheStatus]) -> Vec<Vec<Reason>> {
    let CacheChecker { build, segments, .. } = checker;
    let mut open: Vec<Vec<Reason>> = vec![Vec::new(); statuses.len()];
    let is_stale = |index: usize| matches!(statuses[index], CacheStatus::Stale { .. });
    if !(0..statuses.len()).any(is_stale) {
        return open;
    }
    let inputs = written_inputs(build, plan, segments);
    // Until nothing more is found: one that may run may write what another one reads. In the plan's order that is mostly once.
    loop {
        let mut has_found = false;
        for index in plan.order().iter().filter_map(|step| segments.of_step(*step)) {
            if is_stale(index) || !open[index].is_empty() {
                continue;
            }
            let runs = |step: &StepId| segments.of_step(*step).is_some_and(|at| is_stale(at) || !open[at].is_empty());
            let name = |step: StepId| build.step(step).name.clone();
            let mut why = Vec::new();
            for input in &inputs[index] {
                let steps: Vec<String> = input.steps.iter().copied().filter(runs).map(name).collect();
                if !steps.is_empty() {
                    why.push(Reason::InputMayChange { steps, target: input.name.clone() });
                }
            }
            let below = segments.built_on(build, index).filter(runs);
            why.extend(below.map(|step| Reason::BelowMayChange { step: name(step) }));
            has_found |= !why.is_empty();
            open[index] = why;
        }
        if !has_found {
            return open;
        }
    }
}
