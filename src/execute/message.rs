//! The messages that the scheduler takes, and the actions that it returns: identities and outcomes, without results.

use crate::model::{ContainerId, StepId};

/// An event that the scheduler decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The cache check of a segment has ended.
    Checked { segment: usize, outcome: CheckOutcome },
    /// The cache check of a segment waits for another runner, which builds the same key: it does not count as a running
    /// check.
    CheckWaits { segment: usize },
    /// The layer of a snapshot is complete as a directory; its image is still being written.
    Frozen { step: StepId },
    /// A step that was run has ended. The layer of a snapshot, or an export, may be in the store although the step failed.
    Ended { step: StepId, is_ok: bool, is_stored: bool },
    /// A snapshot or an export has been taken from the store.
    Taken { step: StepId, is_ok: bool },
    /// The results of a segment are recorded, or cannot be. `locked` are the segments above it whose keys this runner has
    /// locked meanwhile.
    Committed { segment: usize, locked: Vec<usize> },
    /// No further step is to begin.
    Stop { reason: SkipReason },
}

/// The outcome of a cache check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The store has the results of the segment.
    Fresh,
    /// Its steps are to run.
    Stale(Stale),
    /// The store may have its results: that will be known when the image of this snapshot is written.
    Unknown { until: StepId },
    /// It cannot be checked.
    Failed,
}

/// A segment whose steps are to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// The number of its first steps whose changes are in a checkpoint.
    pub resumed: usize,
    /// All layers below it are known.
    pub has_parents: bool,
    /// A layer below it is still being written, and that is one of the reasons for which it is stale.
    pub is_for_parent: bool,
    /// Its results can be recorded.
    pub is_recordable: bool,
    /// This runner has locked its key.
    pub is_locked: bool,
}

/// An action for the dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Check whether the store has the results of a segment.
    Check { segment: usize },
    /// Run a step.
    Run { step: StepId },
    /// Take a snapshot or an export from the store.
    Take { step: StepId },
    /// Report a step whose results are in the store.
    ReportCached { step: StepId },
    /// Report a step that does not begin.
    Skip { step: StepId, reason: SkipReason },
    /// Report a step as failed that does not begin, since its segment cannot be checked.
    Fail { step: StepId },
    /// Report a step as failed that does not begin, since its results cannot be stored.
    CannotStore { step: StepId },
    /// The layer of a segment and all layers below it are known.
    Link { segment: usize },
    /// Lock the keys of the segments above it that run already, then record the results of a segment.
    Commit { segment: usize },
    /// Unlock the key of a segment: it will have no results.
    Abandon { segment: usize },
    /// Close the session of a container: all its steps have finished.
    CloseSession { container: ContainerId },
}

/// The reason why a step does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A step failed that it needs.
    Failed(StepId),
    /// A step failed, and the options of the run let no other step begin then.
    Stopped(StepId),
    /// The build was interrupted.
    Interrupted,
    /// A thread of runner panicked, or the scheduler could begin nothing more.
    Bug,
    /// The layer that its segment is built on was not written.
    NoParentLayer,
}
