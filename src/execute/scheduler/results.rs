//! The results of segments: found in the store by a cache check, or made and recorded.

use super::segment::Commit;
use super::{Blocker, Scheduler, StepState};
use crate::execute::message::{Action, CheckOutcome};
use crate::model::StepId;

impl Scheduler<'_> {
    pub(super) fn checked(&mut self, index: usize, outcome: CheckOutcome, actions: &mut Vec<Action>) {
        if self.segments[index].check_has_waited() {
            self.waiting_checks -= 1;
        } else {
            self.checks -= 1;
        }
        let blocked = std::mem::take(&mut self.segments[index].blocked);
        let parent = self.shape.parents[index];
        let is_parent_linked = parent.is_some_and(|parent| self.is_linked[parent.0]);
        match outcome {
            CheckOutcome::Failed => {
                self.segments[index].check_again();
                for step in blocked {
                    // The failure of one of them may skip the others.
                    if !self.is_over(step) {
                        actions.push(Action::Fail { step });
                        self.failed(step, actions);
                    }
                }
                return;
            }
            CheckOutcome::Unknown { until } if !self.is_linked[until.0] => {
                self.segments[index].check_again();
                for step in blocked {
                    if !self.is_over(step) {
                        self.block(step, Blocker::ParentLayer(until));
                    }
                }
                return;
            }
            // The layer was written meanwhile: now the whole key is known.
            CheckOutcome::Unknown { .. } => self.segments[index].check_again(),
            CheckOutcome::Stale(stale) if stale.is_for_parent && is_parent_linked => self.segments[index].check_again(),
            CheckOutcome::Fresh => {
                self.segments[index].is_fresh_now();
                self.segments[index].has_parents = true;
            }
            CheckOutcome::Stale(stale) => {
                self.segments[index].is_stale_now(&stale);
                self.segments[index].has_parents |= is_parent_linked;
                if self.stopped.is_some() {
                    self.abandon(index, actions);
                }
            }
        }
        for step in blocked {
            if !self.is_over(step) {
                self.steps[step.0] = StepState::Ready;
                self.queues.add_unblocked(step, self.test_places.is_test(step));
            }
        }
    }

    pub(super) fn link_if_known(&mut self, index: usize, actions: &mut Vec<Action>) {
        let segment = &self.segments[index];
        if let Some(snapshot) = self.shape.segments.get(index).snapshot
            && segment.has_image
            && segment.has_parents
            && !self.is_linked[snapshot.0]
        {
            self.link(snapshot, actions);
        }
    }

    /// Marks a snapshot's layer and all layers below it as known.
    pub(super) fn link(&mut self, snapshot: StepId, actions: &mut Vec<Action>) {
        self.is_linked[snapshot.0] = true;
        let index = self.segment_of(snapshot);
        actions.push(Action::Link { segment: index });
        self.commit(index, actions);
        for child in self.children[snapshot.0].clone() {
            self.segments[child].has_parents = true;
            self.link_if_known(child, actions);
            self.commit(child, actions);
        }
    }

    /// Records the results of a segment that are complete, once those of the segment below it are recorded.
    pub(super) fn commit(&mut self, index: usize, actions: &mut Vec<Action>) {
        let is_parent_done = self.shape.parents[index].is_none_or(|parent| {
            let parent = &self.segments[self.segment_of(parent)];
            parent.is_fresh() || parent.commit == Commit::Done
        });
        let snapshot = self.shape.segments.get(index).snapshot;
        let is_complete = match snapshot {
            // Others learn of the keys above it then, so these are locked even where nothing is recorded.
            Some(snapshot) => self.is_linked[snapshot.0],
            None => self.segments[index].is_recordable && self.segments[index].open == 0,
        };
        let segment = &mut self.segments[index];
        if segment.is_stale()
            && segment.has_parents
            && is_complete
            && is_parent_done
            && segment.commit == Commit::NotYet
        {
            segment.commit = Commit::Running;
            self.commits += 1;
            actions.push(Action::Commit { segment: index });
        }
    }
}
