//! What becomes of each segment while a plan runs: it is judged, and then taken from the store, or run and recorded.
//!
//! A segment is judged when the first of its steps may begin. What it stands on may be frozen and not yet written then:
//! it waits for that only if it could be fresh after all, and runs at once where something else has changed.
//!
//! What a segment reads of the host may be written by the same build before a later one of its steps: it is judged when
//! all steps that these wait for are over. Where they wait for its own first steps in turn, nobody can say what will be
//! read, and it runs.
//!
//! Who runs a segment holds the right to build its key, so that other runners wait for it. A key that becomes known while
//! the segment is running already is taken before what is below it is recorded: only then do others come to know it.
//!
//! Who holds such a right and has nothing running, for the next step waits for one of a segment that another holds, does
//! not wait: the other could be waiting for the same reason.

mod settle;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::step::Written;
use crate::build::{Build, Checkpointing, StepId};
use crate::digest::Digest;
use crate::freshness::{Below, Judge, Verdict};
use crate::key::{Fields, Link, Reason};
use crate::plan::{Plan, Segments, late};
use crate::store::{Building, Held, Recorded};

/// What snapshots stand on, each with itself, as far as they are written.
#[derive(Debug, Default)]
pub struct Chains(Mutex<HashMap<StepId, Vec<Link>>>);

impl Chains {
    /// Of a snapshot that is written or fresh.
    pub fn get(&self, snapshot: StepId) -> Option<Vec<Link>> {
        self.lock().get(&snapshot).cloned()
    }

    fn insert(&self, snapshot: StepId, links: Vec<Link>) {
        self.lock().insert(snapshot, links);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, Vec<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a judging thread found out.
#[derive(Debug)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The links below, by which it was judged.
    pub below: Below,
    /// The right to build it, where it is stale and its key is known.
    pub building: Option<Building>,
    /// It may be fresh once this snapshot is written.
    pub wait_for: Option<StepId>,
    /// Its layer, where it is fresh and has one: kept from being removed.
    pub held: Option<Held>,
}

/// What is to be done with a step that may begin.
#[derive(Debug)]
pub enum Admission {
    /// Its segment is to be judged first; the step waits.
    Judge(usize),
    /// It waits for its segment's verdict.
    Wait,
    /// What it did is in a layer of the store, or in the checkpoint that the session begins with.
    Cached,
    /// It is a snapshot that is in the store.
    CachedSnapshot(Arc<Recorded>),
    /// It is to be run, for these reasons.
    Run(Vec<Reason>, Option<CheckpointPlan>),
}

/// A checkpoint after a step, should it be due.
#[derive(Debug, Clone)]
pub struct CheckpointPlan {
    /// Whose.
    pub of: Arc<CheckpointedSegment>,
    /// How many steps of the segment have been done then.
    pub steps: usize,
    /// The snapshot comes next: the checkpoint is of use only where that is not begun.
    pub is_before_snapshot: bool,
}

/// A segment whose steps checkpoints can come after.
#[derive(Debug)]
pub struct CheckpointedSegment {
    pub segment: usize,
    /// The fields of the keys, but for the number of steps and the links below.
    pub draft: Fields,
    pub below: Vec<Link>,
}

/// A segment that is run and is to be recorded.
#[derive(Debug)]
pub struct ToRecord {
    pub segment: usize,
    pub draft: Fields,
    pub below: Vec<Link>,
    pub recorded: Recorded,
    /// Given back when all is recorded.
    pub building: Option<Building>,
}

#[derive(Debug)]
enum State {
    Unjudged,
    Judging(Vec<StepId>),
    Fresh(Arc<Recorded>, Option<Held>),
    Runs(Box<Runs>),
}

#[derive(Debug)]
struct Runs {
    reasons: Vec<Reason>,
    draft: Option<Fields>,
    /// The fields under whose key checkpoints are stored.
    checkpoints: Option<Fields>,
    /// The same with all that is below, once a step has asked for it.
    checkpointed: Option<Arc<CheckpointedSegment>>,
    building: Option<Building>,
    begun: Instant,
    /// How many of its first steps are in a checkpoint.
    resumed: usize,
    /// Steps that have not ended well.
    open: usize,
    written: Option<Written>,
}

/// The state of all segments of a plan.
#[derive(Debug)]
pub struct Parts<'a> {
    build: &'a Build,
    segments: &'a Segments,
    states: Vec<State>,
    /// By segment: the links below by which it was judged, where they were known. Asked for again, they could be others: a
    /// base can be replaced while the segment runs.
    below: Vec<Option<Vec<Link>>>,
    /// Steps that wait for a snapshot to be written, before their segment is judged again.
    waiting: Vec<(StepId, StepId)>,
    /// By segment: steps that are to be over before it is judged.
    late: Vec<Vec<StepId>>,
    /// Steps that are over, well or not; a snapshot when it is written.
    over: HashSet<StepId>,
    /// Steps that wait for those in `late`.
    early: Vec<StepId>,
    /// Segments whose `late` will never be over.
    unsettled: HashSet<usize>,
}

impl<'a> Parts<'a> {
    pub fn new(build: &'a Build, plan: &Plan, segments: &'a Segments) -> Self {
        let states = segments.all().iter().map(|_| State::Unjudged).collect();
        let below = vec![None; segments.all().len()];
        let late = late(build, plan, segments);
        let (waiting, early) = (Vec::new(), Vec::new());
        Self { build, segments, states, below, waiting, late, over: HashSet::new(), early, unsettled: HashSet::new() }
    }

    /// The links below a segment, as far as they are known: those by which it was judged, else those of a snapshot that
    /// was written since.
    fn below(&self, index: usize, chains: &Chains) -> Option<Vec<Link>> {
        self.below[index].clone().or_else(|| chains.get(self.segments.stands_on(self.build, index)?))
    }

    /// A step may begin.
    pub fn admit(&mut self, step: StepId, chains: &Chains) -> Admission {
        let Some(index) = self.segments.of_step(step) else { return Admission::Run(Vec::new(), None) };
        let is_settled = self.is_settled(index);
        match &mut self.states[index] {
            State::Unjudged if !is_settled => {
                self.early.push(step);
                return Admission::Wait;
            }
            state @ State::Unjudged => {
                *state = State::Judging(vec![step]);
                return Admission::Judge(index);
            }
            State::Judging(held) => {
                held.push(step);
                return Admission::Wait;
            }
            State::Fresh(..) | State::Runs(_) => {}
        }
        match &self.states[index] {
            State::Fresh(recorded, _) if self.segments.get(index).snapshot == Some(step) => {
                Admission::CachedSnapshot(Arc::clone(recorded))
            }
            State::Runs(runs) if !self.is_resumed(index, step) => {
                let reasons = runs.reasons.clone();
                Admission::Run(reasons, self.checkpoint(index, step, chains))
            }
            _ => Admission::Cached,
        }
    }

    /// Whether steps wait for that snapshot to be written.
    pub fn is_awaited(&self, snapshot: StepId) -> bool {
        self.waiting.iter().any(|(_, awaited)| *awaited == snapshot)
    }

    /// Whether what the step gives is in the store, as far as that is known.
    pub fn is_cached(&self, step: StepId) -> bool {
        self.segments
            .of_step(step)
            .is_some_and(|index| matches!(self.states[index], State::Fresh(..)) || self.is_resumed(index, step))
    }

    fn is_resumed(&self, index: usize, step: StepId) -> bool {
        let State::Runs(runs) = &self.states[index] else { return false };
        self.segments.get(index).steps[..runs.resumed].contains(&step)
    }

    /// The checkpoint after a step; none where none can be taken: the container has none, or steps run beside each other, so
    /// that there is no such moment.
    fn checkpoint(&mut self, index: usize, step: StepId, chains: &Chains) -> Option<CheckpointPlan> {
        let segment = self.segments.get(index);
        let State::Runs(runs) = &self.states[index] else { return None };
        let of = match &runs.checkpointed {
            Some(of) => Arc::clone(of),
            // Once a segment: one may have a thousand steps, and its key names each of them.
            None => {
                let draft = runs.checkpoints.as_ref()?;
                let is_off = self.build.container(segment.container).checkpoint == Checkpointing::Off;
                let of = if is_off || !segment.is_sequence(self.build) {
                    None
                } else {
                    let below = self.below(index, chains)?;
                    Some(Arc::new(CheckpointedSegment { segment: index, draft: draft.clone(), below }))
                };
                let State::Runs(runs) = &mut self.states[index] else { return None };
                if of.is_none() {
                    runs.checkpoints = None;
                }
                runs.checkpointed = of;
                Arc::clone(runs.checkpointed.as_ref()?)
            }
        };
        let State::Runs(runs) = &self.states[index] else { return None };
        // All before it in the sequence are done.
        let steps = segment.steps.len() + 1 - runs.open;
        debug_assert_eq!(segment.steps.get(steps - 1), Some(&step));
        // Of steps that are cut off from their snapshot, more follow another time.
        let left = segment.steps.len().checked_sub(steps + usize::from(segment.snapshot.is_some()))?;
        let is_before_snapshot = left == 0 && segment.snapshot.is_some();
        (left > 0 || is_before_snapshot || segment.is_cut).then_some(CheckpointPlan { of, steps, is_before_snapshot })
    }

    /// A segment was judged; gives the steps that waited for it and may begin now.
    pub fn judged(&mut self, index: usize, judged: Judged, chains: &Chains) -> Vec<StepId> {
        let held = match std::mem::replace(&mut self.states[index], State::Unjudged) {
            State::Judging(held) => held,
            _ => Vec::new(),
        };
        if let Some(snapshot) = judged.wait_for {
            if chains.get(snapshot).is_none() {
                self.waiting.extend(held.into_iter().map(|step| (step, snapshot)));
                return Vec::new();
            }
            // Written meanwhile: they are admitted again, and the segment is judged by what is known now.
            return held;
        }
        let is_unwritten = |reason: &Reason| matches!(reason, Reason::BelowIsBuilt { .. });
        let was_unwritten =
            matches!(&judged.verdict, Verdict::Stale { reasons, .. } if reasons.iter().any(is_unwritten));
        let on = self.segments.stands_on(self.build, index);
        if was_unwritten && on.is_some_and(|snapshot| chains.get(snapshot).is_some()) {
            // The same: run as it is, it would be without the right to build its key.
            return held;
        }
        let verdict = match judged.verdict {
            Verdict::Fresh(recorded) if self.unsettled.contains(&index) => {
                let steps = self.late[index].iter().filter(|step| !self.over.contains(*step));
                let steps = steps.map(|step| self.build.step(*step).name.clone()).collect();
                let draft = Some(recorded.fields.without_below());
                let reasons = vec![Reason::InputUnsettled { steps }];
                Verdict::Stale { reasons, checkpoints: draft.clone(), draft, resume: None }
            }
            verdict => verdict,
        };
        if let Below::Known(below) = judged.below {
            self.below[index] = Some(below);
        }
        self.states[index] = match verdict {
            Verdict::Fresh(recorded) => State::Fresh(Arc::from(recorded), judged.held),
            Verdict::Stale { reasons, draft, checkpoints, resume } => State::Runs(Box::new(Runs {
                resumed: resume.as_ref().map_or(0, |resume| resume.steps),
                reasons,
                draft,
                checkpoints,
                checkpointed: None,
                building: judged.building,
                begun: Instant::now(),
                open: self.segments.get(index).steps.len() - resume.as_ref().map_or(0, |resume| resume.steps),
                written: None,
            })),
        };
        held
    }

    /// A segment cannot be judged; gives the steps that waited for it.
    pub fn not_judged(&mut self, index: usize) -> Vec<StepId> {
        match std::mem::replace(&mut self.states[index], State::Unjudged) {
            State::Judging(held) => held,
            _ => Vec::new(),
        }
    }

    /// Steps that wait for a snapshot, which will never be written: all of them.
    pub fn give_up(&mut self) -> Vec<StepId> {
        self.waiting.drain(..).map(|(step, _)| step).chain(self.early.drain(..)).collect()
    }

    /// A step is over, well or not. What it is a part of is not kept if not, and others may build that.
    pub fn ended(&mut self, step: StepId, well: bool) {
        self.over.insert(step);
        if let Some(index) = self.segments.of_step(step).filter(|_| !well)
            && let State::Runs(runs) = &mut self.states[index]
        {
            (runs.draft, runs.checkpoints, runs.checkpointed, runs.building) = (None, None, None, None);
        }
    }

    /// Whether others wait for a segment that is not done.
    pub fn is_any_built(&self) -> bool {
        self.states.iter().any(|state| matches!(state, State::Runs(runs) if runs.open > 0 && runs.building.is_some()))
    }

    fn is_settled(&self, index: usize) -> bool {
        self.unsettled.contains(&index) || self.late[index].iter().all(|step| self.over.contains(step))
    }

    /// Whether a segment is judged before all that its steps see is written.
    pub fn is_unsettled(&self, index: usize) -> bool {
        self.unsettled.contains(&index)
    }

    /// Nothing is under way: the steps that wait for others to be over begin without.
    pub fn unsettle(&mut self) -> Vec<StepId> {
        let early = std::mem::take(&mut self.early);
        let segments = early.iter().filter_map(|step| self.segments.of_step(*step));
        let segments: Vec<usize> = segments.collect();
        if !segments.iter().any(|index| self.is_settled(*index)) {
            // One at a time, for what it does may be all that another one waits for.
            self.unsettled.extend(segments.first());
        }
        early
    }

    /// Whether any step waits for a snapshot to be written.
    pub fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What the store has of the segment that a step is in, if that is fresh.
    fn recorded(&self, step: StepId) -> Option<&Recorded> {
        match &self.states[self.segments.of_step(step)?] {
            State::Fresh(recorded, _) => Some(recorded),
            _ => None,
        }
    }

    /// Gives the hold on a fresh snapshot's layer to whoever goes on to use it.
    pub fn take_held(&mut self, step: StepId) -> Option<Held> {
        match &mut self.states[self.segments.of_step(step)?] {
            State::Fresh(_, held) => held.take(),
            _ => None,
        }
    }

    /// The layer of a snapshot that is in the store.
    pub fn layer_of(&self, step: StepId) -> Option<Digest> {
        let is_snapshot = self.segments.get(self.segments.of_step(step)?).snapshot == Some(step);
        self.recorded(step)?.layer.as_ref().filter(|_| is_snapshot).map(|layer| layer.digest)
    }

    /// A step of the store is done with: a snapshot's layer is what others stand on.
    pub fn taken(&mut self, step: StepId, judge: &Judge<'_>, chains: &Chains) {
        if let (Some(index), Some(layer)) = (self.segments.of_step(step), self.layer_of(step))
            && let Some(below) = self.below(index, chains)
        {
            chains.insert(step, judge.above(step, &below, &layer));
        }
    }

    /// A step that was run ended well; a snapshot with what it wrote.
    pub fn ran(&mut self, step: StepId, written: Option<Written>) {
        let Some(index) = self.segments.of_step(step) else { return };
        if let State::Runs(runs) = &mut self.states[index] {
            runs.open -= 1;
            runs.written = written.or(runs.written.take());
        }
    }
}
