//! The beginnings of steps: which of those that need no other step may begin now, and the way out of a deadlock.

use super::{Blocker, MAX_CHECKS, Scheduler, StepState};
use crate::execute::message::{Action, SkipReason};
use crate::model::StepId;

impl Scheduler<'_> {
    /// Begins all that may begin.
    pub(super) fn advance(&mut self, actions: &mut Vec<Action>) {
        // Each round after the first follows a deadlock that was broken: a step was skipped, or one more segment is checked
        // although files that it reads may still be written.
        for _ in 0..=self.steps.len() + self.segments.len() {
            self.unblock();
            while self.stopped.is_none()
                && self.running < self.limits.jobs
                && let Some(step) = self.next_step()
            {
                self.admit(step, actions);
            }
            while self.stopped.is_none()
                && self.running < self.limits.jobs
                && self.checks < MAX_CHECKS
                && let Some(segment) = self.unchecked.pop_front()
            {
                self.checks += 1;
                self.segments[segment].check_begins();
                actions.push(Action::Check { segment });
            }
            if self.is_under_way() || self.stopped.is_some() || !self.break_deadlock(actions) {
                break;
            }
        }
        // Without this, a bug of the scheduler would have the build wait for ever.
        if self.stopped.is_none() && !self.is_under_way() && !self.is_finished() {
            self.stop(SkipReason::Bug, actions);
        }
    }

    /// Has the steps whose obstacle is gone begin.
    fn unblock(&mut self) {
        let blocked = std::mem::take(&mut self.blocked);
        for step in blocked {
            let StepState::Blocked(blocker) = self.steps[step.0] else { continue };
            let is_blocked = match blocker {
                Blocker::CacheCheck => continue,
                Blocker::ParentLayer(snapshot) => !self.is_linked[snapshot.0],
                Blocker::Output => self.sees_output_being_written(step),
                Blocker::Inputs => !self.is_settled(self.segment_of(step)),
            };
            if is_blocked {
                self.blocked.push(step);
            } else {
                self.steps[step.0] = StepState::Ready;
                self.queues.add_unblocked(step, self.test_places.is_test(step));
            }
        }
    }

    /// Returns a step that may begin, in the plan's order where none was blocked.
    fn next_step(&mut self) -> Option<StepId> {
        // Where nothing else can begin or end, the other steps wait for a test.
        let may_test =
            self.test_places.has_place(self.limits.jobs) || !self.is_under_way() && self.unchecked.is_empty();
        loop {
            let step = self.queues.pop(may_test)?;
            if self.steps[step.0] != StepState::Ready {
                continue;
            }
            // The step could find the output half written.
            if !self.sees_output_being_written(step) {
                return Some(step);
            }
            self.block(step, Blocker::Output);
        }
    }

    pub(super) fn block(&mut self, step: StepId, blocker: Blocker) {
        self.steps[step.0] = StepState::Blocked(blocker);
        if blocker != Blocker::CacheCheck {
            self.blocked.push(step);
        }
    }

    fn sees_output_being_written(&self, step: StepId) -> bool {
        self.writing.iter().any(|writing| (self.shape.sees_output)(step, *writing))
    }

    pub(super) fn segment_of(&self, step: StepId) -> usize {
        // Each planned step is in a segment, and no other one is ever ready.
        self.shape.segments.of_step(step).unwrap_or_default()
    }

    fn is_settled(&self, segment: usize) -> bool {
        self.segments[segment].ignores_barriers || self.open_barriers(segment).next().is_none()
    }

    /// Begins a step, or has it wait for its segment's check.
    fn admit(&mut self, step: StepId, actions: &mut Vec<Action>) {
        let index = self.segment_of(step);
        let known = self.shape.segments.get(index);
        let segment = &self.segments[index];
        if segment.is_unchecked() && !self.is_settled(index) {
            return self.block(step, Blocker::Inputs);
        }
        let segment = &mut self.segments[index];
        if segment.is_unchecked() {
            segment.check_is_due();
            self.unchecked.push_back(index);
        }
        let segment = &mut self.segments[index];
        if segment.is_being_checked() {
            segment.blocked.push(step);
            return self.block(step, Blocker::CacheCheck);
        }
        if segment.is_fresh() && (known.snapshot == Some(step) || self.shape.is_export[step.0]) {
            self.running += 1;
            self.steps[step.0] = StepState::Running;
            actions.push(Action::Take { step });
        } else if segment.is_cached(&known.steps, step) {
            actions.push(Action::ReportCached { step });
            self.over(step, actions);
        } else if self.limits.can_store {
            self.running += 1;
            self.test_places.begins(step);
            self.steps[step.0] = StepState::Running;
            actions.push(Action::Run { step });
        } else {
            actions.push(Action::CannotStore { step });
            self.failed(step, actions);
        }
    }

    /// Returns whether anything may begin where nothing is under way.
    fn break_deadlock(&mut self, actions: &mut Vec<Action>) -> bool {
        let is_for_layer = |step: &StepId| matches!(self.steps[step.0], StepState::Blocked(Blocker::ParentLayer(_)));
        if let Some(step) = self.blocked.iter().copied().find(is_for_layer) {
            self.blocked.retain(|other| *other != step);
            let reason = SkipReason::NoParentLayer;
            self.skip_all(vec![step], reason, actions);
            self.skip_dependents(step, reason, actions);
            return true;
        }
        // One at a time: the steps of one segment may be all that another one waits for.
        let waits_for_inputs = |step: &StepId| self.steps[step.0] == StepState::Blocked(Blocker::Inputs);
        let Some(step) = self.blocked.iter().copied().find(waits_for_inputs) else { return false };
        let index = self.segment_of(step);
        self.segments[index].ignores_barriers = true;
        true
    }
}
