//! Finds out, without changing anything, whether a limit could be enforced for a container of this process.

use std::path::PathBuf;

use super::controllers::{has_controller, is_delegated, is_empty, is_enabled, is_host_root};
use super::group_set::GroupSet;

/// Whether, and how, a limit could be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitSupport {
    /// Its controller is enabled, or can be enabled without moving a process.
    Holds,
    /// Runner must enable its controller in the host's root first, which it does only for a limit of the manifest.
    SwitchesOn(PathBuf),
    /// Runner must move the processes of this group into one below it first, which it does for a default limit only where the group
    /// is delegated.
    Moves {
        /// The group.
        group: PathBuf,
        /// Whether its manager has delegated it to the processes in it.
        is_delegated: bool,
    },
    /// This group does not have its controller.
    Lacks(PathBuf),
    /// No hierarchy has its controller, or none is visible.
    Nowhere,
}

impl GroupSet {
    /// Returns whether a limit of this controller could be enforced below these groups.
    pub fn limit_support(&self, controller: &str) -> LimitSupport {
        match (self.v1(controller), self.v2()) {
            (Some(_), _) => LimitSupport::Holds,
            (None, Some(v2)) if is_enabled(v2, controller) => LimitSupport::Holds,
            (None, Some(v2)) if !has_controller(v2, controller) => LimitSupport::Lacks(v2.path().to_owned()),
            (None, Some(v2)) if is_host_root(v2) => LimitSupport::SwitchesOn(v2.path().to_owned()),
            (None, Some(v2)) if is_empty(v2) => LimitSupport::Holds,
            (None, Some(v2)) => LimitSupport::Moves { group: v2.path().to_owned(), is_delegated: is_delegated(v2) },
            (None, None) => LimitSupport::Nowhere,
        }
    }
}
