//! The session of a step that has failed, before it is in the store.

use std::path::PathBuf;

use crate::model::StepId;
use crate::store::FailedSessionDraft;

/// The images of a failed session. The digests of the layers below it may not be known yet, because they may still be
/// being written.
#[derive(Debug)]
pub struct FailedSessionImages {
    pub(super) draft: FailedSessionDraft,
    pub(super) changes: bool,
    pub(super) tmpfs: Vec<PathBuf>,
}

/// A step that failed, with the images of its session.
pub(super) struct PendingFailedSession {
    pub(super) step: StepId,
    pub(super) reason: String,
    pub(super) images: FailedSessionImages,
}
