//! The reasons why a call to a registry fails, with the fix.

use std::path::PathBuf;

use crate::http::HttpError;
use crate::oci::OciError;

/// The reason why an image cannot be pulled or pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A request failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The image is wrong.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// The registry lets nobody or not this user do it.
    #[error("{registry} refuses to {action} {name}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    Denied {
        /// The registry.
        registry: String,
        /// `pull` or `push`.
        action: &'static str,
        /// The image or the repository.
        name: String,
        /// The registry's own explanation, if it has one.
        detail: String,
        /// The credentials that were sent.
        credentials: SentCredentials,
    },
    /// The registry has no such image.
    #[error("{registry} has no image {name}")]
    NotFound {
        /// The registry.
        registry: String,
        /// The image.
        name: String,
    },
    /// The registry has no such repository, and makes none by itself.
    #[error("{registry} has no repository {repository}")]
    NoRepository {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// A file of credentials cannot be used.
    #[error("cannot use the credentials in {}: {problem}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// A credential helper failed.
    #[error("the credential helper {program} failed for {registry}: {problem}")]
    Helper {
        /// The program.
        program: String,
        /// The registry.
        registry: String,
        /// The problem.
        problem: String,
    },
    /// The registry answers against the protocol.
    #[error("{registry} does not answer as a registry: {problem}")]
    Protocol {
        /// The registry.
        registry: String,
        /// The problem.
        problem: String,
    },
}

impl RegistryError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Http(error) => error.hint(),
            Self::Oci(error) => error.hint(),
            Self::Denied { registry, action, credentials: SentCredentials::None(files), .. } => {
                let when = if *action == "pull" { "check the name; if the image is private, log in" } else { "log in" };
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                let found = match files.as_slice() {
                    [] => String::new(),
                    files => format!(" (no credentials for it are in {})", files.join(", ")),
                };
                Some(format!("{when}: `docker login {registry}` or `skopeo login {registry}`{found}"))
            }
            Self::Denied { registry, credentials: SentCredentials::Of(place), .. } => Some(format!(
                "the credentials of {place} do not suffice: log in again with `docker login {registry}` or `skopeo login {registry}`"
            )),
            Self::NotFound { .. } => Some("check the name and the tag; the tag may have been removed there".to_owned()),
            Self::NoRepository { .. } => {
                Some("check the name; if it is right, make the repository there first".to_owned())
            }
            Self::Credentials { path, .. } => {
                Some(format!("repair {}, or log in again: `docker login REGISTRY`", path.display()))
            }
            Self::Helper { program, registry, .. } => Some(format!(
                "try it: `echo {registry} | {program} get`; or log in again with `docker login {registry}`"
            )),
            Self::Protocol { .. } => Some("check the name of the registry, and its port".to_owned()),
        }
    }

    /// Returns whether the manifest or the image is the cause, and not this host or the network.
    pub fn is_of_input(&self) -> bool {
        match self {
            Self::Http(error) => error.is_of_input(),
            Self::Oci(error) => error.is_of_input(),
            Self::Denied { .. } | Self::NotFound { .. } | Self::NoRepository { .. } => true,
            Self::Credentials { .. } | Self::Helper { .. } | Self::Protocol { .. } => false,
        }
    }

    /// Returns whether there is no working connection to the server.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_of_connection())
    }

    /// Returns whether the cause is the interruption of the build.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_interruption())
    }
}

/// The credentials that a registry got, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentCredentials {
    /// Those of this file or helper.
    Of(String),
    /// None: these files have none for it.
    None(Vec<PathBuf>),
}

/// An image that cannot be pushed.
#[derive(Debug, thiserror::Error)]
#[error("cannot push {name}")]
pub struct PushError {
    /// The name of the image.
    pub name: String,
    /// The cause.
    #[source]
    pub source: RegistryError,
}

impl PushError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}
