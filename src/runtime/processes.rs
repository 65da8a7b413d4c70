//! Whether a limit of processes has refused one: the counters of a container's cgroups, and of those of its caller.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cgroup::{GroupDir, Home};

/// The count at the last look. Nothing is read while steps succeed.
#[derive(Debug)]
pub struct Refusals {
    /// On v2 the limit of a group above may be the one that refuses, and may have refused others before.
    callers: Vec<GroupDir>,
    seen: AtomicU64,
}

impl Refusals {
    /// Counts from now on. `own` is the groups that runner is in; the groups of the container are new.
    pub fn from_now(own: &Home) -> Self {
        let callers = if own.v1("pids").is_some() { Vec::new() } else { own.groups_that_limit_processes() };
        let seen = AtomicU64::new(callers.iter().map(GroupDir::refused_processes).sum());
        Self { callers, seen }
    }

    /// Returns whether a process was refused since the last look, in the groups of the container or above.
    pub fn rose(&self, container: &[&Home]) -> bool {
        let callers: u64 = self.callers.iter().map(GroupDir::refused_processes).sum();
        let now = callers + count(container);
        now > self.seen.swap(now, Ordering::Relaxed)
    }
}

/// Returns how often a process was refused in these groups.
pub fn count(groups: &[&Home]) -> u64 {
    groups.iter().filter_map(|groups| groups.v1("pids").or(groups.v2())).map(GroupDir::refused_processes).sum()
}
