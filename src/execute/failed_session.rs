//! The session of a step that has failed, before it is in the store.

use std::path::PathBuf;

use crate::model::StepId;
use crate::store::FailedSessionDraft;

/// What was kept of a session. Which layers it stands on may not be known yet, for they may still be being written.
#[derive(Debug)]
pub struct Kept {
    pub(super) half: FailedSessionDraft,
    pub(super) changes: bool,
    pub(super) tmpfs: Vec<PathBuf>,
}

/// A step that failed, and what was kept of it.
pub(super) struct PendingFailedSession {
    pub(super) step: StepId,
    pub(super) reason: String,
    pub(super) kept: Kept,
}
