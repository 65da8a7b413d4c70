//! The context that all parts of a run share.

use super::interrupt::Interrupt;
use crate::lock::Section;
use crate::model::Build;
use crate::named_paths::NamedPaths;
use crate::pull::Images;
use crate::session::Workspace;
use crate::store::{BuildId, Lease, Store};

/// The context of a run.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The build.
    pub build: &'a Build,
    /// The store with layers, logs and caches.
    pub store: &'a Store,
    /// The lease of this process.
    pub lease: &'a Lease,
    /// The workspace of the sessions.
    pub workspace: &'a Workspace,
    /// The host paths that the build names, opened.
    pub paths: &'a NamedPaths,
    /// The images that containers begin with.
    pub images: &'a Images,
    /// Ends the run early.
    pub interrupt: &'a Interrupt,
    /// Names the directory of the logs.
    pub build_id: &'a BuildId,
    /// The locked digests that snapshots must have.
    pub locked: Option<&'a Section>,
}
