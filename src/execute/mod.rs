//! Runs a plan: owns all state of the run, starts sessions and steps, and tells what happens by events.
//!
//! One thread, the caller's, decides; each running step, each image being written and each segment being judged or
//! recorded has a thread of its own, which reports its end. A layer snapshot reports twice: when its folder is frozen, for
//! what comes next needs no more, and when its image is written.

mod attempt;
mod interrupt;
mod judging;
mod output;
mod parts;
mod room;
mod step;
mod terminal;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

pub use attempt::Attempt;
pub use interrupt::Interrupt;
pub use room::Rooms;
pub use step::run;
pub use terminal::run_on_terminal;

use crate::build::{Action, Build, ContainerId, MountKind, SnapshotMode, StepId};
use crate::digest::Digest;
use crate::event::{BuildStatus, Event, Events, StepStatus};
use crate::freshness::{Judge, Verdict};
use crate::key::Reason;
use crate::lock::Lock;
use crate::plan::{Plan, Ready};
pub use crate::runtime::Outcome;
use crate::session::Workspace;
use crate::store::{BuildId, Lease, Store};
use judging::Judging;
use parts::{Admission, Chains, CheckpointPlan, Judged, Parts, ToRecord};
use step::Written;

/// How a plan is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Steps at once, at least one.
    pub jobs: usize,
    /// After a failure, goes on with what does not depend on it.
    pub keep_going: bool,
}

/// What a run works with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The build.
    pub build: &'a Build,
    /// Where layers, logs and caches are.
    pub store: &'a Store,
    /// What this process answers for.
    pub lease: &'a Lease,
    /// Where sessions live.
    pub workspace: &'a Workspace,
    /// Ends the run early.
    pub interrupt: &'a Interrupt,
    /// Names the folder of the logs.
    pub build_id: &'a BuildId,
    /// What snapshots are held to.
    pub locked: Option<&'a Lock>,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub status: BuildStatus,
    /// A step failed by itself, and not only for what this host lacks.
    pub step_failed: bool,
    /// A snapshot is not as it is locked.
    pub mismatched: bool,
    /// The layer of each snapshot that was written or was in the store, by the order of their ends.
    pub layers: Vec<(StepId, Digest)>,
}

/// Why a step failed, in words.
#[derive(Debug)]
struct Failure {
    reason: String,
    exit_code: Option<i32>,
    cause: Cause,
}

/// What is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// What the step ran.
    Step,
    /// This host.
    Host,
    /// What came out is not as it is locked.
    Mismatch,
}

/// What a thread reports.
enum Report {
    /// All of a step is over; a snapshot has written something.
    Done { step: StepId, started: Instant, result: Result<Option<Written>, Failure>, log: Option<PathBuf> },
    /// A step is over that the store had.
    Taken { step: StepId, result: Result<(), Failure> },
    /// A segment is judged.
    Judged { segment: usize, result: Box<Result<Judged, Failure>> },
    /// What a segment gave is in the store, or cannot be.
    Recorded,
    /// What a snapshot holds is settled; its image is still being written.
    Frozen { step: StepId },
}

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
    events.send(Event::BuildStarted { name: context.build.name.clone(), steps: plan.order().len() });
    let (sender, receiver) = mpsc::channel();
    let chains = Chains::default();
    let hurry = AtomicBool::new(false);
    let mut run = Run {
        context,
        plan,
        judge,
        chains: &chains,
        rooms,
        events,
        parts: Parts::new(context.build, plan, judge.segments()),
        hurry: &hurry,
        stopped: None,
        again: VecDeque::new(),
        beside: 0,
        ready: Ready::new(plan, options.keep_going),
        held: VecDeque::new(),
        running: 0,
        writing: Vec::new(),
        closed: vec![false; context.build.containers.len()],
        counts: Counts::default(),
        keep_going: options.keep_going,
        step_failed: false,
        mismatched: false,
        layers: Vec::new(),
    };
    thread::scope(|scope| run.drive(scope, options.jobs.max(1), &sender, &receiver));
    let status = match (context.interrupt.is_set(), run.counts.failed) {
        (true, _) => BuildStatus::Interrupted,
        (false, 0) => BuildStatus::Done,
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
    });
    Summary { status, step_failed: run.step_failed, mismatched: run.mismatched, layers: run.layers }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default)]
struct Counts {
    ran: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
}

struct Run<'a, 'e> {
    context: Context<'a>,
    plan: &'e Plan,
    judge: &'e Judge<'e>,
    chains: &'e Chains,
    parts: Parts<'e>,
    /// Tells threads that wait for another runner to wait no longer.
    hurry: &'e AtomicBool,
    /// Why nothing more is begun.
    stopped: Option<String>,
    /// Steps that were held back and may begin now.
    again: VecDeque<StepId>,
    /// Threads that judge and record, which take no place of a step.
    beside: usize,
    rooms: &'e Rooms<'a>,
    events: &'e Events,
    ready: Ready<'e>,
    /// Steps that may begin but for an image that they could see being written.
    held: VecDeque<StepId>,
    running: usize,
    /// Snapshots that are frozen and being written.
    writing: Vec<StepId>,
    closed: Vec<bool>,
    counts: Counts,
    keep_going: bool,
    step_failed: bool,
    mismatched: bool,
    layers: Vec<(StepId, Digest)>,
}

impl<'a, 'e> Run<'a, 'e> {
    fn drive<'s>(&mut self, scope: &'s Scope<'s, '_>, jobs: usize, sender: &Sender<Report>, receiver: &Receiver<Report>)
    where
        'a: 's,
        'e: 's,
    {
        loop {
            if self.context.interrupt.is_set() {
                self.stop("the build was interrupted");
            } else if let Some(reason) = self.stopped.clone() {
                // What was being judged or waited for may begin now, and must not.
                self.stop(&reason);
            }
            while self.running < jobs {
                let Some(step) = self.next() else { break };
                self.admit(scope, step, sender);
            }
            self.close_sessions(scope);
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
            let Ok(report) = receiver.recv() else { return };
            self.take(report);
            self.settle(scope, sender);
        }
    }

    /// Does with a step what its segment's state says.
    fn admit<'s>(&mut self, scope: &'s Scope<'s, '_>, step: StepId, sender: &Sender<Report>)
    where
        'a: 's,
        'e: 's,
    {
        let sender = sender.clone();
        match self.parts.admit(step, self.judge, self.chains) {
            Admission::Wait => {}
            Admission::Judge(segment) => {
                self.beside += 1;
                let Self { context, judge, rooms, chains, events, hurry, .. } = *self;
                let judging = Judging { context, judge, rooms, chains, events, segment, hurry };
                scope.spawn(move || {
                    let _ = sender.send(Report::Judged { segment, result: Box::new(judging.run()) });
                });
            }
            Admission::Run(reasons, checkpoint) => {
                self.running += 1;
                self.begin(scope, step, reasons, checkpoint, sender);
            }
            Admission::Cached => {
                self.counts.cached += 1;
                self.finished(step, StepStatus::Cached, None);
                self.ready.done(step, true);
            }
            Admission::CachedSnapshot(recorded) => {
                self.running += 1;
                let held = self.parts.take_held(step);
                let work = self.work(step);
                let segments = self.judge.segments();
                let before = segments.of_step(step).and_then(|index| segments.before(index));
                scope.spawn(move || {
                    let _ = sender.send(Report::Taken { step, result: work.take_from_store(&recorded, before, held) });
                });
            }
        }
    }

    fn work(&self, id: StepId) -> step::Work<'a, 'e> {
        let Self { context, judge, rooms, events, .. } = *self;
        step::Work { context, judge, rooms, events, id }
    }

    /// Records what has become known, and lets begin what has waited for it.
    fn settle<'s>(&mut self, scope: &'s Scope<'s, '_>, sender: &Sender<Report>)
    where
        'a: 's,
        'e: 's,
    {
        let settled = self.parts.settle(self.judge, self.chains, self.context.store);
        let (to_record, ready) = settled.unwrap_or_else(|error| {
            self.events.send(Event::Warning { step: None, message: Failure::from(error).reason });
            (Vec::new(), Vec::new())
        });
        self.again.extend(ready);
        for record in to_record {
            self.beside += 1;
            let (judge, store, events, sender) = (self.judge, self.context.store, self.events, sender.clone());
            scope.spawn(move || {
                if let Err(message) = keep(judge, store, record) {
                    events.send(Event::Warning { step: None, message });
                }
                let _ = sender.send(Report::Recorded);
            });
        }
        // With nothing under way nothing more becomes known.
        if self.parts.is_any_waiting() && self.running == 0 && self.writing.is_empty() && self.beside == 0 {
            for step in self.parts.give_up() {
                self.give_up(step, "what it stands on was not written");
            }
        }
    }

    /// A step that was handed out is not begun.
    fn give_up(&mut self, step: StepId, reason: &str) {
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

    /// Whether the step's container binds a folder in which an image is being written: what the step would find there
    /// would be a matter of luck.
    fn must_wait(&self, step: StepId) -> bool {
        let container = self.context.build.container(self.context.build.step(step).container);
        self.writing.iter().any(|writing| {
            let Action::Snapshot(snapshot) = &self.context.build.step(*writing).action else { return false };
            snapshot.output.as_ref().is_some_and(|output| {
                container
                    .mounts
                    .iter()
                    .any(|mount| matches!(&mount.kind, MountKind::Bind(source) if output.starts_with(source)))
            })
        })
    }

    fn begin<'s>(
        &self,
        scope: &'s Scope<'s, '_>,
        id: StepId,
        reasons: Vec<Reason>,
        checkpoint: Option<CheckpointPlan>,
        sender: Sender<Report>,
    ) where
        'a: 's,
        'e: 's,
    {
        let (context, events) = (self.context, self.events);
        let (name, container) = self.names(id);
        let work = self.work(id);
        scope.spawn(move || {
            let started = Instant::now();
            events.send(Event::StepStarted { step: name, container, attempt: 1, reasons });
            let (result, log) = match &context.build.step(id).action {
                Action::Snapshot(snapshot) => {
                    let frozen = || {
                        // A full image is what its container goes on above, so nothing can run before it is written.
                        if snapshot.mode == SnapshotMode::Layer {
                            let _ = sender.send(Report::Frozen { step: id });
                        }
                    };
                    (work.snapshot(snapshot, frozen).map(Some), None)
                }
                _ => {
                    let (result, log) = work.process();
                    if let (Ok(()), Some(plan)) = (&result, checkpoint) {
                        work.checkpoint(&plan, started.elapsed());
                    }
                    (result.map(|()| None), log)
                }
            };
            let _ = sender.send(Report::Done { step: id, started, result, log });
        });
    }

    fn names(&self, id: StepId) -> (String, String) {
        let step = self.context.build.step(id);
        (step.name.clone(), self.context.build.container(step.container).name.clone())
    }

    fn take(&mut self, report: Report) {
        match report {
            Report::Frozen { step } => {
                self.running -= 1;
                self.writing.push(step);
                self.ready.done(step, true);
            }
            Report::Done { step, started, result, log } => {
                let was_writing = self.writing.iter().position(|writing| *writing == step);
                match was_writing {
                    Some(index) => drop(self.writing.swap_remove(index)),
                    None => self.running -= 1,
                }
                if self.context.build.container(self.context.build.step(step).container).may_write_to_host() {
                    self.judge.forget();
                }
                self.parts.ended(step, result.is_ok());
                let status = if result.is_ok() { StepStatus::Ran } else { StepStatus::Failed };
                let (reason, exit_code) = match &result {
                    Ok(_) if log.is_some() => (None, Some(0)),
                    Ok(_) => (None, None),
                    Err(failure) => (Some(failure.reason.clone()), failure.exit_code),
                };
                let (name, container) = self.names(step);
                let duration_ms = milliseconds(started.elapsed());
                self.events.send(Event::StepFinished {
                    step: name.clone(),
                    container,
                    status,
                    exit_code,
                    duration_ms,
                    log,
                    reason,
                });
                let reason = format!("{name} failed");
                for skipped in self.ready.done(step, result.is_ok()) {
                    self.skipped(skipped, &reason);
                }
                match result {
                    Ok(written) => {
                        self.counts.ran += 1;
                        self.layers.extend(written.as_ref().map(|written| (step, written.digest)));
                        self.parts.ran(step, written);
                    }
                    Err(failure) => {
                        self.counts.failed += 1;
                        self.blame(&failure);
                        // What stands on an image that could not be written is worth nothing, so all ends then.
                        if !self.keep_going || was_writing.is_some() {
                            self.stop(&reason);
                        }
                    }
                }
            }
            Report::Taken { step, result } => {
                self.running -= 1;
                let result = result.and_then(|()| Ok(self.parts.taken(step, self.judge, self.chains)?));
                match result {
                    Ok(()) => {
                        self.counts.cached += 1;
                        let layer = self.parts.layer_of(step);
                        self.layers.extend(layer.map(|layer| (step, layer)));
                        self.finished(step, StepStatus::Cached, None);
                        self.ready.done(step, true);
                    }
                    Err(failure) => self.failed(step, &failure),
                }
            }
            Report::Judged { segment, result } => {
                self.beside -= 1;
                match *result {
                    Ok(mut judged) => {
                        let resumes = matches!(&judged.verdict, Verdict::Stale { resume: Some(_), .. });
                        if let Some(held) = judged.held.take_if(|_| resumes && judged.wait_for.is_none()) {
                            let container = self.judge.segments().get(segment).container;
                            self.rooms.set_seed(container, held.path().to_owned());
                            self.rooms.keep(Some(held));
                        }
                        self.again.extend(self.parts.judged(segment, judged, self.chains));
                    }
                    Err(failure) => {
                        for step in self.parts.not_judged(segment) {
                            self.failed(step, &failure);
                        }
                    }
                }
            }
            Report::Recorded => self.beside -= 1,
        }
    }

    /// A step that did not begin has failed, for something outside it.
    fn failed(&mut self, step: StepId, failure: &Failure) {
        self.counts.failed += 1;
        self.blame(failure);
        self.finished(step, StepStatus::Failed, Some(failure.reason.clone()));
        let reason = format!("{} failed", self.names(step).0);
        for skipped in self.ready.done(step, false) {
            self.skipped(skipped, &reason);
        }
        if !self.keep_going {
            self.stop(&reason);
        }
    }

    fn blame(&mut self, failure: &Failure) {
        self.step_failed |= failure.cause == Cause::Step;
        self.mismatched |= failure.cause == Cause::Mismatch;
    }

    /// Begins nothing more.
    fn stop(&mut self, reason: &str) {
        self.stopped.get_or_insert_with(|| reason.to_owned());
        let waiting = self.parts.give_up();
        let held = std::mem::take(&mut self.held);
        let again = std::mem::take(&mut self.again);
        for step in held.into_iter().chain(again).chain(waiting) {
            self.give_up(step, reason);
        }
        for step in self.ready.stop() {
            self.skipped(step, reason);
        }
    }

    fn skipped(&mut self, step: StepId, reason: &str) {
        self.counts.skipped += 1;
        self.finished(step, StepStatus::Skipped, Some(reason.to_owned()));
    }

    /// Tells the end of a step that was not begun.
    fn finished(&mut self, step: StepId, status: StepStatus, reason: Option<String>) {
        self.parts.ended(step, status == StepStatus::Cached);
        let (step, container) = self.names(step);
        self.events.send(Event::StepFinished {
            step,
            container,
            status,
            exit_code: None,
            duration_ms: 0,
            log: None,
            reason,
        });
    }

    /// Closes each session whose last step is over, while others run.
    fn close_sessions<'s>(&mut self, scope: &'s Scope<'s, '_>)
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
            let (rooms, events) = (self.rooms, self.events);
            let name = self.context.build.container(id).name.clone();
            scope.spawn(move || {
                if let Err(error) = rooms.close(id) {
                    events.send(Event::Warning { step: None, message: format!("container {name}: {error}") });
                }
            });
        }
    }
}

/// Records what a segment gave, unless what its key was made from has changed meanwhile.
fn keep(judge: &Judge<'_>, store: &Store, record: ToRecord) -> Result<(), String> {
    let ToRecord { segment, draft, below, recorded, building } = record;
    let step = recorded.steps.last().cloned().unwrap_or_default();
    let told = |error: &dyn std::fmt::Display| format!("{step} is not kept for the next build: {error}");
    let changed = judge.changed_since(segment, &draft, &below).map_err(|error| told(&Failure::from(error).reason))?;
    if let Some(changed) = changed {
        let is_input = |reason: &Reason| matches!(reason, Reason::InputChanged { .. });
        let mend = match changed.iter().any(is_input) {
            true => "; a `.runnerignore` there can name what the steps do not read",
            false => "",
        };
        let changed: Vec<String> = changed.iter().map(Reason::to_string).collect();
        return Err(told(&format!("it changed while it was built: {}{mend}", changed.join("; "))));
    }
    store.record(&recorded).map_err(|error| told(&error))?;
    // Not before: whoever waits for it looks for the record.
    drop(building);
    Ok(())
}
