//! The laws of the scheduler, for any plan, with messages in any order and any outcome.

mod any_case;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use any_case::{Case, any_case};

use super::*;
use crate::execute::message::{CheckOutcome, Stale};
use crate::model::{Action as StepAction, Step};
use crate::plan::fixture::build;

/// The end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ran,
    Cached,
    Failed,
    Skipped,
}

/// Performs actions, in any order and with any outcome, and checks that each was allowed.
struct World<'a> {
    case: &'a Case,
    plan: &'a Plan,
    segments: &'a Segments,
    dice: std::iter::Cycle<std::slice::Iter<'a, u32>>,
    /// Actions that are under way.
    open: Vec<Action>,
    ends: BTreeMap<StepId, End>,
    frozen: BTreeSet<StepId>,
    /// Steps that failed with their results in the store.
    stored: BTreeSet<StepId>,
    writing: BTreeSet<StepId>,
    stale: BTreeMap<usize, Stale>,
    checks: usize,
    waiting: BTreeSet<usize>,
    committing: BTreeSet<usize>,
    committed: BTreeSet<usize>,
    linked: BTreeSet<usize>,
    fresh: BTreeSet<usize>,
    abandoned: BTreeSet<usize>,
    closed: BTreeSet<usize>,
    failed: bool,
    stopped: bool,
}

impl World<'_> {
    fn dice(&mut self, sides: u32) -> u32 {
        self.dice.next().unwrap() % sides
    }

    fn end(&mut self, step: StepId, end: End) {
        assert_eq!(self.ends.insert(step, end), None, "{step:?} ended twice");
        self.failed |= end == End::Failed && !self.case.build.step(step).is_test();
    }

    fn is_released(&self, step: StepId) -> bool {
        self.frozen.contains(&step) || matches!(self.ends.get(&step), Some(End::Ran | End::Cached))
    }

    fn may_begin(&self, step: StepId) {
        for needed in self.plan.needs(step) {
            assert!(self.is_released(needed), "{step:?} begins before {needed:?}");
        }
        assert!(!self.stopped && (self.case.keep_going || !self.failed), "{step:?} begins after the end");
        let container = self.case.build.step(step).container.0;
        let seen = self.writing.iter().find(|writing| self.case.sees.contains(&(container, writing.0)));
        assert_eq!(seen, None, "{step:?} sees an output being written");
    }

    fn running(&self) -> usize {
        let is_running = |action: &&Action| match action {
            Action::Run { step } => !self.frozen.contains(step),
            Action::Take { .. } => true,
            _ => false,
        };
        self.open.iter().filter(is_running).count()
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match &action {
                Action::Check { segment } => {
                    assert!(!self.stale.contains_key(segment) && !self.fresh.contains(segment), "checked twice");
                    self.checks += 1;
                    assert!(self.checks <= MAX_CHECKS);
                    self.open.push(action);
                }
                Action::Run { step } => {
                    self.may_begin(*step);
                    let segment = self.segments.of_step(*step).unwrap();
                    let stale = &self.stale[&segment];
                    assert!(!self.segments.get(segment).steps[..stale.resumed].contains(step));
                    self.open.push(action);
                }
                Action::Take { step } => {
                    self.may_begin(*step);
                    assert!(self.fresh.contains(&self.segments.of_step(*step).unwrap()));
                    let is_run = matches!(self.case.build.step(*step).action, StepAction::Run(_));
                    assert!(!is_run, "a process is taken");
                    self.open.push(action);
                }
                Action::ReportCached { step } => {
                    self.may_begin(*step);
                    self.end(*step, End::Cached);
                }
                Action::Skip { step, .. } => self.end(*step, End::Skipped),
                Action::Fail { step } | Action::CannotStore { step } => self.end(*step, End::Failed),
                Action::Link { segment } => {
                    let snapshot = self.segments.get(*segment).snapshot.unwrap();
                    assert!(self.linked.insert(snapshot.0), "linked twice");
                    if let Some(parent) = self.segments.built_on(&self.case.build, *segment) {
                        let is_known = self.stale.get(segment).is_some_and(|stale| stale.has_parents);
                        let is_known = is_known || self.fresh.contains(segment);
                        assert!(is_known || self.linked.contains(&parent.0), "linked before its parent");
                    }
                }
                Action::Commit { segment } => {
                    assert!(self.stale.contains_key(segment));
                    if let Some(parent) = self.segments.built_on(&self.case.build, *segment) {
                        let parent = self.segments.of_step(parent).unwrap();
                        assert!(self.fresh.contains(&parent) || self.committed.contains(&parent), "before its parent");
                    }
                    let known = self.segments.get(*segment);
                    let is_well = |step: &StepId| {
                        matches!(self.ends.get(step), Some(End::Ran | End::Cached)) || self.stored.contains(step)
                    };
                    let is_all = known.steps.iter().all(is_well);
                    assert!(is_all || known.snapshot.is_some(), "a segment without a snapshot is recorded half done");
                    assert!(self.committing.insert(*segment), "committed twice");
                    self.open.push(action);
                }
                Action::Abandon { segment } => assert!(self.abandoned.insert(*segment), "abandoned twice"),
                Action::CloseSession { container } => {
                    for step in self.plan.session(*container) {
                        assert!(self.ends.contains_key(step) || self.frozen.contains(step), "{step:?} is still open");
                    }
                    assert!(self.closed.insert(container.0), "closed twice");
                }
            }
            assert!(self.running() <= self.case.jobs, "more than {} at once", self.case.jobs);
        }
    }

    /// Has one of the actions that are under way end, or come a stage further.
    fn step(&mut self, scheduler: &Scheduler<'_>) -> Message {
        if self.dice(40) == 0 {
            self.stopped = true;
            return Message::Stop { reason: SkipReason::Interrupted };
        }
        let at = self.dice(u32::try_from(self.open.len()).unwrap()) as usize;
        match self.open[at].clone() {
            Action::Check { segment } => {
                let waits = !self.waiting.contains(&segment) && self.dice(4) == 0;
                if waits {
                    self.checks -= 1;
                    self.waiting.insert(segment);
                    return Message::CheckWaits { segment };
                }
                self.open.remove(at);
                if !self.waiting.remove(&segment) {
                    self.checks -= 1;
                }
                let outcome = self.outcome(segment, scheduler);
                Message::Checked { segment, outcome }
            }
            Action::Run { step } => {
                let is_snapshot = matches!(self.case.build.step(step).action, StepAction::Snapshot(_));
                if is_snapshot && !self.frozen.contains(&step) && self.dice(2) == 0 {
                    self.frozen.insert(step);
                    self.writing.insert(step);
                    return Message::Frozen { step };
                }
                self.open.remove(at);
                let was_writing = self.writing.remove(&step);
                let is_ok = self.dice(8) != 0;
                let is_export = matches!(self.case.build.step(step).action, StepAction::Export(_));
                let is_stored = (is_snapshot || is_export) && !is_ok && self.dice(2) == 0;
                if is_stored {
                    self.stored.insert(step);
                }
                self.end(step, if is_ok { End::Ran } else { End::Failed });
                self.stopped |= !is_ok && was_writing;
                Message::Ended { step, is_ok, is_stored }
            }
            Action::Take { step } => {
                self.open.remove(at);
                let is_ok = self.dice(10) != 0;
                self.end(step, if is_ok { End::Cached } else { End::Failed });
                Message::Taken { step, is_ok }
            }
            Action::Commit { segment } => {
                self.open.remove(at);
                self.committed.insert(segment);
                Message::Committed { segment, locked: Vec::new() }
            }
            other => panic!("{other:?} does not end"),
        }
    }

    fn outcome(&mut self, segment: usize, scheduler: &Scheduler<'_>) -> CheckOutcome {
        let parent = self.segments.built_on(&self.case.build, segment);
        let unwritten = parent.filter(|parent| !self.linked.contains(&parent.0));
        match self.dice(8) {
            0 => CheckOutcome::Failed,
            1..3 if unwritten.is_none() && !scheduler.has_unsettled_inputs(segment) => {
                self.fresh.insert(segment);
                CheckOutcome::Fresh
            }
            3 if let Some(until) = unwritten => CheckOutcome::Unknown { until },
            _ => {
                let steps = self.segments.get(segment).steps.len();
                let is_sequence = self.segments.get(segment).is_sequence(&self.case.build);
                let most = if is_sequence && unwritten.is_none() { steps - 1 } else { 0 };
                let stale = Stale {
                    resumed: self.dice(u32::try_from(most + 1).unwrap()) as usize,
                    has_parents: unwritten.is_none(),
                    is_for_parent: unwritten.is_some() && self.dice(2) == 0,
                    is_recordable: self.dice(4) != 0,
                    is_locked: self.dice(2) == 0,
                };
                self.stale.insert(segment, stale.clone());
                CheckOutcome::Stale(stale)
            }
        }
    }
}

fn scheduler<'a>(case: &'a Case, plan: &'a Plan, segments: &'a Segments) -> Scheduler<'a> {
    let shape = Shape {
        plan,
        segments,
        containers: case.build.steps.iter().map(|step| step.container).collect(),
        tests: case.build.steps.iter().map(Step::is_test).collect(),
        parents: (0..segments.all().len()).map(|index| segments.built_on(&case.build, index)).collect(),
        barriers: case.barriers.clone(),
        is_export: case.build.steps.iter().map(|step| matches!(step.action, StepAction::Export(_))).collect(),
        sees_output: Box::new(|step, snapshot| case.sees.contains(&(case.build.step(step).container.0, snapshot.0))),
    };
    Scheduler::new(shape, Limits { jobs: case.jobs, keep_going: case.keep_going, can_store: true })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_plan_ends_with_each_step_once_and_in_order_whatever_happens_and_in_any_order(case in any_case()) {
        let plan = Plan::new(&case.build, &[]);
        let segments = Segments::new(&case.build, &plan);
        let mut scheduler = scheduler(&case, &plan, &segments);
        let mut world = World {
            case: &case,
            plan: &plan,
            segments: &segments,
            dice: case.dice.iter().cycle(),
            open: Vec::new(),
            ends: BTreeMap::new(),
            frozen: BTreeSet::new(),
            stored: BTreeSet::new(),
            writing: BTreeSet::new(),
            stale: BTreeMap::new(),
            checks: 0,
            waiting: BTreeSet::new(),
            committing: BTreeSet::new(),
            committed: BTreeSet::new(),
            linked: BTreeSet::new(),
            fresh: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            closed: BTreeSet::new(),
            failed: false,
            stopped: false,
        };
        let mut cached: BTreeSet<StepId> = BTreeSet::new();
        let actions = scheduler.start();
        world.take(actions);
        while !world.open.is_empty() {
            let message = world.step(&scheduler);
            // A check that found its segment's layer below unwritten is made again where that is written by now.
            let is_again = match &message {
                Message::Checked { segment, outcome: CheckOutcome::Stale(stale) } => {
                    let parent = segments.built_on(&case.build, *segment);
                    stale.is_for_parent && parent.is_some_and(|parent| world.linked.contains(&parent.0))
                }
                _ => false,
            };
            if let (true, Message::Checked { segment, .. }) = (is_again, &message) {
                world.stale.remove(segment);
            }
            let checked = if let Message::Checked { segment, .. } = &message { Some(*segment) } else { None };
            let actions = scheduler.handle(message);
            let is_ready = |step: usize| scheduler.steps[step] == StepState::Ready && !case.build.steps[step].is_test();
            let runs_test = |step: &Step| step.is_test();
            let running = (0..case.build.steps.len()).filter(|step| scheduler.steps[*step] == StepState::Running);
            if running.map(|step| &case.build.steps[step]).any(runs_test) {
                prop_assert!(!(0..case.build.steps.len()).any(is_ready), "a test holds a step up");
            }
            cached.extend(checked.into_iter().flat_map(|segment| scheduler.cached_steps(segment)));
            world.take(actions);
        }
        for (step, end) in &world.ends {
            // One that is known to be in the store may be skipped, or fail to be taken from there.
            prop_assert!(if cached.contains(step) { *end != End::Ran } else { *end != End::Cached }, "{:?} {:?}", step, end);
        }
        prop_assert!(scheduler.is_finished() && !scheduler.has_bug());
        prop_assert_eq!(world.ends.len(), plan.order().len());
        let containers: BTreeSet<usize> = case.build.steps.iter().map(|step| step.container.0).collect();
        prop_assert_eq!(&world.closed, &containers);
        if !world.failed && !world.stopped {
            // Only tests have failed, and nothing but the steps that need these is skipped.
            let is_well = |step: &StepId| matches!(world.ends[step], End::Ran | End::Cached);
            for (step, end) in &world.ends {
                let all_well = plan.needs(*step).iter().all(is_well);
                prop_assert!(is_well(step) || *end == End::Failed || !all_well, "{:?} {:?}", step, end);
            }
        }
    }
}

#[test]
fn steps_that_nothing_can_begin_are_skipped_as_a_bug_and_waited_for_no_longer() {
    let steps: [(&str, usize, &[usize]); 3] = [("a", 0, &[]), ("b", 0, &[0]), ("c", 1, &[])];
    let build = build(&steps);
    let case =
        Case { build, barriers: vec![Vec::new(); 2], sees: BTreeSet::new(), jobs: 1, keep_going: false, dice: vec![] };
    let plan = Plan::new(&case.build, &[]);
    let segments = Segments::new(&case.build, &plan);
    let mut scheduler = scheduler(&case, &plan, &segments);
    for step in [0, 2] {
        scheduler.block(StepId(step), Blocker::CacheCheck);
    }
    let actions = scheduler.start();
    let skipped = actions.iter().filter(|action| matches!(action, Action::Skip { reason: SkipReason::Bug, .. }));
    assert_eq!(skipped.count(), 3);
    assert!(scheduler.is_finished() && scheduler.has_bug());
}
