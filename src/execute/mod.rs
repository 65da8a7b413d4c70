//! Runs a plan: owns all state of the run, starts sessions and steps, and tells what happens by events.
//!
//! One thread, the caller's, decides; each running step and each image being written has a thread of its own, which
//! reports its end. A layer snapshot reports twice: when its folder is frozen, for what comes next needs no more, and
//! when its image is written.

mod attempt;
mod interrupt;
mod output;
mod room;
mod step;
mod terminal;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

pub use attempt::Attempt;
pub use interrupt::Interrupt;
pub use room::Rooms;
pub use step::run;
pub use terminal::run_on_terminal;

use crate::build::{Action, Build, ContainerId, MountKind, SnapshotMode, StepId};
use crate::event::{BuildStatus, Event, Events, StepStatus};
use crate::plan::{Plan, Ready};
pub use crate::runtime::Outcome;
use crate::session::Workspace;
use crate::store::{BuildId, Lease, Store};

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
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub status: BuildStatus,
    /// A step failed by itself, and not only for what this host lacks.
    pub step_failed: bool,
}

/// Why a step failed, in words.
#[derive(Debug)]
struct Failure {
    reason: String,
    exit_code: Option<i32>,
    host: bool,
}

/// What a thread reports.
enum Report {
    /// All of a step is over.
    Done { step: StepId, started: Instant, result: Result<(), Failure>, log: Option<PathBuf> },
    /// What a snapshot holds is settled; its image is still being written.
    Frozen { step: StepId },
}

/// Runs the plan to its end.
pub fn apply<'a>(context: Context<'a>, plan: &Plan, options: Options, rooms: &Rooms<'a>, events: &Events) -> Summary {
    let begun = Instant::now();
    events.send(Event::BuildStarted { name: context.build.name.clone(), steps: plan.order().len() });
    let (sender, receiver) = mpsc::channel();
    let mut run = Run {
        context,
        plan,
        rooms,
        events,
        ready: Ready::new(plan, options.keep_going),
        held: VecDeque::new(),
        running: 0,
        writing: Vec::new(),
        closed: vec![false; context.build.containers.len()],
        counts: Counts::default(),
        keep_going: options.keep_going,
        step_failed: false,
    };
    thread::scope(|scope| run.drive(scope, options.jobs.max(1), &sender, &receiver));
    let status = match (context.interrupt.is_set(), run.counts.failed) {
        (true, _) => BuildStatus::Interrupted,
        (false, 0) => BuildStatus::Done,
        (false, _) => BuildStatus::Failed,
    };
    let Counts { ran, failed, skipped } = run.counts;
    events.send(Event::BuildFinished {
        status,
        ran,
        cached: 0,
        failed,
        skipped,
        duration_ms: milliseconds(begun.elapsed()),
    });
    Summary { status, step_failed: run.step_failed }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default)]
struct Counts {
    ran: usize,
    failed: usize,
    skipped: usize,
}

struct Run<'a, 'e> {
    context: Context<'a>,
    plan: &'e Plan,
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
            }
            while self.running < jobs {
                let Some(step) = self.next() else { break };
                self.running += 1;
                self.begin(scope, step, sender.clone());
            }
            self.close_sessions(scope);
            if self.running == 0 && self.writing.is_empty() {
                return;
            }
            // The sender above lives as long as this loop, so there is always a report to come.
            let Ok(report) = receiver.recv() else { return };
            self.take(report);
        }
    }

    /// A step that may begin now.
    fn next(&mut self) -> Option<StepId> {
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

    fn begin<'s>(&self, scope: &'s Scope<'s, '_>, id: StepId, sender: Sender<Report>)
    where
        'a: 's,
        'e: 's,
    {
        let (context, rooms, events) = (self.context, self.rooms, self.events);
        let (name, container) = self.names(id);
        scope.spawn(move || {
            let started = Instant::now();
            events.send(Event::StepStarted { step: name, container, attempt: 1 });
            let work = step::Work { context, rooms, events, id };
            let (result, log) = match &context.build.step(id).action {
                Action::Snapshot(snapshot) => {
                    let frozen = || {
                        let _ = sender.send(Report::Frozen { step: id });
                    };
                    // A full image is what its container goes on above, so nothing can run before it is written.
                    let behind = snapshot.mode == SnapshotMode::Layer;
                    (
                        work.snapshot(snapshot, || {
                            if behind {
                                frozen()
                            }
                        }),
                        None,
                    )
                }
                _ => work.process(),
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
                let status = if result.is_ok() { StepStatus::Ran } else { StepStatus::Failed };
                let (reason, exit_code) = match &result {
                    Ok(()) if log.is_some() => (None, Some(0)),
                    Ok(()) => (None, None),
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
                    Ok(()) => self.counts.ran += 1,
                    Err(failure) => {
                        self.counts.failed += 1;
                        self.step_failed |= !failure.host;
                        // What stands on an image that could not be written is worth nothing, so all ends then.
                        if !self.keep_going || was_writing.is_some() {
                            self.stop(&reason);
                        }
                    }
                }
            }
        }
    }

    /// Begins nothing more.
    fn stop(&mut self, reason: &str) {
        for step in std::mem::take(&mut self.held) {
            let skipped = self.ready.done(step, false);
            for step in std::iter::once(step).chain(skipped) {
                self.skipped(step, reason);
            }
        }
        for step in self.ready.stop() {
            self.skipped(step, reason);
        }
    }

    fn skipped(&mut self, step: StepId, reason: &str) {
        self.counts.skipped += 1;
        let (step, container) = self.names(step);
        let (status, reason) = (StepStatus::Skipped, Some(reason.to_owned()));
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
