//! Why the session of a step that failed cannot be opened again.

use crate::session::SessionError;
use crate::store::StoreError;

/// What of it cannot be opened again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the container `{0}` is not in the manifest any more")]
    NoContainer(String),
    #[error("the layer {0} that it stood on is not in the store any more")]
    NoLayer(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl RestoreError {
    /// What mends it, where that is known.
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
