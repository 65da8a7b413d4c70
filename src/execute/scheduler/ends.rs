//! The ends of steps: the steps that need one may begin, or are skipped; a session is closed after its last step.

use super::{Scheduler, StepState};
use crate::execute::message::{Action, SkipReason};
use crate::model::StepId;

impl Scheduler<'_> {
    pub(super) fn ended(&mut self, step: StepId, is_ok: bool, is_stored: bool, actions: &mut Vec<Action>) {
        let was_written = self.steps[step.0] == StepState::Written;
        if was_written {
            self.writing.retain(|writing| *writing != step);
        } else {
            self.running -= 1;
            self.test_places.ends(step);
        }
        let index = self.segment_of(step);
        if is_ok || is_stored {
            self.segments[index].open -= 1;
            self.segments[index].has_image = self.shape.segments.get(index).snapshot == Some(step);
        }
        if is_ok {
            self.over(step, actions);
        } else {
            self.failed(step, actions);
            if was_written {
                // Steps have begun on a layer that could not be written.
                self.stop(SkipReason::Failed(step), actions);
            }
        }
        self.link_if_known(index, actions);
        self.commit(index, actions);
    }

    /// Marks a step as over: the steps that need it may begin.
    pub(super) fn over(&mut self, step: StepId, actions: &mut Vec<Action>) {
        let was_released = self.steps[step.0] == StepState::Written;
        self.steps[step.0] = StepState::Over;
        if !was_released {
            self.release(step, actions);
        }
    }

    pub(super) fn release(&mut self, step: StepId, actions: &mut Vec<Action>) {
        for dependent in self.shape.plan.dependents(step) {
            if let StepState::Waiting(needs @ 1..) = &mut self.steps[dependent.0] {
                *needs -= 1;
                if *needs == 0 {
                    self.steps[dependent.0] = StepState::Ready;
                    let is_test = self.test_places.is_test(dependent);
                    self.queues.add(dependent, self.positions[dependent.0], is_test);
                }
            }
        }
        self.close_session_after(step, actions);
    }

    pub(super) fn close_session_after(&mut self, step: StepId, actions: &mut Vec<Action>) {
        let container = self.shape.containers[step.0];
        self.test_places.is_done(step);
        self.open[container.0] -= 1;
        if self.open[container.0] == 0 {
            actions.push(Action::CloseSession { container });
        }
    }

    /// Skips the steps that a failed one prevents from beginning.
    pub(super) fn failed(&mut self, step: StepId, actions: &mut Vec<Action>) {
        let was_released = self.steps[step.0] == StepState::Written;
        self.steps[step.0] = StepState::Over;
        if !was_released {
            self.skip_dependents(step, SkipReason::Failed(step), actions);
            self.close_session_after(step, actions);
        }
        let index = self.segment_of(step);
        // With all of its results in the store, it can be recorded although an output was not written.
        if !self.segments[index].has_image && self.segments[index].open > 0 {
            self.abandon(index, actions);
        }
        if !self.limits.keep_going && !self.test_places.is_test(step) {
            self.stop(SkipReason::Stopped(step), actions);
        }
    }

    pub(super) fn skip_dependents(&mut self, step: StepId, reason: SkipReason, actions: &mut Vec<Action>) {
        let mut skipped = Vec::new();
        let mut open = self.shape.plan.dependents(step);
        while let Some(next) = open.pop() {
            if matches!(self.steps[next.0], StepState::Waiting(_)) {
                self.steps[next.0] = StepState::Over;
                open.extend(self.shape.plan.dependents(next));
                skipped.push(next);
            }
        }
        skipped.sort_by_key(|step| self.positions[step.0]);
        self.skip_all(skipped, reason, actions);
    }

    pub(super) fn skip_all(&mut self, steps: Vec<StepId>, reason: SkipReason, actions: &mut Vec<Action>) {
        for step in steps {
            self.steps[step.0] = StepState::Over;
            actions.push(Action::Skip { step, reason });
            self.abandon(self.segment_of(step), actions);
            self.close_session_after(step, actions);
        }
    }

    pub(super) fn stop(&mut self, reason: SkipReason, actions: &mut Vec<Action>) {
        let reason = *self.stopped.get_or_insert(reason);
        let has_not_begun = |step: &StepId| {
            matches!(self.steps[step.0], StepState::Waiting(_) | StepState::Ready | StepState::Blocked(_))
        };
        let skipped = self.shape.plan.order().iter().copied().filter(has_not_begun).collect();
        self.queues.clear();
        self.unchecked.clear();
        self.blocked.clear();
        self.skip_all(skipped, reason, actions);
    }

    /// Marks a segment as one whose results are not recorded: others may build it.
    pub(super) fn abandon(&mut self, index: usize, actions: &mut Vec<Action>) {
        if self.segments[index].abandon() {
            actions.push(Action::Abandon { segment: index });
        }
    }
}
