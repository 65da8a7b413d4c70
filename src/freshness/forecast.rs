//! What a build would take from the store and what it would run, before it does either.

use std::collections::HashMap;

use super::{Below, Judge, JudgeError, Verdict};
use crate::build::StepId;
use crate::key::{Parents, Reason};
use crate::plan::{Plan, written_inputs};

/// A verdict for each segment.
#[derive(Debug, Clone)]
pub struct Forecast {
    verdicts: Vec<Verdict>,
    /// By segment: why it is not known that a fresh one stays fresh.
    open: Vec<Vec<Reason>>,
}

impl Forecast {
    /// Why the segment of that index would run, or may run; nothing where it is fresh and stays so.
    pub fn reasons(&self, segment: usize) -> &[Reason] {
        match &self.verdicts[segment] {
            Verdict::Fresh(_) => &self.open[segment],
            Verdict::Stale { reasons, .. } => reasons,
        }
    }

    /// How many of its first steps would be taken from a checkpoint.
    pub fn resumed(&self, segment: usize) -> usize {
        match &self.verdicts[segment] {
            Verdict::Stale { resume: Some(resume), .. } => resume.steps,
            _ => 0,
        }
    }

    /// The verdict on the segment of that index, by what is there now.
    pub fn verdict(&self, segment: usize) -> &Verdict {
        &self.verdicts[segment]
    }
}

/// Judges all segments of a plan by what is there now.
///
/// # Errors
/// As [`Judge::judge`].
pub fn forecast(judge: &Judge<'_>, plan: &Plan) -> Result<Forecast, JudgeError> {
    let mut known: HashMap<StepId, Parents> = HashMap::new();
    let mut verdicts: Vec<Option<Verdict>> = vec![None; judge.segments.all().len()];
    for step in plan.order() {
        let Some(index) = judge.segments.of_step(*step).filter(|index| verdicts[*index].is_none()) else { continue };
        // The first step of a segment comes after all that the segment stands on.
        let below = judge.below(index, |step| known.get(&step).cloned())?;
        let verdict = judge.judge(index, &below, false)?;
        if let (Verdict::Fresh(recorded), Below::Known(below)) = (&verdict, &below)
            && let (Some(snapshot), Some(layer)) = (judge.segments.get(index).snapshot, &recorded.layer)
        {
            known.insert(snapshot, judge.above(snapshot, below, &layer.digest));
        }
        verdicts[index] = Some(verdict);
    }
    // Each segment has a step in the plan's order.
    let verdicts: Vec<Verdict> = verdicts.into_iter().flatten().collect();
    let open = open(judge, plan, &verdicts);
    Ok(Forecast { verdicts, open })
}

/// By segment: why one that is fresh may run after all. A step that runs before it may write what it reads, and then the build
/// judges it after that step.
fn open(judge: &Judge<'_>, plan: &Plan, verdicts: &[Verdict]) -> Vec<Vec<Reason>> {
    let Judge { build, segments, .. } = judge;
    let mut open: Vec<Vec<Reason>> = vec![Vec::new(); verdicts.len()];
    let is_stale = |index: usize| matches!(verdicts[index], Verdict::Stale { .. });
    if !(0..verdicts.len()).any(is_stale) {
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
            let below = segments.stands_on(build, index).filter(runs);
            why.extend(below.map(|step| Reason::BelowMayChange { step: name(step) }));
            has_found |= !why.is_empty();
            open[index] = why;
        }
        if !has_found {
            return open;
        }
    }
}
