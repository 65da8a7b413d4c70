//! The reason why the image of a container was not found.

use crate::digest::Digest;
use crate::error::Exit;
use crate::http::HttpError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// The reason why the image of a container was not found.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The place of the image, or the image itself.
    #[error("cannot get the image of container {container}")]
    Image {
        /// The container.
        container: String,
        /// The reason.
        #[source]
        source: Box<RegistryError>,
    },
    /// A layout has another image than the manifest names.
    #[error("the image of container {container} has the digest {found}, and the manifest names {expected}")]
    Digest {
        /// The container.
        container: String,
        /// The digest in the manifest.
        expected: Digest,
        /// The digest of the image.
        found: Digest,
    },
    /// The digest of a URL is not known.
    #[error("the digest of {url}, the root of container {container}, is not known")]
    NoDigest {
        /// The container.
        container: String,
        /// The URL.
        url: String,
    },
    /// A URL cannot be downloaded.
    #[error("cannot get the root of container {container}")]
    Url {
        /// The container.
        container: String,
        /// The reason.
        #[source]
        source: HttpError,
    },
    /// A file for a download cannot be made.
    #[error("cannot write a download to the store")]
    Download(#[source] std::io::Error),
    /// The digest that a name led to cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PullError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Image { source, .. } => source.hint(),
            Self::NoDigest { .. } => Some(
                "write `digest: sha256:…` beside the URL, or run `runner lock`, which downloads the file and locks its digest"
                    .to_owned(),
            ),
            Self::Url { source, .. } => source.hint(),
            Self::Download(_) => None,
            Self::Digest { found, .. } => Some(format!("if the image is intended, write `digest: {found}`")),
            Self::Store(error) => error.hint(),
        }
    }

    /// Returns the exit code of a command that fails for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Image { source, .. } if source.is_interruption() => Exit::Interrupted,
            Self::Image { source, .. } if source.is_of_input() => Exit::Usage,
            Self::Url { source, .. } if source.is_interruption() => Exit::Interrupted,
            Self::Url { source, .. } if source.is_of_input() => Exit::Usage,
            Self::Digest { .. } | Self::NoDigest { .. } => Exit::Usage,
            Self::Image { .. } | Self::Url { .. } | Self::Download(_) | Self::Store(_) => Exit::Host,
        }
    }
}
