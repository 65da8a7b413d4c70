//! Reads the process limit of a process' groups and those above them, and how often they have refused a process.

use std::io;
use std::path::PathBuf;

use super::dir::GroupDir;
use super::group_set::GroupSet;
use crate::resource_limits;

/// A limit on processes for a group and all groups below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLimit {
    /// The group that has the limit.
    pub group: PathBuf,
    /// The most processes and threads.
    pub most: u64,
    /// The number of processes and threads that can still be made.
    pub free: u64,
}

/// With fewer free processes than this, the limit has probably refused a process or thread of runner's own.
const FEW: u64 = 256;

impl ProcessLimit {
    /// Returns a message with the limit and the way to raise it.
    pub fn message(&self) -> String {
        let file = self.group.join("pids.max");
        format!(
            "the cgroup that runner was started in, or one above it, has a limit of {} processes and threads ({}); raise that \
             limit, for a systemd service with `TasksMax=`",
            self.most,
            file.display()
        )
    }

    /// Returns how to fix that the host makes no more processes or threads for runner itself.
    pub fn hint() -> String {
        let ulimit = || {
            let users = || "`ulimit -u` shows how many processes this user may have".into();
            resource_limits::thread_hint().unwrap_or_else(users)
        };
        Self::of_caller().filter(Self::leaves_few).map_or_else(ulimit, |limit| limit.message())
    }

    /// Returns the limit of the groups that contain runner.
    pub fn of_caller() -> Option<Self> {
        GroupSet::of_this_process().ok()?.process_limit()
    }

    /// Returns whether so few are free that this limit has probably refused a process.
    pub fn leaves_few(&self) -> bool {
        self.free < FEW
    }
}

impl GroupSet {
    /// Returns the groups that may limit the processes of these groups: the groups themselves and those above, as far as this
    /// process sees them.
    pub fn groups_that_limit_processes(&self) -> Vec<GroupDir> {
        let Some(mut group) = self.v1("pids").or(self.v2()).and_then(|group| group.try_clone().ok()) else {
            return Vec::new();
        };
        let mut groups = Vec::new();
        // The parent of a mount point may be a directory of another filesystem, and the parent of a root is the root itself.
        for _ in 0..group.path().components().count() {
            let Ok(above) = group.parent() else { break };
            groups.push(std::mem::replace(&mut group, above));
            if !group.has("cgroup.procs") {
                break;
            }
        }
        groups
    }

    /// Returns the limit, of these groups and those above, with the fewest free processes.
    pub fn process_limit(&self) -> Option<ProcessLimit> {
        let limits = self.groups_that_limit_processes().into_iter().filter_map(|group| {
            let number = |file: &str| group.read(file).ok()?.trim().parse::<u64>().ok();
            let most = number("pids.max")?;
            let free = most.saturating_sub(number("pids.current")?);
            Some(ProcessLimit { group: group.path().to_owned(), most, free })
        });
        limits.min_by_key(|limit| limit.free)
    }
}

impl GroupDir {
    /// Returns how often the kernel has refused a process. On v2 since Linux 6.11, the group whose limit was reached counts it; on
    /// v1 and earlier kernels, the group in which the process would have been made.
    pub fn refused_processes(&self) -> u64 {
        // Without `.local`, v2 adds the counts of all groups below.
        let text = ["pids.events.local", "pids.events"].into_iter().find_map(|file| self.read(file).ok());
        refused(&text.unwrap_or_default())
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Self::open_at(std::os::fd::AsFd::as_fd(self), self.path(), std::path::Path::new(""))
    }
}

fn refused(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use oci_spec::runtime::{LinuxPidsBuilder, LinuxResourcesBuilder};

    use super::*;
    use crate::cgroup::LimitedGroup;

    #[test]
    fn the_counter_of_refused_processes_is_read_and_a_missing_one_is_zero() {
        assert_eq!([refused("max 3\n"), refused(""), refused("maximum 3\n")], [3, 0, 0]);
    }

    #[test]
    fn the_limit_of_a_group_above_is_found_with_its_free_processes() {
        let pids = LinuxPidsBuilder::default().limit(7).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        let name = format!("runner-unit-processes-{}", std::process::id());
        let outer = LimitedGroup::create(&GroupSet::of_this_process().unwrap(), &name, &resources).unwrap();
        let inner = outer.groups().create("inner").unwrap();
        let groups = inner.groups_that_limit_processes();
        let procs = inner.v1("pids").or(inner.v2()).unwrap().path().join("cgroup.procs");
        let counted = || groups.iter().map(GroupDir::refused_processes).sum::<u64>();
        let before = (inner.process_limit().unwrap(), counted());
        let script = format!("echo $$ > {}; for i in 1 2 3 4 5 6 7 8; do sleep 1 & done", procs.display());
        let ended = Command::new("sh").args(["-c", &script]).output().unwrap();
        let after = counted();
        assert!(outer.groups().remove());
        assert!(before.0.group.ends_with(&name), "{before:?}");
        assert_eq!((before.0.most, before.0.free, ended.status.success()), (7, 7, false));
        assert!(after > before.1, "{before:?} {after}");
    }
}
