//! The messages by which threads report to the dispatcher, and the job of a step that ends with one.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::failed_session::Kept;
use super::failure::Failure;
use super::patience::Meanwhile;
use super::segment_table::Checked;
use super::step_context::Written;
use crate::model::StepId;
use crate::store::BuildLock;
use crate::threads::Crew;

/// A message of a thread.
pub(super) enum WorkerMessage {
    /// All of a step is over; a snapshot has written something.
    Done(Box<StepDone>),
    /// A snapshot that the store had is taken from it, or cannot be.
    Taken { step: StepId, result: Result<(), Failure> },
    /// A segment is checked.
    Checked { segment: usize, result: Box<Result<Checked, Failure>> },
    /// The check of a segment waits for another runner.
    CheckWaits { segment: usize },
    /// The results of a segment are in the store, or cannot be. With the locks on the keys of segments above it.
    Committed { segment: usize, locks: Vec<(usize, BuildLock)> },
    /// The content of a snapshot is settled; its image is still being written.
    Frozen { step: StepId },
}

/// The end of a step that was run.
pub(super) struct StepDone {
    pub(super) step: StepId,
    /// All its tries, without the work that was done for it afterwards.
    pub(super) took: Duration,
    pub(super) result: Result<Option<Written>, Failure>,
    /// The layer of a snapshot that is in the store, and as it should be, though the step failed.
    pub(super) stored: Option<Written>,
    pub(super) log: Option<PathBuf>,
    /// Its session, where that was stored.
    pub(super) kept: Option<Kept>,
}

/// Runs a step to its end.
pub(super) type StepJob<'s> = Box<dyn FnOnce(Meanwhile<'_>) -> WorkerMessage + Send + 's>;

/// Runs a step on another thread.
pub(super) fn hand<'s>(crew: &Crew<'s, '_>, job: StepJob<'s>, sender: Sender<WorkerMessage>) {
    crew.hand(move |_| {
        let _ = sender.send(job(&|| None));
    });
}
