//! A step and its context, with the functions that its process, its snapshot and its checkpoint share.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::Failure;
use super::session_pool::SessionPool;
use crate::cache::CacheChecker;
use crate::digest::Digest;
use crate::error::error_chain_with_hint;
use crate::event::Events;
use crate::model::{Compression, StepId};
use crate::session::{Session, SessionError};
use crate::snapshot::ImageOptions;

/// A step and its context.
#[derive(Clone, Copy)]
pub struct StepContext<'a, 'e> {
    pub context: Context<'a>,
    pub checker: &'e CacheChecker<'e>,
    pub sessions: &'e SessionPool<'a>,
    pub events: &'e Events,
    pub id: StepId,
}

/// The options of images of changes that are no layers: read once at most, they must be written fast.
pub(super) const CHANGES: ImageOptions =
    ImageOptions { compression: Compression::Zstd, level: Some(1), source_date_epoch: None };

/// The layer that a snapshot wrote.
#[derive(Debug, Clone)]
pub struct Written {
    /// The layer's name in the store.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Targets of tmpfs mounts in which the steps before it left files.
    pub tmpfs_left: Vec<PathBuf>,
}

/// Returns a function for `map_err`, for a file of runner's own that cannot be used.
pub(super) fn unusable(what: impl Display) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::host(format!("cannot {what}: {}", error_chain_with_hint(&error, None)))
}

/// Returns the digest and the size of an image that has just been written.
///
/// Reads it again, from memory: its beginning is written last, and SHA-256 takes bytes in their order.
pub(super) fn measured(image: &Path) -> Result<(Digest, u64), Failure> {
    Digest::with_size(image).map_err(unusable(format_args!("read {}", image.display())))
}

/// Returns the open session.
pub fn session<'r, 'a>(slot: &'r Option<Session<'a>>) -> Result<&'r Session<'a>, SessionError> {
    slot.as_ref().ok_or_else(|| SessionError::Io(io::Error::other("it is closed")))
}
