//! Reads whether a limit on processes has refused a new one, from the counters of the container's and the caller's cgroups.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cgroup::{GroupDir, GroupSet};

/// The count of refused processes when it was last read. Runner reads nothing while steps succeed.
#[derive(Debug)]
pub struct Refusals {
    /// On v2 the limit of a group above may be the one that refuses, and may have refused other processes before.
    callers: Vec<GroupDir>,
    last_count: AtomicU64,
}

impl Refusals {
    /// Counts from now on. `own` are the groups that runner itself is in; the groups of the container are new.
    pub fn from_now(own: &GroupSet) -> Self {
        let callers = if own.v1("pids").is_some() { Vec::new() } else { own.groups_that_limit_processes() };
        let last_count = AtomicU64::new(callers.iter().map(GroupDir::refused_processes).sum());
        Self { callers, last_count }
    }

    /// Returns whether a process was refused since the last call, in the groups of the container or above.
    pub fn increased(&self, container: &[&GroupSet]) -> bool {
        let callers: u64 = self.callers.iter().map(GroupDir::refused_processes).sum();
        let now = callers + count(container);
        now > self.last_count.swap(now, Ordering::Relaxed)
    }
}

/// Returns how often a process was refused in these groups.
pub fn count(groups: &[&GroupSet]) -> u64 {
    groups.iter().filter_map(|groups| groups.v1("pids").or(groups.v2())).map(GroupDir::refused_processes).sum()
}
