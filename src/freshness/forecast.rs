//! What a build would take from the store and what it would run, before it does either.

use std::collections::HashMap;

use super::{Below, Judge, JudgeError, Verdict};
use crate::build::StepId;
use crate::key::{Link, Reason};
use crate::plan::Plan;

/// A verdict for each segment.
#[derive(Debug, Clone)]
pub struct Forecast {
    verdicts: Vec<Verdict>,
}

impl Forecast {
    /// Why the segment of that index would run; nothing where it is fresh.
    pub fn reasons(&self, segment: usize) -> &[Reason] {
        match &self.verdicts[segment] {
            Verdict::Fresh(_) => &[],
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

    /// The verdict on the segment of that index.
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
    Ok(Forecast { verdicts: verdicts.into_iter().flatten().collect() })
}
