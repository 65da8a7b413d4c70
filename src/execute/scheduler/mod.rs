//! The scheduler: takes messages and gives actions. It decides which step begins when, and has no I/O, thread or lock.
//!
//! A step begins when all that it needs is over, or frozen; when its segment is checked against the store; when no output is
//! being written that it sees; and when one of the `jobs` places is free. The scheduler checks a segment when its
//! first step may begin:
//!
//! - The layer below it may not be written by then. The segment waits for that layer only where its results may be in the store
//!   after all; otherwise its steps run at once.
//! - The same build may still write files of the host that the segment reads (`barriers`). The segment is checked when all steps
//!   are over that its steps wait for. Where those wait for the segment's own first steps, nobody can know which files the
//!   steps will read, and they run.
//!
//! A test begins after all other steps that may begin, and leaves a place for those that may follow (`test_places`). Its failure
//! ends nothing but the steps that need it.
//!
//! A segment's results are recorded once those of the segment below it are.

mod begin;
mod ends;
mod queue;
mod results;
mod segment;
mod test_places;

use std::collections::VecDeque;

use self::queue::Queues;
use self::segment::{Commit, SegmentState};
use self::test_places::TestPlaces;
use super::message::{Action, Message, SkipReason};
use crate::model::{ContainerId, StepId};
use crate::plan::{Plan, Segments};

/// Cache checks at once.
const MAX_CHECKS: usize = 4;

/// The plan as the scheduler needs it.
pub struct Shape<'a> {
    pub plan: &'a Plan,
    pub segments: &'a Segments,
    /// By step: its container.
    pub containers: Vec<ContainerId>,
    /// By step: whether it is a test.
    pub tests: Vec<bool>,
    /// By segment: the snapshot whose layer is directly below it.
    pub parents: Vec<Option<StepId>>,
    /// By segment: steps that may still write what it reads.
    pub barriers: Vec<Vec<StepId>>,
    /// By step: whether it is an export.
    pub is_export: Vec<bool>,
    /// Whether a step sees the output of a snapshot.
    pub sees_output: Box<dyn Fn(StepId, StepId) -> bool + 'a>,
}

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps at once.
    pub jobs: usize,
    /// After a failure, steps that do not need the failed one still begin.
    pub keep_going: bool,
    /// Steps can run: the store can be written to.
    pub can_store: bool,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StepState {
    /// It needs so many steps that are not over yet.
    Waiting(usize),
    /// It may begin.
    Ready,
    /// It may begin but for this.
    Blocked(Blocker),
    Running,
    /// It is frozen, and its image is being written.
    Written,
    Over,
}

/// An obstacle to a step that needs no other step any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocker {
    /// The cache check of its segment.
    CacheCheck,
    /// The image of this snapshot.
    ParentLayer(StepId),
    /// An output that is being written.
    Output,
    /// Steps that may write what its segment reads.
    Inputs,
}

/// The state of a run.
pub struct Scheduler<'a> {
    shape: Shape<'a>,
    limits: Limits,
    /// By step; those that are not planned are over.
    steps: Vec<StepState>,
    segments: Vec<SegmentState>,
    /// By step: the segments directly above the layer of that snapshot.
    children: Vec<Vec<usize>>,
    /// By step: the layer of that snapshot and all layers below it are known.
    is_linked: Vec<bool>,
    /// By step: its position in the plan's order.
    positions: Vec<usize>,
    /// The steps that may begin.
    queues: Queues,
    test_places: TestPlaces,
    /// Segments to check.
    unchecked: VecDeque<usize>,
    running: usize,
    checks: usize,
    waiting_checks: usize,
    commits: usize,
    writing: Vec<StepId>,
    /// Steps with [`Blocker::ParentLayer`], [`Blocker::Output`] or [`Blocker::Inputs`].
    blocked: Vec<StepId>,
    stopped: Option<SkipReason>,
    /// By container: its steps that are neither over nor frozen.
    open: Vec<usize>,
}

impl<'a> Scheduler<'a> {
    /// Returns one that has begun nothing.
    pub fn new(shape: Shape<'a>, limits: Limits) -> Self {
        let steps = shape.containers.len();
        let containers = shape.containers.iter().map(|container| container.0 + 1).max().unwrap_or(0);
        let mut scheduler = Self {
            steps: vec![StepState::Over; steps],
            segments: shape.segments.all().iter().map(|segment| SegmentState::new(segment.steps.len())).collect(),
            children: vec![Vec::new(); steps],
            is_linked: vec![false; steps],
            positions: vec![0; steps],
            queues: Queues::default(),
            test_places: TestPlaces::new(shape.plan, shape.tests.clone()),
            unchecked: VecDeque::new(),
            running: 0,
            checks: 0,
            waiting_checks: 0,
            commits: 0,
            writing: Vec::new(),
            blocked: Vec::new(),
            stopped: None,
            open: vec![0; containers],
            limits: Limits { jobs: limits.jobs.max(1), ..limits },
            shape,
        };
        for (segment, parent) in scheduler.shape.parents.iter().enumerate() {
            if let Some(parent) = parent {
                scheduler.children[parent.0].push(segment);
            }
        }
        for (position, step) in scheduler.shape.plan.order().iter().enumerate() {
            let needs = scheduler.shape.plan.needs(*step).len();
            scheduler.positions[step.0] = position;
            scheduler.open[scheduler.shape.containers[step.0].0] += 1;
            scheduler.steps[step.0] = StepState::Waiting(needs);
            if needs == 0 {
                scheduler.steps[step.0] = StepState::Ready;
                scheduler.queues.add(*step, position, scheduler.test_places.is_test(*step));
            }
        }
        scheduler
    }

    /// Returns the first actions.
    pub fn start(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.advance(&mut actions);
        actions
    }

    /// Returns the actions that follow from a message, in their order.
    pub fn handle(&mut self, message: Message) -> Vec<Action> {
        let mut actions = Vec::new();
        match message {
            Message::Checked { segment, outcome } => self.checked(segment, outcome, &mut actions),
            Message::CheckWaits { segment } => {
                if self.segments[segment].check_waits() {
                    self.checks -= 1;
                    self.waiting_checks += 1;
                }
            }
            Message::Frozen { step } => {
                self.running -= 1;
                self.writing.push(step);
                self.steps[step.0] = StepState::Written;
                self.release(step, &mut actions);
            }
            Message::Ended { step, is_ok, is_stored } => self.ended(step, is_ok, is_stored, &mut actions),
            Message::Taken { step, is_ok } => {
                self.running -= 1;
                if is_ok {
                    self.over(step, &mut actions);
                    if !self.shape.is_export[step.0] {
                        self.link(step, &mut actions);
                    }
                } else {
                    self.failed(step, &mut actions);
                }
            }
            Message::Committed { segment, locked } => {
                self.commits -= 1;
                self.segments[segment].commit = Commit::Done;
                for locked in locked {
                    self.segments[locked].is_locked = self.segments[locked].is_recordable;
                }
                if let Some(snapshot) = self.shape.segments.get(segment).snapshot {
                    for child in self.children[snapshot.0].clone() {
                        self.commit(child, &mut actions);
                    }
                }
            }
            Message::Stop { reason } => self.stop(reason, &mut actions),
        }
        self.advance(&mut actions);
        actions
    }

    /// Whether nothing will happen any more.
    pub fn is_finished(&self) -> bool {
        !self.is_under_way() && self.steps.iter().all(|step| *step == StepState::Over)
    }

    /// Whether a check must not wait for another runner: that runner may wait for a key that this one has locked, while nothing
    /// runs here.
    pub fn must_not_wait(&self) -> bool {
        let is_idle = self.running == 0 && self.writing.is_empty();
        self.stopped.is_some() || is_idle && self.segments.iter().any(SegmentState::is_awaited_by_others)
    }

    /// Whether it stopped for a bug: a thread panicked, or steps remained that nothing could begin.
    pub fn has_bug(&self) -> bool {
        self.stopped == Some(SkipReason::Bug)
    }

    /// Whether nothing more begins.
    pub fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the one running step is all that is under way.
    pub fn is_alone(&self) -> bool {
        self.running == 1 && self.writing.is_empty() && self.checks + self.waiting_checks + self.commits == 0
    }

    /// Whether a step is over, or was never planned.
    pub fn is_over(&self, step: StepId) -> bool {
        self.steps.get(step.0).is_none_or(|state| *state == StepState::Over)
    }

    /// Whether steps wait for the image of a snapshot.
    pub fn is_awaited(&self, snapshot: StepId) -> bool {
        self.blocked.iter().any(|step| self.steps[step.0] == StepState::Blocked(Blocker::ParentLayer(snapshot)))
    }

    /// Returns the steps of a segment whose results are in the store, as far as that is known.
    pub fn cached_steps(&self, segment: usize) -> &[StepId] {
        let steps = &self.shape.segments.get(segment).steps;
        &steps[..self.segments[segment].cached(steps.len())]
    }

    /// Whether a segment is checked although files that it reads may still be written.
    pub fn has_unsettled_inputs(&self, segment: usize) -> bool {
        self.segments[segment].ignores_barriers
    }

    /// Returns the steps that may still write what a segment reads.
    pub fn open_barriers(&self, segment: usize) -> impl Iterator<Item = StepId> {
        self.shape.barriers[segment].iter().copied().filter(|step| !self.is_over(*step))
    }

    /// How many steps a stale segment still has to end well, this one among them.
    pub fn open_steps(&self, segment: usize) -> usize {
        self.segments[segment].open
    }

    fn is_under_way(&self) -> bool {
        self.running + self.checks + self.waiting_checks + self.commits > 0 || !self.writing.is_empty()
    }
}

#[cfg(test)]
mod tests;
