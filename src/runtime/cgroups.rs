//! Finds, by their names, the cgroups that a killed runner or a runtime left behind, and removes them.

use crate::cgroup::{GroupSet, HOST_LEAF, restore, restore_all};

/// Returns the prefix of the names of all containers' cgroups of one lease.
pub fn prefix(lease: &str) -> String {
    format!("runner-{lease}-")
}

/// The prefix of the names of all containers' cgroups.
pub const NAME_PREFIX: &str = "runner-";

/// Removes the cgroups that remain of the containers of this process' own lease, with the processes in them, and restores
/// the settings of its own cgroup. Returns whether none of them remains.
pub fn remove_own(lease: &str) -> bool {
    let Ok(home) = GroupSet::of_this_process() else { return true };
    let prefix = prefix(lease);
    let is_clean = home.children(|name| name.starts_with(&prefix)).remove();
    if let Some(v2) = home.v2() {
        restore(v2);
    }
    is_clean
}

/// The cgroups of containers on this host, below the cgroups of any runners.
#[derive(Debug)]
pub struct LeftOver(Option<GroupSet>);

impl LeftOver {
    /// Looks for them by name alone, so that runner needs no record of them, which a killed runner could not write.
    pub fn find() -> Self {
        Self(GroupSet::find(|name| name.starts_with(NAME_PREFIX) && name != HOST_LEAF).ok())
    }

    /// Removes those of a lease that no living process has locked, with the processes in them. Returns whether none remains.
    pub fn remove(&mut self, lease: &str) -> bool {
        let Some(all) = self.0.take() else { return true };
        let prefix = prefix(lease);
        let is_own = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&prefix);
        let (own, others) = all.partition(|group| group.path().file_name().is_some_and(is_own));
        self.0 = Some(others);
        own.remove()
    }

    /// Restores the settings of the cgroups of the runners whose containers were removed, unless a living runner needs them.
    pub fn restore(self) {
        let _ = restore_all();
    }
}
