//! The failure of a step, and its cause.

use crate::error::{Exit, error_chain_with_hint};
use crate::session::SessionError;
use crate::snapshot::ImageError;
use crate::store::StoreError;

/// The failure of a step, with its reason in words.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) exit_code: Option<i32>,
    pub(super) cause: Cause,
    /// Whether the reason already names the fix, so that no hint is searched for in the output.
    pub(super) is_explained: bool,
    /// Whether a process of the step has run, and may have written to mounts that outlast its session.
    pub(super) has_run: bool,
}

/// The cause of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The program that the step ran.
    Step,
    /// The caller, who interrupted the build.
    Interrupt,
    /// This host.
    Host,
    /// A layer that differs from the lock.
    Mismatch,
    /// The caller, who has not provided an input of the step.
    Input,
}

impl Failure {
    pub(super) fn host(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), exit_code: None, cause: Cause::Host, is_explained: false, has_run: false }
    }

    pub(super) fn own(reason: impl Into<String>, exit_code: Option<i32>) -> Self {
        Self { reason: reason.into(), exit_code, cause: Cause::Step, is_explained: false, has_run: false }
    }

    /// The failure of a step that was stopped because the build was interrupted.
    pub(super) fn interrupted(reason: impl Into<String>, exit_code: Option<i32>) -> Self {
        Self { cause: Cause::Interrupt, ..Self::own(reason, exit_code) }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let cause = if error.exit() == Exit::Usage { Cause::Input } else { Cause::Host };
        Self { cause, ..Self::host(error_chain_with_hint(&error, error.hint())) }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::host(error_chain_with_hint(&error, error.hint()))
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let reason = error_chain_with_hint(&error, error.hint());
        match error {
            ImageError::Interrupted => Self::interrupted(reason, None),
            ImageError::NoProgram
            | ImageError::Run(_)
            | ImageError::Failed { .. }
            | ImageError::NotAnImage { .. }
            | ImageError::Write(_)
            | ImageError::Stalled(_) => Self::host(reason),
        }
    }
}
