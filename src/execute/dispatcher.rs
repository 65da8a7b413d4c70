//! Drives a run: begins each step when it may begin, and does what its segment's state says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::{Clock, Stage};
use super::edge::{Edge, EndsWithPanic};
use super::ended::{Report, keep};
use super::failed::FailedWith;
use super::job::{StepJob, hand};
use super::judging::Judging;
use super::parts::{Admission, Chains, Parts};
use super::place::Places;
use super::step;
use super::{Context, Failure, Options, Rooms, Stay, Summary, milliseconds};
use crate::build::{Action, ContainerId, StepId};
use crate::digest::Digest;
use crate::event::{BuildStatus, Event, Events, StepStatus};
use crate::freshness::Judge;
use crate::key::Reason;
use crate::plan::{Plan, Ready};
use crate::store::StoreError;
use crate::threads::{Crew, On};
use crate::warning::{InputFix, NotKept, Warning};

/// Runs the plan to its end.
pub fn apply<'a>(
    context: Context<'a>,
    plan: &Plan,
    judge: &Judge<'_>,
    options: Options,
    rooms: &Rooms<'a>,
    events: &Events,
) -> Summary {
    let begun = Instant::now();
    let jobs = options.jobs.max(1);
    events.send(Event::BuildStarted { name: context.build.name.clone(), steps: plan.order().len() });
    let (sender, receiver) = mpsc::channel();
    let chains = Chains::default();
    let (hurry, is_stopping) = (AtomicBool::new(false), AtomicBool::new(false));
    let edge = Edge::default();
    let mut run = Run {
        context,
        edge: &edge,
        plan,
        judge,
        chains: &chains,
        rooms,
        events,
        parts: Parts::new(context.build, plan, judge.segments()),
        clock: Clock::new(context, jobs, begun),
        hurry: &hurry,
        stopped: None,
        is_stopping: &is_stopping,
        again: VecDeque::new(),
        beside: 0,
        ready: Ready::new(plan, options.keep_going),
        held: VecDeque::new(),
        running: 0,
        writing: Vec::new(),
        closed: vec![false; context.build.containers.len()],
        counts: Counts::default(),
        options,
        step_failed: false,
        mismatched: false,
        wrong_input: false,
        layers: Vec::new(),
        places: Places::default(),
        failed: Vec::new(),
        kept: Vec::new(),
        ran: Vec::new(),
    };
    thread::scope(|scope| {
        let _ends = EndsWithPanic(context.interrupt);
        let (crew, _dismissal) = Crew::new(scope);
        run.drive(&crew, jobs, &sender, &receiver);
    });
    run.keep_failed();
    let continues = run.continuations();
    run.clock.close();
    let status = match (context.interrupt.is_set(), run.counts.failed) {
        (true, _) => BuildStatus::Interrupted,
        (false, 0) if !edge.has_panicked() => BuildStatus::Done,
        (false, _) => BuildStatus::Failed,
    };
    let Counts { ran, cached, failed, skipped } = run.counts;
    events.send(Event::BuildFinished {
        status,
        ran,
        cached,
        failed,
        skipped,
        duration_ms: milliseconds(begun.elapsed()),
        continues,
    });
    let Run { step_failed, mismatched, wrong_input, failed, layers, .. } = run;
    Summary { status, step_failed, mismatched, wrong_input, panicked: edge.has_panicked(), failed, layers }
}

/// Steps by how they ended.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) ran: usize,
    pub(super) cached: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
}

/// All state of a run.
pub(super) struct Run<'a, 'e> {
    pub(super) context: Context<'a>,
    /// Has the panics of threads reported.
    pub(super) edge: &'e Edge,
    pub(super) plan: &'e Plan,
    pub(super) judge: &'e Judge<'e>,
    pub(super) chains: &'e Chains,
    pub(super) parts: Parts<'e>,
    pub(super) clock: Clock<'a>,
    /// Tells threads that wait for another runner to wait no longer.
    pub(super) hurry: &'e AtomicBool,
    /// Why nothing more is begun.
    pub(super) stopped: Option<String>,
    /// The same, for threads: nothing more is begun.
    pub(super) is_stopping: &'e AtomicBool,
    /// Steps that were held back and may begin now.
    pub(super) again: VecDeque<StepId>,
    /// Threads that judge and record, which take no place of a step.
    pub(super) beside: usize,
    pub(super) rooms: &'e Rooms<'a>,
    pub(super) events: &'e Events,
    pub(super) ready: Ready<'e>,
    /// Steps that may begin but for an image that they could see being written.
    pub(super) held: VecDeque<StepId>,
    pub(super) running: usize,
    /// Snapshots that are frozen and being written.
    pub(super) writing: Vec<StepId>,
    pub(super) closed: Vec<bool>,
    pub(super) counts: Counts,
    pub(super) options: Options,
    pub(super) step_failed: bool,
    pub(super) mismatched: bool,
    pub(super) wrong_input: bool,
    pub(super) layers: Vec<(StepId, Digest)>,
    pub(super) places: Places,
    /// Steps that failed by themselves.
    pub(super) failed: Vec<StepId>,
    /// Those of them whose sessions are being kept.
    pub(super) kept: Vec<FailedWith>,
    /// Steps that ran and ended well, and how long each took.
    pub(super) ran: Vec<(StepId, Duration)>,
}

impl<'a, 'e> Run<'a, 'e> {
    fn drive<'s>(&mut self, crew: &Crew<'s, '_>, jobs: usize, sender: &Sender<Report>, receiver: &Receiver<Report>)
    where
        'a: 's,
        'e: 's,
    {
        loop {
            let mut last: Option<(StepId, StepJob<'s>)> = None;
            if self.context.interrupt.is_set() {
                self.stop("the build was interrupted");
            } else if let Some(reason) = self.stopped.clone() {
                // What was being judged or waited for may begin now, and must not.
                self.stop(&reason);
            }
            if self.edge.has_panicked() {
                self.stop("runner has a bug");
            }
            // Nothing that begins now is to go by the last wait, in which this runner may have been stuck.
            self.hurry.store(self.stopped.is_some(), Ordering::Relaxed);
            while self.running < jobs {
                let Some(step) = self.next() else { break };
                let Some(job) = self.admit(crew, step, sender) else { continue };
                if let Some((_, before)) = last.replace((step, job)) {
                    hand(crew, before, sender.clone());
                }
            }
            self.close_sessions(crew);
            if let Some((step, job)) = last {
                if self.is_alone(step) {
                    // A report from another thread would take two wake-ups, as much as many a step.
                    let run = RefCell::new(&mut *self);
                    let report = job(&|| run.borrow_mut().estimate_in_time());
                    self.take(report);
                    self.settle(crew, sender);
                    continue;
                }
                hand(crew, job, sender.clone());
            }
            if self.running == 0 && self.writing.is_empty() && self.beside == 0 {
                self.again.extend(self.parts.unsettle());
                if self.again.is_empty() {
                    return;
                }
                continue;
            }
            // What others wait for here must not wait for them.
            let is_stuck = self.running == 0 && self.writing.is_empty() && self.parts.is_any_built();
            self.hurry.store(is_stuck || self.stopped.is_some(), Ordering::Relaxed);
            // The sender above lives as long as this loop, so there is always a report to come.
            let Some(report) = self.report(receiver) else { return };
            self.take(report);
            self.settle(crew, sender);
        }
    }

    /// Whether a step that begins now is all that there is to do until its end. A snapshot reports before it has ended.
    fn is_alone(&self, step: StepId) -> bool {
        let is_snapshot = matches!(self.context.build.step(step).action, Action::Snapshot(_));
        !is_snapshot && self.running == 1 && self.writing.is_empty() && self.beside == 0
    }

    /// Reports how much is left, where that is due, and returns when it is due again.
    fn estimate_in_time(&mut self) -> Option<Instant> {
        if self.clock.due()? <= Instant::now() {
            self.estimate();
        }
        self.clock.due()
    }

    /// What a thread reports next. Tells while it waits how long what is left takes.
    fn report(&mut self, receiver: &Receiver<Report>) -> Option<Report> {
        while let Some(due) = self.clock.due() {
            let left = due.saturating_duration_since(Instant::now());
            match receiver.recv_timeout(left) {
                // Reports without a pause must not keep it from telling.
                Ok(report) if !left.is_zero() => return Some(report),
                Ok(report) => {
                    self.estimate();
                    return Some(report);
                }
                Err(RecvTimeoutError::Timeout) => self.estimate(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        receiver.recv().ok()
    }

    fn estimate(&mut self) {
        let Self { clock, ready, parts, writing, plan, .. } = self;
        let estimated = clock.estimate(plan, |step| {
            if writing.contains(&step) {
                Some(Stage::Written { is_awaited: parts.is_awaited(step) })
            } else if ready.is_over(step) || parts.is_cached(step) {
                None
            } else {
                Some(Stage::Open)
            }
        });
        if let Some(estimated) = estimated {
            self.events.send(estimated);
        }
    }

    /// Does with a step what its segment's state says. Returns the job of one that begins.
    fn admit<'s>(&mut self, crew: &Crew<'s, '_>, step: StepId, sender: &Sender<Report>) -> Option<StepJob<'s>>
    where
        'a: 's,
        'e: 's,
    {
        let sender = sender.clone();
        match self.parts.admit(step, self.chains) {
            Admission::Wait => {}
            Admission::Judge(segment) => {
                self.beside += 1;
                let Self { context, edge, judge, rooms, chains, events, hurry, .. } = *self;
                crew.hand(move |on| {
                    // On this thread there is nobody to end its wait for another runner.
                    static AT_ONCE: AtomicBool = AtomicBool::new(true);
                    let hurry = if on == On::Callers { &AT_ONCE } else { hurry };
                    let judging = Judging { context, judge, rooms, chains, events, segment, hurry };
                    let result = Box::new(edge.guard(|| judging.run()));
                    let _ = sender.send(Report::Judged { segment, result });
                });
            }
            Admission::Run(reasons, _) if self.context.store.is_read_only() => self.cannot_write(step, &reasons),
            Admission::Run(reasons, checkpoint) => {
                self.running += 1;
                self.clock.begins(step);
                return Some(self.begin(crew, step, reasons, checkpoint, sender));
            }
            Admission::Cached => {
                self.counts.cached += 1;
                self.finished(step, StepStatus::Cached, None);
                self.ready.done(step, true);
            }
            Admission::CachedSnapshot(recorded) => {
                self.running += 1;
                let held = self.parts.take_held(step);
                let (work, edge) = (self.work(step), self.edge);
                let segments = self.judge.segments();
                let before = segments.of_step(step).and_then(|index| segments.before(index));
                crew.hand(move |_| {
                    let result = edge.guard(|| work.take_from_store(&recorded, before, held));
                    let _ = sender.send(Report::Taken { step, result });
                });
            }
        }
        None
    }

    /// A step would run, and nothing of it could be stored.
    fn cannot_write(&mut self, step: StepId, reasons: &[Reason]) {
        let error = StoreError::ReadOnly { path: self.context.store.root().to_owned() };
        let why: Vec<String> = reasons.iter().map(Reason::to_string).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
        let hint = error.hint().unwrap_or_default();
        self.failed(step, &Failure::host(format!("{error}, and the step would run{why}; {hint}")));
    }

    pub(super) fn work(&self, id: StepId) -> step::Work<'a, 'e> {
        let Self { context, judge, rooms, events, .. } = *self;
        step::Work { context, judge, rooms, events, id }
    }

    /// Records what has become known, and lets begin what has waited for it.
    fn settle<'s>(&mut self, crew: &Crew<'s, '_>, sender: &Sender<Report>)
    where
        'a: 's,
        'e: 's,
    {
        let settled = self.parts.settle(self.judge, self.chains, self.context.store);
        let (to_record, ready) = settled.unwrap_or_else(|error| {
            self.events.warn(None, &Warning::NotJudged { why: Failure::from(error).reason });
            (Vec::new(), Vec::new())
        });
        self.again.extend(ready);
        for record in to_record {
            self.beside += 1;
            let Self { judge, context, rooms, events, edge, .. } = *self;
            let sender = sender.clone();
            crew.hand(move |_| {
                let step = record.recorded.steps.last().cloned().unwrap_or_default();
                let kept = edge.guard(|| Ok(keep(judge, context, rooms, record)));
                let not_kept = |failure: Failure| Warning::NotKept {
                    step,
                    why: NotKept::Failed { why: failure.reason },
                    fix: InputFix::None,
                };
                if let Err(warning) = kept.map_err(not_kept).flatten() {
                    events.warn(None, &warning);
                }
                let _ = sender.send(Report::Recorded);
            });
        }
        // With nothing under way nothing more becomes known.
        if self.parts.is_any_waiting() && self.running == 0 && self.writing.is_empty() && self.beside == 0 {
            for step in self.parts.give_up() {
                self.give_up(step, "the layer that it is built on was not written");
            }
        }
    }

    /// A step that was handed out is not begun.
    pub(super) fn give_up(&mut self, step: StepId, reason: &str) {
        let skipped = self.ready.done(step, false);
        for step in std::iter::once(step).chain(skipped) {
            self.skipped(step, reason);
        }
    }

    /// A step that may begin now.
    fn next(&mut self) -> Option<StepId> {
        if let Some(step) = self.again.pop_front() {
            return Some(step);
        }
        if let Some(index) = self.held.iter().position(|step| !self.must_wait(*step)) {
            return self.held.remove(index);
        }
        while let Some(step) = self.ready.next() {
            if !self.must_wait(step) {
                return Some(step);
            }
            self.held.push_back(step);
        }
        None
    }

    /// Whether the step's container can see an image that is being written: what the step would find there would be a
    /// matter of luck.
    fn must_wait(&self, step: StepId) -> bool {
        let container = self.context.build.step(step).container;
        self.writing.iter().any(|writing| self.context.paths.shows_output(container, *writing))
    }

    pub(super) fn names(&self, id: StepId) -> (String, String) {
        let step = self.context.build.step(id);
        (step.name.clone(), self.context.build.container(step.container).name.clone())
    }

    /// Closes each session whose last step is over, while others run.
    fn close_sessions<'s>(&mut self, crew: &Crew<'s, '_>)
    where
        'a: 's,
        'e: 's,
    {
        for index in 0..self.closed.len() {
            let id = ContainerId(index);
            let steps = self.plan.session(id);
            if self.closed[index] || !steps.iter().all(|step| self.ready.is_over(*step)) {
                continue;
            }
            self.closed[index] = true;
            let stays = match self.options.stay {
                Stay::None => false,
                Stay::Container(container) => container == id,
                Stay::Failed => self.failed.iter().any(|step| self.context.build.step(*step).container == id),
            };
            if stays {
                continue;
            }
            let (rooms, events, edge) = (self.rooms, self.events, self.edge);
            let container = self.context.build.container(id).name.clone();
            crew.hand(move |_| {
                if let Err(failure) = edge.guard(|| Ok(rooms.close(id)?)) {
                    events.warn(None, &Warning::Session { container, why: failure.reason });
                }
            });
        }
    }
}
