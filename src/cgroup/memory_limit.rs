//! Reads the memory limit of a process' groups and those above them.

use std::fs;

use super::group_set::GroupSet;

impl GroupSet {
    /// Returns the smallest memory limit of these groups and those above, as far as this process sees them.
    ///
    /// See `hierarchical_memory_limit` of v1's memory.stat, and `memory.max` in the kernel's cgroup-v2 document.
    pub fn memory_limit(&self) -> Option<u64> {
        if let Some(v1) = self.v1("memory") {
            let stat = v1.read("memory.stat").ok()?;
            return stat.lines().find_map(|line| line.strip_prefix("hierarchical_memory_limit ")?.trim().parse().ok());
        }
        let limits = self.v2()?.path().ancestors().map(|group| fs::read_to_string(group.join("memory.max")));
        // Neither the top of the hierarchy nor the directories above it have this file.
        limits.filter_map(|limit| limit.ok()?.trim().parse::<u64>().ok()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_group_above_applies() {
        let home = GroupSet::of_this_process().unwrap();
        let outer = home.create(&format!("runner-unit-memory-{}", std::process::id())).unwrap();
        let inner = outer.create("inner").unwrap();
        let (file, group) = match (outer.v1("memory"), outer.v2()) {
            (Some(v1), _) => ("memory.limit_in_bytes", v1),
            (None, v2) => ("memory.max", v2.unwrap()),
        };
        if group.write(file, "67108864").is_ok() {
            assert_eq!(inner.memory_limit(), Some(64 << 20));
        } else {
            assert_eq!(inner.memory_limit(), home.memory_limit());
        }
        assert!(outer.remove());
    }
}
