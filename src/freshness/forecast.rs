//! What a build would take from the store and what it would run, before it does either.

use std::collections::HashMap;

use super::{Below, Judge, JudgeError, Verdict};
use crate::build::StepId;
use crate::key::{Link, Reason};
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
    let mut known: HashMap<StepId, Vec<Link>> = HashMap::new();
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
    let inputs = written_inputs(build, plan, segments);
    let mut open: Vec<Vec<Reason>> = vec![Vec::new(); verdicts.len()];
    // Until nothing more is found: one that may run may write what another one reads.
    loop {
        let runs = |step: &StepId| {
            let segment = segments.of_step(*step);
            segment.is_some_and(|at| matches!(verdicts[at], Verdict::Stale { .. }) || !open[at].is_empty())
        };
        let why = |index: usize| {
            let named = |steps: &[StepId]| -> Vec<String> {
                steps.iter().filter(|step| runs(step)).map(|step| build.step(*step).name.clone()).collect()
            };
            let inputs = inputs[index].iter().map(|input| (named(&input.steps), &input.name));
            let written = inputs.filter(|(steps, _)| !steps.is_empty());
            let mut why: Vec<Reason> =
                written.map(|(steps, name)| Reason::InputMayChange { steps, target: name.clone() }).collect();
            let below = segments.stands_on(build, index).filter(runs);
            why.extend(below.map(|step| Reason::BelowMayChange { step: build.step(step).name.clone() }));
            why
        };
        let is_fresh = |index: &usize| matches!(verdicts[*index], Verdict::Fresh(_)) && open[*index].is_empty();
        let found: Vec<(usize, Vec<Reason>)> = (0..verdicts.len())
            .filter(is_fresh)
            .map(|index| (index, why(index)))
            .filter(|(_, why)| !why.is_empty())
            .collect();
        if found.is_empty() {
            return open;
        }
        for (index, why) in found {
            open[index] = why;
        }
    }
}
