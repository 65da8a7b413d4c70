//! The summary of a run that has ended.

use crate::digest::Digest;
use crate::event::BuildStatus;
use crate::model::StepId;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its end.
    pub status: BuildStatus,
    /// Whether a step's own process failed, not only for want of something on this host.
    pub step_failed: bool,
    /// Whether a snapshot differs from the lock.
    pub mismatched: bool,
    /// Whether a step did not begin because the caller has not provided an input.
    pub wrong_input: bool,
    /// Whether a thread of runner has panicked, or the scheduler could begin nothing more.
    pub has_bug: bool,
    /// The steps whose own processes failed, in the order of their ends.
    pub failed: Vec<StepId>,
    /// The layer of each snapshot that was written or was in the store, by the order of their ends.
    pub layers: Vec<(StepId, Digest)>,
    /// The content of each export in the store, by the order of their ends.
    pub exports: Vec<(StepId, Digest)>,
}
