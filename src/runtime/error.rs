//! The errors of a session's helper, each with the way to fix it.

use std::io;

use thiserror::Error;

use crate::cgroup::ProcessLimit;

/// EAGAIN in a helper's message: it could make no process or thread.
const NO_PROCESS: &str = "(os error 11)";

/// A failure of a session's helper.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RuntimeError {
    #[error("cannot start the session's helper process")]
    Spawn(#[source] io::Error),
    #[error("cannot talk to the session's helper process")]
    Talk(#[source] io::Error),
    #[error("cannot create the container: {0}")]
    Create(String),
    #[error("the session's helper process failed: {0}")]
    Failed(String),
    #[error("the session's helper process ended unexpectedly")]
    Gone,
}

impl RuntimeError {
    /// Returns how to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spawn(error) if error.kind() == io::ErrorKind::WouldBlock => Some(ProcessLimit::hint()),
            Self::Create(message) | Self::Failed(message) if message.contains(NO_PROCESS) => Some(ProcessLimit::hint()),
            Self::Spawn(error) if error.kind() == io::ErrorKind::NotFound => Some("mount -t proc proc /proc".into()),
            Self::Talk(_) | Self::Gone => {
                Some("`dmesg | tail` says whether the kernel has killed it for want of memory".into())
            }
            Self::Spawn(_) | Self::Create(_) | Self::Failed(_) => None,
        }
    }
}
