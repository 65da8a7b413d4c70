//! Reads how often the kernel has killed processes of a container's cgroup because memory ran out.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

use crate::cgroup::GroupSet;

/// A size that neither file reaches.
const MAX_BYTES: usize = 4096;

/// The counter of the processes that the kernel has killed in a cgroup because memory ran out, the cgroup's or the host's.
#[derive(Debug)]
pub struct OomKills(File);

impl OomKills {
    /// Opens the counter of the first of these groups where the kernel accounts memory. On v1 a group counts its own processes
    /// alone, on v2 those of the groups below it too.
    ///
    /// See `memory.events` in the kernel's cgroup-v2 document, and `memory.oom_control` in v1's, which counts since Linux 4.13.
    pub fn of_groups(groups: &[&GroupSet]) -> Option<Self> {
        let open = |groups: &&GroupSet| match (groups.v1("memory"), groups.v2()) {
            (Some(v1), _) => v1.file("memory.oom_control", OFlags::RDONLY).ok(),
            (None, Some(v2)) => v2.file("memory.events", OFlags::RDONLY).ok(),
            (None, None) => None,
        };
        groups.iter().find_map(open).map(Self)
    }

    /// Returns the current count; none where the kernel does not count, or the cgroup is removed.
    pub fn count(&self) -> Option<u64> {
        let mut bytes = [0; MAX_BYTES];
        let length = self.0.read_at(&mut bytes, 0).ok()?;
        count(&String::from_utf8_lossy(&bytes[..length]))
    }
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_the_files_of_both_versions() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        // Before Linux 4.13.
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
        assert_eq!(count(""), None);
    }

    #[test]
    fn a_cgroup_that_does_not_exist_has_no_counter() {
        let home = GroupSet::of_this_process().unwrap();
        assert!(OomKills::of_groups(&[&home.child("no-such-cgroup")]).is_none());
    }
}
