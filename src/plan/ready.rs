//! Which step may begin next, as others end: the state machine that an executor drives. Pure; no I/O.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::build::StepId;

use super::Plan;

/// Hands out the steps of a plan, each when all that it needs is done.
///
/// Every step leaves in exactly one way: [`next`](Self::next) gives it and [`done`](Self::done) takes it back, or
/// `done` or [`stop`](Self::stop) names it as skipped.
#[derive(Debug, Clone)]
pub struct Ready<'a> {
    plan: &'a Plan,
    keep_going: bool,
    /// By step.
    states: Vec<State>,
    /// Positions in the plan's order of the steps that may begin.
    ready: BinaryHeap<Reverse<usize>>,
    /// By step: its position in the plan's order; 0 for those not planned.
    positions: Vec<usize>,
    /// Steps that are neither done nor skipped.
    open: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for that many steps; at 0 it may begin.
    Waits(usize),
    Running,
    /// Done or skipped, or not planned.
    Over,
}

impl<'a> Ready<'a> {
    /// Nothing has begun. With `keep_going`, a failure skips only what depends on it; without, all that has not begun.
    pub fn new(plan: &'a Plan, keep_going: bool) -> Self {
        let steps = plan.nodes.len();
        let (mut states, mut positions) = (vec![State::Over; steps], vec![0; steps]);
        let mut ready = BinaryHeap::new();
        for (position, step) in plan.order().iter().enumerate() {
            let waits = plan.needs(*step).len();
            states[step.0] = State::Waits(waits);
            positions[step.0] = position;
            if waits == 0 {
                ready.push(Reverse(position));
            }
        }
        Self { plan, keep_going, states, ready, positions, open: plan.order().len() }
    }

    /// A step that may begin, the first by the plan's order; it counts as running from now on. `None`: wait for a
    /// running one, or all is finished.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end, as it would be for an iterator")]
    pub fn next(&mut self) -> Option<StepId> {
        while let Some(Reverse(position)) = self.ready.pop() {
            let step = self.plan.order()[position];
            if self.states[step.0] == State::Waits(0) {
                self.states[step.0] = State::Running;
                return Some(step);
            }
        }
        None
    }

    /// A running step ended, well or not. Gives the steps that are skipped for it, in the plan's order.
    ///
    /// A step that is not running changes nothing.
    pub fn done(&mut self, step: StepId, ok: bool) -> Vec<StepId> {
        if self.states.get(step.0) != Some(&State::Running) {
            return Vec::new();
        }
        self.states[step.0] = State::Over;
        self.open -= 1;
        if !ok {
            return if self.keep_going { self.skip_dependents(step) } else { self.stop() };
        }
        for dependent in self.plan.dependents(step) {
            if let State::Waits(waits @ 1..) = &mut self.states[dependent.0] {
                *waits -= 1;
                if *waits == 0 {
                    self.ready.push(Reverse(self.positions[dependent.0]));
                }
            }
        }
        Vec::new()
    }

    /// Begins nothing more: gives all steps that have not begun, which are skipped, in the plan's order.
    pub fn stop(&mut self) -> Vec<StepId> {
        self.ready.clear();
        let waiting = |step: &&StepId| matches!(self.states[step.0], State::Waits(_));
        let skipped: Vec<StepId> = self.plan.order().iter().filter(waiting).copied().collect();
        for step in &skipped {
            self.skip(*step);
        }
        skipped
    }

    /// Whether every step is done or skipped.
    pub fn is_finished(&self) -> bool {
        self.open == 0
    }

    /// Whether the step is done or skipped, or was never planned. A container's session ends when this holds for all
    /// of [`Plan::session`].
    pub fn is_over(&self, step: StepId) -> bool {
        self.states.get(step.0).is_none_or(|state| *state == State::Over)
    }

    fn skip_dependents(&mut self, step: StepId) -> Vec<StepId> {
        let mut skipped = Vec::new();
        let mut open = self.plan.dependents(step);
        while let Some(next) = open.pop() {
            if matches!(self.states[next.0], State::Waits(_)) {
                self.skip(next);
                open.extend(self.plan.dependents(next));
                skipped.push(next);
            }
        }
        skipped.sort_by_key(|step| self.positions[step.0]);
        skipped
    }

    fn skip(&mut self, step: StepId) {
        self.states[step.0] = State::Over;
        self.open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::fixture::{any_build, build};
    use super::*;

    #[test]
    fn a_step_is_ready_when_all_that_it_needs_is_done() {
        let build = build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 2, &[0, 1])]);
        let plan = Plan::new(&build, &[]);
        let mut ready = Ready::new(&plan, false);
        assert_eq!((ready.next(), ready.next(), ready.next()), (Some(StepId(0)), Some(StepId(1)), None));
        assert_eq!(ready.done(StepId(1), true), []);
        assert_eq!(ready.next(), None);
        assert_eq!(ready.done(StepId(0), true), []);
        assert_eq!(ready.next(), Some(StepId(2)));
        assert!(!ready.is_finished() && !ready.is_over(StepId(2)) && ready.is_over(StepId(0)));
        assert_eq!(ready.done(StepId(2), true), []);
        assert!(ready.is_finished());
    }

    #[test]
    fn a_failure_ends_the_build_but_not_what_runs() {
        let build = build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 1, &[1]), ("d", 0, &[0])]);
        let plan = Plan::new(&build, &[]);
        let mut ready = Ready::new(&plan, false);
        assert_eq!((ready.next(), ready.next()), (Some(StepId(0)), Some(StepId(1))));
        assert_eq!(ready.done(StepId(0), false), [StepId(2), StepId(3)]);
        assert_eq!(ready.next(), None);
        assert!(!ready.is_finished());
        assert_eq!(ready.done(StepId(1), true), []);
        assert!(ready.is_finished());
    }

    #[test]
    fn keep_going_skips_only_what_depends_on_the_failure() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1]), ("d", 1, &[]), ("e", 1, &[1, 3])]);
        let plan = Plan::new(&build, &[]);
        let mut ready = Ready::new(&plan, true);
        assert_eq!(ready.next(), Some(StepId(0)));
        assert_eq!(ready.done(StepId(0), false), [StepId(1), StepId(2), StepId(4)]);
        assert_eq!(ready.next(), Some(StepId(3)));
        assert_eq!(ready.done(StepId(3), true), []);
        assert!(ready.is_finished());
    }

    #[test]
    fn what_does_not_run_cannot_be_done() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0])]);
        let plan = Plan::new(&build, &[]);
        let mut ready = Ready::new(&plan, false);
        assert_eq!(ready.done(StepId(1), false), []);
        assert_eq!(ready.done(StepId(9), true), []);
        assert_eq!(ready.next(), Some(StepId(0)));
        assert_eq!(ready.stop(), [StepId(1)]);
        assert_eq!(ready.stop(), []);
        ready.done(StepId(0), false);
        assert!(ready.is_finished());
    }

    proptest! {
        /// Runs the plan with some steps failing and up to three at once, ended in a drawn order.
        #[test]
        fn every_step_is_run_or_skipped_once(
            (build, targets) in any_build(),
            fails in prop::collection::btree_set(0..40usize, 0..4),
            picks in prop::collection::vec(0..3usize, 1..50),
            keep_going: bool,
        ) {
            let plan = Plan::new(&build, &targets);
            let mut ready = Ready::new(&plan, keep_going);
            let (mut running, mut ran, mut bad) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
            let mut picks = picks.iter().cycle();
            let mut left = 0;
            while !ready.is_finished() {
                while running.len() < 3 {
                    let Some(step) = ready.next() else { break };
                    prop_assert!(build.step(step).needs.iter().all(|needed| ran.contains(needed)));
                    running.push(step);
                }
                prop_assert!(!running.is_empty(), "nothing runs and nothing is finished");
                let step = running.remove(picks.next().unwrap() % running.len());
                let ok = !fails.contains(&step.0);
                left += 1;
                let first = if ok { ran.insert(step) } else { bad.insert(step) };
                prop_assert!(first);
                for skipped in ready.done(step, ok) {
                    left += 1;
                    prop_assert!(bad.insert(skipped));
                    if keep_going {
                        prop_assert!(build.step(skipped).needs.iter().any(|needed| bad.contains(needed)));
                    }
                }
            }
            prop_assert_eq!(left, plan.order().len());
        }
    }
}
