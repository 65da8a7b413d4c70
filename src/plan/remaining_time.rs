//! The remaining time of a plan, if each step takes its estimated time. Pure; no I/O.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction;

use crate::model::StepId;

use super::Plan;

/// The remaining work of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemainingWork {
    /// The progress of the step.
    pub progress: StepProgress,
    /// The milliseconds until its job slot is free, if it has one, and the steps that need it may begin.
    pub next_ms: u64,
    /// The milliseconds until all of it has finished, at least `next_ms`: an image is written while other steps run.
    pub end_ms: u64,
}

/// The progress of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepProgress {
    /// It waits for its needs and for a job slot.
    Waits,
    /// It runs in a job slot.
    Runs,
    /// Its image is being written, without a job slot.
    Written,
}

/// Returns the milliseconds until all steps have finished: of the steps that may begin, the first in the plan's order
/// gets the next of `jobs` slots, as in the scheduler. `rest` returns the remaining work of a step; none for a
/// finished one, and the same on each call.
pub fn remaining_time(plan: &Plan, jobs: usize, rest: impl Fn(StepId) -> Option<RemainingWork>) -> u64 {
    let rests: Vec<Option<RemainingWork>> =
        plan.nodes.iter().enumerate().map(|(step, node)| rest(StepId(step)).filter(|_| node.is_some())).collect();
    let mut waits = vec![0_usize; rests.len()];
    let (mut ready, mut running) = (BinaryHeap::new(), BinaryHeap::new());
    let (mut end, mut taken) = (0, 0);
    let mut positions = vec![0; rests.len()];
    for (position, step) in plan.order().iter().enumerate() {
        positions[step.0] = position;
        let Some(rest) = rests[step.0] else { continue };
        if rest.progress != StepProgress::Waits {
            (end, taken) = (rest.end_ms.max(end), taken + usize::from(rest.progress == StepProgress::Runs));
            running.push(Reverse((rest.next_ms, *step)));
            continue;
        }
        let needs = plan.next_to(*step, Direction::Incoming);
        waits[step.0] = needs.filter(|needed| rests[needed.0].is_some()).count();
        if waits[step.0] == 0 {
            ready.push(Reverse(position));
        }
    }
    let mut now: u64 = 0;
    loop {
        while taken < jobs.max(1)
            && let Some(Reverse(position)) = ready.pop()
        {
            let step = plan.order()[position];
            let Some(rest) = rests[step.0] else { continue };
            (end, taken) = (now.saturating_add(rest.end_ms).max(end), taken + 1);
            running.push(Reverse((now.saturating_add(rest.next_ms), step)));
        }
        let Some(Reverse((time, step))) = running.pop() else { return end.max(now) };
        let had_place = rests[step.0].is_some_and(|rest| rest.progress != StepProgress::Written);
        (now, taken) = (time, taken - usize::from(had_place));
        for dependent in plan.next_to(step, Direction::Outgoing) {
            if rests[dependent.0].is_some_and(|rest| rest.progress == StepProgress::Waits) {
                waits[dependent.0] -= 1;
                if waits[dependent.0] == 0 {
                    ready.push(Reverse(positions[dependent.0]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::{any_build, build};
    use super::*;

    fn waiting(next_ms: u64, end_ms: u64) -> Option<RemainingWork> {
        Some(RemainingWork { progress: StepProgress::Waits, next_ms, end_ms })
    }

    fn running(next_ms: u64, end_ms: u64) -> Option<RemainingWork> {
        Some(RemainingWork { progress: StepProgress::Runs, next_ms, end_ms })
    }

    #[test]
    fn parallel_steps_count_once_and_dependent_steps_add_up() {
        let build = build(&[("a", 0, &[]), ("b", 1, &[]), ("c", 2, &[]), ("d", 2, &[0, 2])]);
        let plan = Plan::new(&build, &[]);
        let rest = |step: StepId| waiting([50, 20, 30, 5][step.0], [50, 20, 30, 5][step.0]);
        assert_eq!([1, 2, 3, 9].map(|jobs| remaining_time(&plan, jobs, rest)), [105, 55, 55, 55]);
    }

    #[test]
    fn finished_steps_take_no_time_and_running_ones_their_remaining_time() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1]), ("d", 1, &[])]);
        let plan = Plan::new(&build, &[]);
        let rests = [None, running(7, 7), waiting(10, 10), waiting(4, 4)];
        assert_eq!(remaining_time(&plan, 1, |step| rests[step.0]), 21);
        assert_eq!(remaining_time(&plan, 2, |step| rests[step.0]), 17);
        // A step that should have ended by now keeps its slot, and no more is known.
        let rests = [None, running(0, 0), waiting(10, 10), None];
        assert_eq!(remaining_time(&plan, 1, |step| rests[step.0]), 10);
        assert_eq!(remaining_time(&plan, 1, |_| None), 0);
    }

    #[test]
    fn an_image_is_written_while_the_next_step_runs() {
        let build = build(&[("a", 0, &[]), ("snapshot", 0, &[0]), ("b", 0, &[1])]);
        let plan = Plan::new(&build, &[]);
        for (after, all) in [(5, 101), (200, 211)] {
            let rests = [waiting(10, 10), waiting(1, 91), waiting(after, after)];
            assert_eq!(remaining_time(&plan, 1, |step| rests[step.0]), all);
        }
    }

    #[test]
    fn an_image_being_written_takes_no_slot_and_its_dependents_wait() {
        let build = build(&[("a", 0, &[]), ("snapshot", 0, &[0]), ("b", 0, &[1]), ("other", 1, &[])]);
        let plan = Plan::new(&build, &[]);
        for (next_ms, after, all) in [(0, 5, 30), (0, 50, 70), (30, 5, 35)] {
            let written = Some(RemainingWork { progress: StepProgress::Written, next_ms, end_ms: 30 });
            let rests = [None, written, waiting(after, after), waiting(20, 20)];
            assert_eq!(remaining_time(&plan, 1, |step| rests[step.0]), all);
        }
    }

    #[test]
    fn huge_times_do_not_overflow() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0])]);
        assert_eq!(remaining_time(&Plan::new(&build, &[]), 1, |_| waiting(u64::MAX, u64::MAX)), u64::MAX);
    }

    /// Returns the length of the longest chain of steps of which each waits for the one before.
    fn chain(plan: &Plan, time: impl Fn(StepId) -> u64, last: impl Fn(StepId) -> u64) -> u64 {
        let mut before = vec![0; plan.nodes.len()];
        let mut longest = 0;
        for step in plan.order() {
            longest = longest.max(before[step.0] + last(*step));
            for dependent in plan.dependents(*step) {
                before[dependent.0] = before[dependent.0].max(before[step.0] + time(*step));
            }
        }
        longest
    }

    proptest! {
        #[test]
        fn the_time_is_between_the_longest_chain_and_all_steps_in_turn(
            (build, targets) in any_build(),
            times in prop::collection::vec((0..1000u64, 0..1000u64), 40),
            jobs in 1..9usize,
        ) {
            let plan = Plan::new(&build, &targets);
            let (next, end) = (|step: StepId| times[step.0].0, |step: StepId| times[step.0].0 + times[step.0].1);
            let left = remaining_time(&plan, jobs, |step| waiting(next(step), end(step)));
            prop_assert!(left >= chain(&plan, next, end));
            prop_assert!(left <= plan.order().iter().map(|step| end(*step)).sum());
            // No slot is free while a step could use it, so Graham's bound (1969) applies.
            let tail = plan.order().iter().map(|step| times[step.0].1).max().unwrap_or(0);
            let (all, jobs) = (plan.order().iter().map(|step| next(*step)).sum::<u64>(), jobs as u64);
            prop_assert!((left - tail.min(left)) * jobs <= all + (jobs - 1) * chain(&plan, next, next));
        }

        #[test]
        fn with_one_slot_the_time_is_the_sum_and_with_a_slot_for_each_the_longest_chain(
            (build, targets) in any_build(), times in prop::collection::vec(0..1000u64, 40),
        ) {
            let plan = Plan::new(&build, &targets);
            let time = |step: StepId| times[step.0];
            let rest = |step: StepId| waiting(time(step), time(step));
            prop_assert_eq!(remaining_time(&plan, 1, rest), plan.order().iter().map(|step| time(*step)).sum::<u64>());
            prop_assert_eq!(remaining_time(&plan, 40, rest), chain(&plan, time, time));
        }

        #[test]
        fn the_remaining_time_falls_by_the_elapsed_time(
            (build, targets) in any_build(), times in prop::collection::vec(1..1000u64, 40), jobs in 1..9usize,
        ) {
            // Follows a build that runs as estimated, and compares at each end of a step.
            let plan = Plan::new(&build, &targets);
            let mut begun: Vec<Option<u64>> = vec![None; times.len()];
            let mut over = vec![false; times.len()];
            let mut now = 0;
            let whole = remaining_time(&plan, jobs, |step| waiting(times[step.0], times[step.0]));
            loop {
                while begun.iter().flatten().count() - over.iter().filter(|over| **over).count() < jobs {
                    let may_begin = |step: &&StepId| {
                        begun[step.0].is_none() && plan.needs(**step).iter().all(|needed| over[needed.0])
                    };
                    let Some(step) = plan.order().iter().find(may_begin) else { break };
                    begun[step.0] = Some(now);
                }
                let rest = |step: StepId| match begun[step.0] {
                    _ if over[step.0] => None,
                    Some(begun) => running(begun + times[step.0] - now, begun + times[step.0] - now),
                    None => waiting(times[step.0], times[step.0]),
                };
                prop_assert_eq!(now + remaining_time(&plan, jobs, rest), whole);
                let ends = plan.order().iter().filter(|step| begun[step.0].is_some() && !over[step.0]);
                let next = ends.map(|step| (begun[step.0].unwrap_or(0) + times[step.0], *step)).min();
                let Some((time, step)) = next else { break };
                now = time;
                over[step.0] = true;
            }
        }
    }
}
