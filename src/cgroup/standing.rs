//! Whether a limit would hold for a container of this process, found without changing anything.

use std::path::PathBuf;

use super::controllers::{has_controller, is_delegated, is_free, is_host_root, is_on};
use super::home::Home;

/// Whether a limit would hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its controller is on, or can be switched on without moving a process.
    Holds,
    /// Its controller is switched on in the host's root first, which only a limit of the manifest is worth.
    SwitchesOn(PathBuf),
    /// The processes of this group are moved into one below it first. A default limit is worth that only where the group
    /// is delegated.
    Moves {
        /// The group.
        group: PathBuf,
        /// Whether whoever manages it has left it to the processes in it.
        is_delegated: bool,
    },
    /// This group does not have its controller.
    Lacks(PathBuf),
    /// No hierarchy has its controller, or none can be seen.
    Nowhere,
}

impl Home {
    /// Returns whether a limit by that controller would hold below these groups.
    pub fn standing(&self, controller: &str) -> Standing {
        match (self.v1(controller), self.v2()) {
            (Some(_), _) => Standing::Holds,
            (None, Some(v2)) if is_on(v2, controller) => Standing::Holds,
            (None, Some(v2)) if !has_controller(v2, controller) => Standing::Lacks(v2.path().to_owned()),
            (None, Some(v2)) if is_host_root(v2) => Standing::SwitchesOn(v2.path().to_owned()),
            (None, Some(v2)) if is_free(v2) => Standing::Holds,
            (None, Some(v2)) => Standing::Moves { group: v2.path().to_owned(), is_delegated: is_delegated(v2) },
            (None, None) => Standing::Nowhere,
        }
    }
}
