//! Handles the messages of threads: reports and counts the end of each step, and gives its outcome to the scheduler.

use std::time::Duration;

use super::dispatcher::Dispatcher;
use super::failure::{Cause, Failure};
use super::message::{Action, CheckOutcome, Message, SkipReason};
use super::refusal::hint_of;
use super::segment_table::Checked;
use super::worker_message::{StepDone, WorkerMessage};
use crate::cache::CacheStatus;
use crate::cache::key::Reason;
use crate::event::milliseconds;
use crate::event::{Event, StepFailure, StepStage, StepStatus};
use crate::lock::FIX;
use crate::model::StepId;
use crate::plan::action;
use crate::store::StoreError;
use crate::written_through::WrittenThrough;

impl Dispatcher<'_, '_> {
    /// Handles a message of a thread. Returns the actions that follow.
    pub(super) fn handle(&mut self, message: WorkerMessage) -> Vec<Action> {
        let message = match message {
            WorkerMessage::Frozen { step } => {
                self.events.send(Event::StageReached { steps: vec![step], stage: StepStage::Frozen });
                Message::Frozen { step }
            }
            WorkerMessage::Done(done) => self.done(*done),
            WorkerMessage::Taken { step, result } => {
                let is_ok = result.is_ok();
                match result {
                    Ok(()) => {
                        self.totals.layers.extend(self.table.stored_layer(step).map(|layer| (step, layer)));
                        self.totals.exports.extend(self.table.stored_export(step).map(|export| (step, export)));
                        self.report_cached(step);
                    }
                    Err(failure) => self.report_failed(step, &failure),
                }
                Message::Taken { step, is_ok }
            }
            WorkerMessage::CheckWaits { segment } => Message::CheckWaits { segment },
            WorkerMessage::Checked { segment, result } => {
                let message = self.checked(segment, *result);
                let until = match &message {
                    Message::Checked { outcome: CheckOutcome::Unknown { until }, .. } => Some(*until),
                    _ => None,
                };
                let actions = self.scheduler.handle(message);
                self.report_stages(segment, until);
                return actions;
            }
            WorkerMessage::Committed { segment, locks } => {
                let mut locked = Vec::new();
                for (above, lock) in locks {
                    if self.table.add_lock(above, lock) {
                        locked.push(above);
                    }
                }
                Message::Committed { segment, locked }
            }
        };
        self.scheduler.handle(message)
    }

    fn done(&mut self, done: StepDone) -> Message {
        let StepDone { step, took, result, stored, exported, log, images } = done;
        let build = self.context.build;
        if build.settings(step).may_write_to_host() {
            self.checker.forget();
        }
        let (is_ok, is_stored) = (result.is_ok(), stored.is_some() || exported.is_some());
        if let Some(exported) = exported {
            self.totals.exports.push((step, exported.digest));
            self.table.add_exported(step, exported);
        }
        let (reason, exit_code) = match &result {
            Ok(None) => (None, Some(0)),
            Ok(Some(_)) => (None, None),
            Err(failure) => (Some(failure.reason.clone()), failure.exit_code),
        };
        let hint = match &result {
            Err(Failure { cause: Cause::Step, exit_code: Some(code), is_explained: false, .. }) => {
                hint_of(build, build.step(step), *code, log.as_deref())
            }
            Err(Failure { cause: Cause::Mismatch, .. }) => Some(FIX.to_owned()),
            _ => None,
        };
        let failure = result.as_ref().err().map(|failure| {
            Box::new(StepFailure {
                half_written: if failure.has_run { self.written_through(step) } else { Vec::new() },
                mismatched: failure.cause == Cause::Mismatch,
                stopped: failure.cause == Cause::Interrupt,
                ..self.failure(step, images.is_some(), hint)
            })
        });
        let (name, container) = self.names(step);
        let status = if is_ok { StepStatus::Ran } else { StepStatus::Failed };
        let duration_ms = milliseconds(took);
        let test = self.count_test(step, status);
        self.events.send(Event::StepFinished {
            step: name,
            container,
            status,
            exit_code,
            duration_ms,
            test,
            log,
            reason,
            failure,
        });
        match result {
            Ok(written) => {
                self.totals.ran += 1;
                self.ran.push((step, took));
                if let Some(written) = written {
                    self.totals.layers.push((step, written.digest));
                    self.table.add_written(step, written);
                }
            }
            Err(failure) => {
                self.totals.blame(&failure);
                if let Some(stored) = stored {
                    self.ran.push((step, took));
                    self.table.add_written(step, stored);
                }
                self.has_failed(step, &failure, images);
            }
        }
        Message::Ended { step, is_ok, is_stored }
    }

    fn checked(&mut self, segment: usize, result: Result<Checked, Failure>) -> Message {
        let mut checked = match result {
            Ok(checked) => checked,
            Err(failure) => {
                self.failure = Some(failure);
                return Message::Checked { segment, outcome: CheckOutcome::Failed };
            }
        };
        if self.scheduler.has_unsettled_inputs(segment) {
            self.make_stale(segment, &mut checked);
        }
        if let CacheStatus::Stale { resume: Some(resume), .. } = &checked.status
            && checked.until.is_none()
            && let Some(pin) = checked.pin.take()
        {
            let known = self.checker.segments().get(segment);
            let after = self.context.build.step(known.steps[resume.steps - 1]).name.clone();
            self.sessions.set_checkpoint(known.container, pin.path().to_owned(), after);
            self.sessions.checkpoints.pin(segment, resume.steps, pin);
        }
        Message::Checked { segment, outcome: self.table.add(segment, checked) }
    }

    /// Reports the steps of a checked segment whose results are in the store, and the snapshot whose image the segment waits for.
    fn report_stages(&self, segment: usize, until: Option<StepId>) {
        let cached = self.scheduler.cached_steps(segment);
        if !cached.is_empty() {
            self.events.send(Event::StageReached { steps: cached.to_vec(), stage: StepStage::Cached });
        }
        if let Some(snapshot) = until.filter(|snapshot| self.scheduler.is_awaited(*snapshot)) {
            self.events.send(Event::StageReached { steps: vec![snapshot], stage: StepStage::Awaited });
        }
    }

    /// Makes a segment run whose steps see files that are yet to be written: its record or checkpoint may come from the
    /// older files.
    fn make_stale(&self, segment: usize, checked: &mut Checked) {
        match &mut checked.status {
            CacheStatus::Stale { resume, .. } => {
                if resume.take().is_some() {
                    checked.pin = None;
                }
            }
            CacheStatus::Fresh(recorded) => {
                let steps = self.scheduler.open_barriers(segment);
                let steps = steps.map(|step| self.context.build.step(step).name.clone()).collect();
                let draft = Some(recorded.fields.without_base());
                let reasons = vec![Reason::InputUnsettled { steps }];
                checked.status = CacheStatus::Stale { reasons, checkpoints: draft.clone(), draft, resume: None };
                checked.pin = None;
            }
        }
    }

    /// Reports a step whose results are in the store.
    pub(super) fn report_cached(&mut self, step: StepId) {
        self.totals.cached += 1;
        self.report_not_run(step, StepStatus::Cached, None, None);
    }

    /// Reports a step that does not begin.
    pub(super) fn report_skipped(&mut self, step: StepId, reason: SkipReason) {
        self.totals.skipped += 1;
        let reason = match reason {
            SkipReason::Failed(step) => format!("{} failed", self.names(step).0),
            SkipReason::Stopped(step) => {
                format!("{} failed; `--keep-going` runs the steps that do not need it", self.names(step).0)
            }
            SkipReason::Interrupted => "the build was interrupted".to_owned(),
            SkipReason::Bug => "runner has a bug".to_owned(),
            SkipReason::NoParentLayer => "the layer that it is built on was not written".to_owned(),
        };
        self.report_not_run(step, StepStatus::Skipped, Some(reason), None);
    }

    /// Reports a step as failed whose segment could not be checked.
    pub(super) fn report_unchecked(&mut self, step: StepId) {
        if let Some(failure) = self.failure.take() {
            self.report_failed(step, &failure);
            self.failure = Some(failure);
        }
    }

    /// Reports a step as failed that would run, while the store cannot be written to.
    pub(super) fn report_read_only(&mut self, step: StepId) {
        let error = StoreError::ReadOnly { path: self.context.store.root().to_owned() };
        let why: Vec<String> = self.table.reasons(step).iter().map(Reason::to_string).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
        let hint = error.hint().unwrap_or_default();
        self.report_failed(step, &Failure::host(format!("{error}, and the step would run{why}; {hint}")));
    }

    /// Reports a step as failed that did not begin, for a reason outside of it.
    fn report_failed(&mut self, step: StepId, failure: &Failure) {
        self.totals.blame(failure);
        let mismatched = failure.cause == Cause::Mismatch;
        let known = self.failure(step, false, mismatched.then(|| FIX.to_owned()));
        let known = Box::new(StepFailure { mismatched, stopped: failure.cause == Cause::Interrupt, ..known });
        self.report_not_run(step, StepStatus::Failed, Some(failure.reason.clone()), Some(known));
    }

    /// Counts a step if it is a test. Returns whether it is one.
    fn count_test(&mut self, step: StepId, status: StepStatus) -> bool {
        let is_test = self.context.build.step(step).is_test();
        if is_test {
            self.totals.count_test(status);
        }
        is_test
    }

    fn report_not_run(
        &mut self,
        step: StepId,
        status: StepStatus,
        reason: Option<String>,
        failure: Option<Box<StepFailure>>,
    ) {
        let test = self.count_test(step, status);
        let (step, container) = self.names(step);
        let duration_ms = milliseconds(Duration::ZERO);
        self.events.send(Event::StepFinished {
            step,
            container,
            status,
            exit_code: None,
            duration_ms,
            test,
            log: None,
            reason,
            failure,
        });
    }

    fn written_through(&self, step: StepId) -> Vec<WrittenThrough> {
        WrittenThrough::all(&self.context.build.settings(step).mounts)
    }

    fn failure(&self, id: StepId, is_stored: bool, hint: Option<String>) -> StepFailure {
        let build = self.context.build;
        StepFailure {
            command: action(build, &build.step(id).action),
            place: self.places.of(build, id),
            kept: is_stored,
            hint,
            mismatched: false,
            stopped: false,
            half_written: Vec::new(),
        }
    }
}
