//! The summary of a run that has ended.

use crate::digest::Digest;
use crate::event::BuildStatus;
use crate::model::StepId;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub status: BuildStatus,
    /// A step failed by itself, and not only since this host lacks something.
    pub step_failed: bool,
    /// A snapshot's layer is not the locked one.
    pub mismatched: bool,
    /// A step did not begin, since the caller did not give something that it needs.
    pub wrong_input: bool,
    /// A thread of runner has panicked, or the scheduler could begin nothing more.
    pub has_bug: bool,
    /// The steps that failed by themselves, in the order of their ends.
    pub failed: Vec<StepId>,
    /// The layer of each snapshot that was written or was in the store, by the order of their ends.
    pub layers: Vec<(StepId, Digest)>,
}
