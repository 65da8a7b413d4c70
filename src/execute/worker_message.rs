//! The messages by which threads report to the dispatcher, and the job of a step that ends with one.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::failed_session::FailedSessionImages;
use super::failure::Failure;
use super::segment_table::Checked;
use super::step_context::Written;
use crate::model::StepId;
use crate::store::{BuildLock, RecordedExport};
use crate::threads::Crew;

/// A message of a thread.
pub(super) enum WorkerMessage {
    /// A step has ended; a snapshot has written its layer.
    Done(Box<StepDone>),
    /// A snapshot's layer in the store is in use for it, or an export's content is at its output; or not.
    Taken { step: StepId, result: Result<(), Failure> },
    /// A segment was checked.
    Checked { segment: usize, result: Box<Result<Checked, Failure>> },
    /// The check of a segment waits for another runner.
    CheckWaits { segment: usize },
    /// The results of a segment are in the store, or cannot be recorded. With the locks on the keys of segments above
    /// it.
    Committed { segment: usize, locks: Vec<(usize, BuildLock)> },
    /// The content of a snapshot is final; its image is still being written.
    Frozen { step: StepId },
}

/// The end of a step that was run.
pub(super) struct StepDone {
    pub(super) step: StepId,
    /// The duration of all its attempts, without the work that was done for it afterwards.
    pub(super) took: Duration,
    pub(super) result: Result<Option<Written>, Failure>,
    /// The valid layer of a snapshot that is in the store although the step failed.
    pub(super) stored: Option<Written>,
    /// The content of an export in the store, also where the step failed.
    pub(super) exported: Option<RecordedExport>,
    pub(super) log: Option<PathBuf>,
    /// The images of its session, where they were written.
    pub(super) images: Option<FailedSessionImages>,
}

/// Runs a step to its end.
pub(super) type StepJob<'s> = Box<dyn FnOnce() -> WorkerMessage + Send + 's>;

/// Runs a step on another thread.
pub(super) fn hand<'s>(crew: &Crew<'s, '_>, job: StepJob<'s>, sender: Sender<WorkerMessage>) {
    crew.hand(move |_| {
        let _ = sender.send(job());
    });
}
