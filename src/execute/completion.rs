//! What becomes of a step that has ended, of those that wait for it, and of what it gave.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::drive::Run;
use super::failed::Kept;
use super::parts::{Judged, ToRecord};
use super::refusal::hint_of;
use super::step::Written;
use super::{Cause, Context, Failure, Rooms, milliseconds};
use crate::build::{Build, Checkpointing, StepId};
use crate::content::ContentError;
use crate::event::{Event, StepFailure, StepStatus};
use crate::freshness::{Judge, JudgeError, Since, Verdict};
use crate::key::{Fields, Reason};
use crate::lock::FIX;
use crate::named_paths::unordered_binds;
use crate::plan::{Plan, Unordered, action};
use crate::store::{Store, StoreError};
use crate::warning::{InputFix, MissingOrder, NotKept, Warning};
use crate::written_through::WrittenThrough;

/// What a thread reports.
pub(super) enum Report {
    /// All of a step is over; a snapshot has written something.
    Done(Box<Done>),
    /// A step is over that the store had.
    Taken { step: StepId, result: Result<(), Failure> },
    /// A segment is judged.
    Judged { segment: usize, result: Box<Result<Judged, Failure>> },
    /// What a segment gave is in the store, or cannot be.
    Recorded,
    /// What a snapshot holds is settled; its image is still being written.
    Frozen { step: StepId },
}

/// How a step ended that was run.
pub(super) struct Done {
    pub(super) step: StepId,
    /// All its tries, and nothing that was done for it afterwards.
    pub(super) took: Duration,
    pub(super) result: Result<Option<Written>, Failure>,
    /// The layer of a snapshot that is in the store, and as it should be, though the step failed.
    pub(super) stored: Option<Written>,
    pub(super) log: Option<PathBuf>,
    /// Its session, where that was kept.
    pub(super) kept: Option<Kept>,
}

impl Run<'_, '_> {
    /// A thread has reported.
    pub(super) fn take(&mut self, report: Report) {
        match report {
            Report::Frozen { step } => {
                self.running -= 1;
                self.clock.frozen(step);
                self.writing.push(step);
                self.ready.done(step, true);
            }
            Report::Done(done) => {
                let Done { step, took, result, stored, log, kept } = *done;
                let was_writing = self.writing.iter().position(|writing| *writing == step);
                match was_writing {
                    Some(index) => drop(self.writing.swap_remove(index)),
                    None => self.running -= 1,
                }
                if self.context.build.container(self.context.build.step(step).container).may_write_to_host() {
                    self.judge.forget();
                }
                self.parts.ended(step, result.is_ok() || stored.is_some());
                let status = if result.is_ok() { StepStatus::Ran } else { StepStatus::Failed };
                let (reason, exit_code) = match &result {
                    Ok(None) => (None, Some(0)),
                    Ok(Some(_)) => (None, None),
                    Err(failure) => (Some(failure.reason.clone()), failure.exit_code),
                };
                let hint = match &result {
                    Err(Failure { cause: Cause::Step, exit_code: Some(code), is_explained: false, .. }) => {
                        hint_of(self.context.build, self.context.build.step(step), *code, log.as_deref())
                    }
                    Err(Failure { cause: Cause::Mismatch, .. }) => Some(FIX.to_owned()),
                    _ => None,
                };
                let failure = result.as_ref().err().map(|failure| StepFailure {
                    half_written: if failure.has_run { self.written_through(step) } else { Vec::new() },
                    mismatched: failure.cause == Cause::Mismatch,
                    ..self.failure(step, kept.is_some(), hint)
                });
                let (name, container) = self.names(step);
                let duration_ms = milliseconds(took);
                self.events.send(Event::StepFinished {
                    step: name.clone(),
                    container,
                    status,
                    exit_code,
                    duration_ms,
                    log,
                    reason,
                    failure: failure.map(Box::new),
                });
                let reason = format!("{name} failed");
                for skipped in self.ready.done(step, result.is_ok()) {
                    self.skipped(skipped, &reason);
                }
                match result {
                    Ok(written) => {
                        self.counts.ran += 1;
                        self.clock.ran(step, duration_ms);
                        self.ran.push((step, took));
                        self.layers.extend(written.as_ref().map(|written| (step, written.digest)));
                        self.parts.ran(step, written);
                    }
                    Err(failure) => {
                        self.counts.failed += 1;
                        self.blame(&failure);
                        if stored.is_some() {
                            self.ran.push((step, took));
                            self.parts.ran(step, stored);
                        }
                        self.has_failed(step, &failure, kept);
                        // What stands on an image that could not be written is worth nothing, so all ends then.
                        if !self.options.keep_going || was_writing.is_some() {
                            self.stop(&reason);
                        }
                    }
                }
            }
            Report::Taken { step, result } => {
                self.running -= 1;
                match result {
                    Ok(()) => {
                        self.parts.taken(step, self.judge, self.chains);
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
                        // What its steps see is yet to be written: a checkpoint may hold work on what was there before.
                        if self.parts.is_unsettled(segment)
                            && let Verdict::Stale { resume, .. } = &mut judged.verdict
                            && resume.take().is_some()
                        {
                            judged.held = None;
                        }
                        let resumed = match &judged.verdict {
                            Verdict::Stale { resume: Some(resume), .. } => Some(resume.steps),
                            _ => None,
                        };
                        if let Some(steps) = resumed
                            && let Some(held) = judged.held.take_if(|_| judged.wait_for.is_none())
                        {
                            let known = self.judge.segments().get(segment);
                            let after = self.context.build.step(known.steps[steps - 1]).name.clone();
                            self.rooms.set_seed(known.container, held.path().to_owned(), after);
                            self.rooms.checkpoints.hold(segment, steps, held);
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
    pub(super) fn failed(&mut self, step: StepId, failure: &Failure) {
        self.counts.failed += 1;
        self.blame(failure);
        let mismatched = failure.cause == Cause::Mismatch;
        let known = self.failure(step, false, mismatched.then(|| FIX.to_owned()));
        let known = StepFailure { mismatched, ..known };
        self.not_begun(step, StepStatus::Failed, Some(failure.reason.clone()), Some(Box::new(known)));
        let reason = format!("{} failed", self.names(step).0);
        for skipped in self.ready.done(step, false) {
            self.skipped(skipped, &reason);
        }
        if !self.options.keep_going {
            self.stop(&reason);
        }
    }

    fn blame(&mut self, failure: &Failure) {
        self.step_failed |= failure.cause == Cause::Step;
        self.mismatched |= failure.cause == Cause::Mismatch;
        self.wrong_input |= failure.cause == Cause::Input;
    }

    /// Begins nothing more.
    pub(super) fn stop(&mut self, reason: &str) {
        self.stopped.get_or_insert_with(|| reason.to_owned());
        self.is_stopping.store(true, Ordering::Relaxed);
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

    pub(super) fn skipped(&mut self, step: StepId, reason: &str) {
        self.counts.skipped += 1;
        self.finished(step, StepStatus::Skipped, Some(reason.to_owned()));
    }

    /// Tells the end of a step that was not begun.
    pub(super) fn finished(&mut self, step: StepId, status: StepStatus, reason: Option<String>) {
        let failure = (status == StepStatus::Failed).then(|| Box::new(self.failure(step, false, None)));
        self.not_begun(step, status, reason, failure);
    }

    fn not_begun(
        &mut self,
        step: StepId,
        status: StepStatus,
        reason: Option<String>,
        failure: Option<Box<StepFailure>>,
    ) {
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
            failure,
        });
    }

    fn written_through(&self, step: StepId) -> Vec<WrittenThrough> {
        WrittenThrough::all(&self.context.build.container(self.context.build.step(step).container).mounts)
    }

    fn failure(&self, id: StepId, kept: bool, hint: Option<String>) -> StepFailure {
        let build = self.context.build;
        let command = action(build, &build.step(id).action);
        StepFailure {
            command,
            place: self.places.of(build, id),
            kept,
            hint,
            mismatched: false,
            half_written: Vec::new(),
        }
    }
}

/// The order that would have kept a step of another container from writing one of these inputs of a segment.
fn missing_order(judge: &Judge<'_>, build: &Build, segment: usize, inputs: &[&str]) -> Option<Box<MissingOrder>> {
    let reader = judge.segments().get(segment).container;
    let is_it = |unordered: &&Unordered| {
        unordered.reader == reader && inputs.iter().any(|input| unordered.target == Path::new(input))
    };
    let all = unordered_binds(build, &Plan::new(build, &[]));
    all.iter().find(is_it).map(|unordered| Box::new(MissingOrder::of(build, unordered)))
}

/// Records what a segment gave, unless what its key was made from has changed meanwhile.
pub(super) fn keep(
    judge: &Judge<'_>,
    context: Context<'_>,
    rooms: &Rooms<'_>,
    record: ToRecord,
) -> Result<(), Warning> {
    let Context { build, store, .. } = context;
    let ToRecord { segment, draft, below, recorded, building } = record;
    let step = recorded.steps.last().cloned().unwrap_or_default();
    let not_kept = |why, fix| Warning::NotKept { step: step.clone(), why, fix };
    let failed = |failure: Failure, fix| not_kept(NotKept::Failed { why: failure.reason }, fix);
    let fix_of = |targets: &[&str], otherwise| match missing_order(judge, build, segment, targets) {
        Some(order) => InputFix::Order(order),
        None => Some(judge.own_inputs(segment)).filter(|own| !own.is_empty()).map_or(otherwise, InputFix::Own),
    };
    let changed = judge.changed_since(segment, &draft, &below);
    let changed = changed.map_err(|error| {
        let is_changing = matches!(&error, JudgeError::Content(ContentError::Changing { .. }));
        failed(error.into(), if is_changing { fix_of(&[], InputFix::None) } else { InputFix::None })
    })?;
    match changed {
        Some(Since::Changed(reasons)) => {
            let inputs = reasons.iter().filter_map(|reason| match reason {
                Reason::InputChanged { target, .. } => Some(target.as_str()),
                _ => None,
            });
            let inputs: Vec<&str> = inputs.collect();
            let fix = if inputs.is_empty() { InputFix::None } else { fix_of(&inputs, InputFix::Ignore) };
            let reasons = reasons.iter().map(Reason::to_string).collect();
            return Err(not_kept(NotKept::Changed { reasons }, fix));
        }
        Some(Since::ChangedBack(inputs)) => {
            let targets: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let fix = fix_of(&targets, InputFix::None);
            return Err(not_kept(NotKept::ChangedBack { inputs }, fix));
        }
        None => {}
    }
    let reports = judge.own_reports(segment);
    if !reports.is_empty() {
        return Err(not_kept(NotKept::WillChange, InputFix::Own(reports)));
    }
    store.record(&recorded, judge.project()).map_err(|error| failed(error.into(), InputFix::None))?;
    // Not before: whoever waits for it looks for the record.
    drop(building);
    if judge.segments().get(segment).snapshot.is_some() {
        rooms.checkpoints.end(segment);
        // The image of one that cannot be removed is removed by a collection.
        let _ = remove_checkpoints(judge, build, store, segment, &draft.on(&below));
    }
    Ok(())
}

/// Removes the checkpoints of a segment whose snapshot is in the store: nothing continues from them any more.
fn remove_checkpoints(
    judge: &Judge<'_>,
    build: &Build,
    store: &Store,
    segment: usize,
    fields: &Fields,
) -> Result<(), StoreError> {
    let segment = judge.segments().get(segment);
    if build.container(segment.container).checkpoint == Checkpointing::Off {
        return Ok(());
    }
    for (n, step) in segment.steps.iter().enumerate() {
        if store.has_checkpoint(&build.name, &build.step(*step).name) {
            store.remove_checkpoint(&fields.of_checkpoint(n + 1).key())?;
        }
    }
    Ok(())
}
