//! The record of a finished build, gathered from its events: the data of every report.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::cache::key::Reason;
use crate::event::{BuildStatus, Event, Stamped, StepFailure, StepStatus, TestTotals};
use crate::graph::Mark;
use crate::image::Content;
use crate::model::StepId;

use super::ReportContext;
use super::words::{self, Counts};

/// The record of a build.
#[derive(Debug, Default, Serialize)]
pub(super) struct Record {
    pub(super) name: String,
    /// `None` if the build did not reach its end.
    pub(super) status: Option<BuildStatus>,
    #[serde(serialize_with = "rfc3339")]
    pub(super) begun: Option<SystemTime>,
    pub(super) duration_ms: u64,
    pub(super) ran: usize,
    pub(super) cached: usize,
    pub(super) failed: usize,
    /// The failed ones that the interruption of the build stopped.
    pub(super) stopped: usize,
    pub(super) skipped: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tests: Option<TestTotals>,
    /// The steps in the order in which they began, or finished without beginning.
    pub(super) steps: Vec<StepRecord>,
    pub(super) warnings: Vec<String>,
    #[serde(skip)]
    index: HashMap<String, usize>,
}

/// The record of a step.
#[derive(Debug, Default, Serialize)]
pub(super) struct StepRecord {
    pub(super) name: String,
    pub(super) container: String,
    /// `None` if no event reported the step's end.
    pub(super) status: Option<StepStatus>,
    pub(super) exit_code: Option<i32>,
    pub(super) reason: Option<String>,
    /// More about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Box<StepFailure>>,
    /// The reasons why the step was not taken from the store.
    pub(super) reasons: Vec<Reason>,
    /// `None` if the step did not begin.
    #[serde(serialize_with = "rfc3339")]
    pub(super) begun: Option<SystemTime>,
    pub(super) duration_ms: u64,
    /// The step is a test.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) test: bool,
    /// The number of attempts.
    pub(super) attempts: u32,
    #[serde(serialize_with = "optional_lossy")]
    pub(super) log: Option<PathBuf>,
    pub(super) snapshot: Option<SnapshotRecord>,
    /// The image in a registry, by its tag and its digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pushed: Option<PushRecord>,
    pub(super) warnings: Vec<String>,
}

/// The image of a step in a registry.
#[derive(Debug, Clone, Serialize)]
pub(super) struct PushRecord {
    /// Its tag and its digest.
    pub(super) image: String,
    /// Whether the tag led to another image before, or to none.
    pub(super) changed: bool,
}

impl PushRecord {
    /// Returns the words before the image.
    pub(super) fn words(&self) -> &'static str {
        if self.changed { "pushed" } else { "the registry has" }
    }
}

/// An image that a step wrote.
#[derive(Debug, Serialize)]
pub(super) struct SnapshotRecord {
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(serialize_with = "lossy")]
    pub(super) path: PathBuf,
    /// The sizes of the files in the image, if they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Content>,
}

impl Record {
    pub(super) fn event(&mut self, Stamped { time, event, .. }: &Stamped) {
        match event {
            Event::BuildStarted { name, .. } => (self.name, self.begun) = (name.clone(), Some(*time)),
            Event::StepStarted { step, container, attempt, reasons } => {
                let record = self.step(step);
                record.container.clone_from(container);
                record.attempts = *attempt;
                record.begun.get_or_insert(*time);
                if *attempt == 1 {
                    record.reasons.clone_from(reasons);
                }
            }
            Event::StepOutput { .. }
            | Event::StepWaits { .. }
            | Event::StepHasTurn { .. }
            | Event::StepLineGrows { .. }
            | Event::SnapshotProgress { .. }
            | Event::ImportStarted { .. }
            | Event::ImportProgress { .. }
            | Event::RequestWaits { .. }
            | Event::ImportFinished { .. }
            | Event::PushProgress { .. }
            | Event::CheckpointProgress { .. }
            | Event::CheckpointWritten { .. }
            | Event::CheckpointRestored { .. }
            | Event::StageReached { .. }
            | Event::BuildEstimated { .. } => {}
            Event::StepFinished { step, container, status, exit_code, duration_ms, test, log, reason, failure } => {
                let record = self.step(step);
                record.container.clone_from(container);
                record.status = Some(*status);
                record.exit_code = *exit_code;
                record.duration_ms = *duration_ms;
                record.test = *test;
                record.log.clone_from(log);
                record.reason.clone_from(reason);
                record.failure.clone_from(failure);
            }
            Event::SnapshotWritten { step, digest, size, path, .. } => {
                self.step(step).snapshot =
                    Some(SnapshotRecord { digest: digest.clone(), size: *size, path: path.clone(), content: None });
            }
            Event::ExportWritten { step, digest, size, path, .. } => {
                self.step(step).snapshot =
                    Some(SnapshotRecord { digest: digest.clone(), size: *size, path: path.clone(), content: None });
            }
            Event::ImagePushed { step, image, changed, .. } => {
                self.step(step).pushed = Some(PushRecord { image: image.clone(), changed: *changed })
            }
            Event::Warning { step: Some(step), message } => self.step(step).warnings.push(message.clone()),
            Event::Warning { step: None, message } => self.warnings.push(message.clone()),
            Event::BuildFinished { status, ran, cached, failed, stopped, skipped, tests, duration_ms, .. } => {
                self.tests = *tests;
                self.status = Some(*status);
                (self.ran, self.cached, self.skipped) = (*ran, *cached, *skipped);
                (self.failed, self.stopped) = (*failed, *stopped);
                self.duration_ms = *duration_ms;
            }
        }
    }

    /// Returns the numbers of steps as text.
    pub(super) fn counts(&self) -> Vec<String> {
        let Self { ran, cached, failed, stopped, skipped, .. } = *self;
        words::counts(Counts { ran, cached, failed, stopped, skipped })
    }

    fn step(&mut self, name: &str) -> &mut StepRecord {
        let at = match self.index.get(name) {
            Some(at) => *at,
            None => {
                self.index.insert(name.to_owned(), self.steps.len());
                self.steps.push(StepRecord { name: name.to_owned(), ..StepRecord::default() });
                self.steps.len() - 1
            }
        };
        &mut self.steps[at]
    }

    /// Returns the marks of a graph's steps.
    pub(super) fn marks(&self, context: &ReportContext) -> impl Fn(StepId) -> Mark {
        let mark = |name: &str| match self.index.get(name).and_then(|at| self.steps[*at].status) {
            Some(StepStatus::Ran) => Mark::Ran,
            Some(StepStatus::Cached) => Mark::Fresh,
            Some(StepStatus::Failed) => Mark::Failed,
            Some(StepStatus::Skipped) => Mark::Skipped,
            None => Mark::Due,
        };
        let marks: HashMap<StepId, Mark> = context.graph.steps().map(|(id, name)| (id, mark(name))).collect();
        move |step| marks.get(&step).copied().unwrap_or(Mark::Due)
    }
}

/// Serializes a path as text. Bytes that are not UTF-8 are replaced: a build must not lose its report because of a
/// directory's name.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    path.to_string_lossy().serialize(serializer)
}

fn optional_lossy<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

fn rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| humantime::format_rfc3339_millis(time).to_string()).serialize(serializer)
}
