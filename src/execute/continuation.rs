//! Finds the step at which the next build continues after one that failed, by container: after the last checkpoint, or
//! after a snapshot.

use std::collections::HashMap;
use std::time::Duration;

use super::dispatcher::Dispatcher;
use crate::event::Continuation;
use crate::event::milliseconds;
use crate::model::{Build, Checkpointing, StepId};
use crate::plan::Segment;
use crate::warning::NoCheckpoint;

impl Dispatcher<'_, '_> {
    /// Returns the continuation of each segment that has begun and is not finished. To be called when all checkpoints
    /// are written.
    pub(super) fn continuations(&self) -> Vec<Continuation> {
        if self.totals.failed + self.totals.skipped == 0 {
            return Vec::new();
        }
        let segments = self.checker.segments();
        let ran: HashMap<StepId, Duration> = self.ran.iter().copied().collect();
        let of = |(index, segment): (usize, &Segment)| {
            let (stored, why) = self.sessions.checkpoints.last(index);
            continuation(self.context.build, segment, stored, why, &ran)
        };
        segments.all().iter().enumerate().filter_map(of).collect()
    }
}

/// Returns the continuation of one segment, whose first `stored` steps are in a checkpoint; none where it has not
/// begun, or is finished.
fn continuation(
    build: &Build,
    segment: &Segment,
    stored: usize,
    why: Option<NoCheckpoint>,
    ran: &HashMap<StepId, Duration>,
) -> Option<Continuation> {
    let took = |step: &StepId| ran.get(step).copied();
    let (again, open): (Vec<StepId>, Vec<StepId>) =
        segment.steps.iter().skip(stored).partition(|step| took(step).is_some());
    let first_open = open.first().copied()?;
    if again.is_empty() && stored == 0 {
        return None;
    }
    let container = build.container(segment.container);
    let why = match why {
        _ if again.is_empty() => None,
        _ if segment.snapshot.is_none() && !segment.is_cut => Some("no snapshot follows them".to_owned()),
        _ if container.checkpoint == Checkpointing::Off => Some("the container has `checkpoint: off`".to_owned()),
        why => why.map(|why| why.to_string()),
    };
    Some(Continuation {
        container: container.name.clone(),
        step: build.step(again.first().copied().unwrap_or(first_open)).name.clone(),
        again: again.len(),
        again_ms: milliseconds(again.iter().filter_map(took).sum()),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Segments, fixture};

    fn of(stored: usize, ran: &[(usize, u64)], why: Option<NoCheckpoint>) -> Option<Continuation> {
        let build = fixture::build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1]), ("d", 0, &[2])]);
        let segments = Segments::new(&build, &Plan::new(&build, &[]));
        let ran = ran.iter().map(|(step, took)| (StepId(*step), Duration::from_secs(*took))).collect();
        let mut segment = segments.get(0).clone();
        segment.is_cut = true;
        continuation(&build, &segment, stored, why, &ran)
    }

    fn known(continuation: Option<Continuation>) -> Option<(String, usize, u64)> {
        continuation.map(|known| (known.step, known.again, known.again_ms))
    }

    #[test]
    fn the_next_build_continues_after_the_last_checkpoint() {
        assert_eq!(known(of(2, &[(0, 6), (1, 7)], None)), Some(("c".into(), 0, 0)));
        assert_eq!(known(of(1, &[(0, 6), (1, 2)], None)), Some(("b".into(), 1, 2000)));
        assert_eq!(known(of(0, &[(0, 6), (1, 2)], None)), Some(("a".into(), 2, 8000)));
        // The session began with a checkpoint after the first two steps.
        assert_eq!(known(of(2, &[], None)), Some(("c".into(), 0, 0)));
        assert_eq!(of(0, &[], None), None);
        assert_eq!(of(0, &[(0, 1), (1, 1), (2, 1), (3, 1)], None), None);
    }

    #[test]
    fn a_step_that_must_run_again_has_the_reason() {
        let why = |stored| of(stored, &[(0, 6), (1, 2)], Some(NoCheckpoint::InputsChanged)).unwrap().why;
        // The containers of the fixture have no checkpoints.
        assert_eq!(why(1).as_deref(), Some("the container has `checkpoint: off`"));
        assert_eq!(why(2), None);
    }
}
