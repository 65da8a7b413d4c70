//! The errors of opening the session of a failed step again.

use crate::session::SessionError;
use crate::store::StoreError;

/// An error of opening the session of a failed step again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the container `{0}` is not in the manifest any more")]
    NoContainer(String),
    #[error("the layer {0} that it was built on is not in the store any more")]
    NoLayer(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl RestoreError {
    /// Returns the way to fix it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoContainer(_) | Self::NoLayer(_) => Some("build again with `runner apply`".into()),
            Self::Store(error) => error.hint(),
            Self::Session(error) => error.hint(),
        }
    }
}

impl From<std::io::Error> for RestoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Session(error.into())
    }
}
