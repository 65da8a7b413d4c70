//! Cgroups that a killed runner, or a runtime, left behind: found by their names, and removed.

use crate::cgroup::{HOST_LEAF, Home, restore, restore_all};

/// The prefix of the cgroups of all containers of one lease.
pub fn prefix(lease: &str) -> String {
    format!("runner-{lease}-")
}

/// What the cgroups of all containers begin with.
pub const ANY: &str = "runner-";

/// Removes what is left of the containers of this process' own lease, with the processes in them, and puts its own
/// cgroup back to what it was; true when nothing is left.
pub fn remove_own(lease: &str) -> bool {
    let Ok(home) = Home::of_this_process() else { return true };
    let prefix = prefix(lease);
    let is_clean = home.children(|name| name.starts_with(&prefix)).remove();
    if let Some(v2) = home.v2() {
        restore(v2);
    }
    is_clean
}

/// The cgroups of containers on this host, wherever the runners were whose they are.
#[derive(Debug)]
pub struct LeftOver(Option<Home>);

impl LeftOver {
    /// Looks for them; by name alone, so that nothing needs to be written down that a killed runner could not write.
    pub fn find() -> Self {
        Self(Home::find(|name| name.starts_with(ANY) && name != HOST_LEAF).ok())
    }

    /// Removes those of a lease that no living process holds, with the processes in them; true when nothing is left.
    pub fn remove(&mut self, lease: &str) -> bool {
        let Some(all) = self.0.take() else { return true };
        let prefix = prefix(lease);
        let is_own = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&prefix);
        let (own, others) = all.partition(|group| group.path().file_name().is_some_and(is_own));
        self.0 = Some(others);
        own.remove()
    }

    /// Puts back the cgroups of the runners whose containers were removed, unless a living one has need of them.
    pub fn restore(self) {
        let _ = restore_all();
    }
}
