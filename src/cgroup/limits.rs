//! Sets the limits of a container's group, and checks them again when a step has ended.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::controllers::{ControllerNeed, Lock, enable, enable_by_default, enable_if_available};
use super::dir::GroupDir;
use super::error::CgroupError;
use super::group_set::{GroupSet, write};
use crate::model::Limits;

/// The longest text of a limit's file.
const MAX_BYTES: usize = 64;

const MEMORY: ControllerNeed = ControllerNeed { limit: "memory", controller: "memory" };
const CPUS: ControllerNeed = ControllerNeed { limit: "cpus", controller: "cpu" };
const PIDS: ControllerNeed = ControllerNeed { limit: "pids", controller: "pids" };

/// The limits that a config.json requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RequestedLimits {
    memory: Option<i64>,
    /// Microseconds of processor time in a period, and the period.
    cpu: Option<(i64, u64)>,
    pids: Option<i64>,
}

/// A limit of a container's groups, with the value that the kernel has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLimit {
    /// The limit's name in a manifest.
    limit: String,
    /// The text of its file; the kernel rounds memory to whole pages.
    value: String,
}

/// A limit that must stay in force, and its file.
#[derive(Debug)]
pub(super) struct WatchedLimit {
    set: SetLimit,
    path: PathBuf,
    /// The open file, or the error if it no longer exists.
    file: std::io::Result<File>,
}

impl RequestedLimits {
    pub(super) fn of(resources: &LinuxResources) -> Self {
        let cpu = resources.cpu().as_ref();
        Self {
            memory: resources.memory().as_ref().and_then(|memory| memory.limit()),
            cpu: cpu.and_then(|cpu| Some((cpu.quota()?, cpu.period()?))),
            pids: resources.pids().as_ref().map(|pids| pids.limit()),
        }
    }

    /// Returns the controllers that no mounted v1 hierarchy has, so that v2 must have them.
    fn needs(self, home: &GroupSet) -> Vec<ControllerNeed> {
        let all = [(self.memory.is_some(), MEMORY), (self.cpu.is_some(), CPUS), (self.pids.is_some(), PIDS)];
        let requested = all.into_iter().filter(|(is_requested, _)| *is_requested).map(|(_, need)| need);
        requested.filter(|need| home.v1(need.controller).is_none()).collect()
    }

    /// Makes groups with this name below `home`, and enables the controllers that the limits need.
    pub(super) fn create(self, home: &GroupSet, name: &str) -> Result<GroupSet, CgroupError> {
        let needs = self.needs(home);
        let Some(v2) = home.v2() else {
            return match needs.first() {
                Some(ControllerNeed { limit, controller }) => Err(CgroupError::NoController { limit, controller }),
                None => home.create(name),
            };
        };
        let lock = Lock::take(v2).map_err(CgroupError::Read)?;
        enable(v2, &needs)?;
        if self.pids.is_none() && home.v1(PIDS.controller).is_none() {
            enable_by_default(v2, PIDS.controller);
        }
        let made = home.create(name);
        drop(lock);
        made
    }

    /// Opens the files of limits that were set in these groups.
    pub(super) fn find(groups: &GroupSet, set: &[SetLimit]) -> Vec<WatchedLimit> {
        let files = [
            (MEMORY, ["memory.limit_in_bytes", "memory.max"]),
            (CPUS, ["cpu.cfs_quota_us", "cpu.max"]),
            (PIDS, ["pids.max", "pids.max"]),
        ];
        let found = set.iter().filter_map(|set| {
            let (need, [v1_file, v2_file]) = files.iter().find(|(need, _)| need.limit == set.limit)?;
            let (group, name) = match groups.v1(need.controller) {
                Some(group) => (group, v1_file),
                None => (groups.v2()?, v2_file),
            };
            Some(WatchedLimit {
                set: set.clone(),
                path: group.path().join(name),
                file: group.file(name, OFlags::RDONLY),
            })
        });
        found.collect()
    }

    /// Writes the limits also to groups below a container's, where a step reads them: programs such as a JVM choose by them how much
    /// memory and how many threads they use. These copies are not enforced, so a failure is not reported.
    pub(super) fn show(self, leaf: &GroupSet) {
        if let Some(bytes) = self.memory {
            let _ = set_memory(leaf, &bytes.to_string());
        }
        if let Some((quota, period)) = self.cpu {
            let _ = set_cpu(leaf, quota, period);
        }
        if let Some(group) = leaf.v1("pids").or(leaf.v2()).filter(|group| group.has("pids.max")) {
            let _ = write(group, "pids.max", &self.most_processes().to_string());
        }
    }

    /// Enables the controllers of the limits below a container's groups, where v2 has them.
    pub(super) fn enable_below(self, groups: &GroupSet) {
        let Some(v2) = groups.v2() else { return };
        let needs = [(self.memory.is_some(), MEMORY), (self.cpu.is_some(), CPUS), (true, PIDS)];
        for (_, need) in needs.into_iter().filter(|(is_on, need)| *is_on && groups.v1(need.controller).is_none()) {
            enable_if_available(v2, need.controller);
        }
    }

    fn most_processes(self) -> i64 {
        self.pids.unwrap_or(Limits::DEFAULT_PIDS.cast_signed())
    }

    /// Writes the limits to a container's groups.
    pub(super) fn set(self, groups: &GroupSet) -> Result<Vec<WatchedLimit>, CgroupError> {
        let mut watched = Vec::new();
        if let Some(bytes) = self.memory {
            watched.push(set_memory(groups, &bytes.to_string())?);
        }
        if let Some((quota, period)) = self.cpu {
            watched.extend(set_cpu(groups, quota, period)?);
        }
        match (self.pids, groups.v1("pids").or(groups.v2())) {
            (Some(most), Some(group)) => {
                write(group, "pids.max", &most.to_string())?;
                watched.push(watch(PIDS, group, "pids.max")?);
            }
            (None, Some(group)) if group.has("pids.max") => {
                write(group, "pids.max", &self.most_processes().to_string())?
            }
            _ => {}
        }
        Ok(watched)
    }
}

/// Sets one limit for memory and swap together. A kernel that does not count swap has no file for that.
fn set_memory(groups: &GroupSet, bytes: &str) -> Result<WatchedLimit, CgroupError> {
    let (group, limit, swap, most_swap) = match (groups.v1("memory"), groups.v2()) {
        (Some(v1), _) => (v1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
        (None, Some(v2)) => (v2, "memory.max", "memory.swap.max", "0"),
        (None, None) => return Err(CgroupError::NoController { limit: "memory", controller: "memory" }),
    };
    write(group, limit, bytes)?;
    if group.has(swap) {
        write(group, swap, most_swap)?;
    }
    watch(MEMORY, group, limit)
}

fn set_cpu(groups: &GroupSet, quota: i64, period: u64) -> Result<Option<WatchedLimit>, CgroupError> {
    match (groups.v1("cpu"), groups.v2()) {
        (Some(v1), _) => {
            write(v1, "cpu.cfs_period_us", &period.to_string())?;
            match write(v1, "cpu.cfs_quota_us", &quota.to_string()) {
                // v1 refuses a quota above that of a group further up, whose quota then applies.
                Err(CgroupError::Write { source, .. })
                    if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
                {
                    Ok(None)
                }
                written => written.and_then(|()| watch(CPUS, v1, "cpu.cfs_quota_us").map(Some)),
            }
        }
        (None, Some(v2)) => {
            write(v2, "cpu.max", &format!("{quota} {period}"))?;
            watch(CPUS, v2, "cpu.max").map(Some)
        }
        (None, None) => Err(CgroupError::NoController { limit: "cpus", controller: "cpu" }),
    }
}

fn watch(need: ControllerNeed, group: &GroupDir, name: &str) -> Result<WatchedLimit, CgroupError> {
    let path = group.path().join(name);
    let file = group.file(name, OFlags::RDONLY).map_err(CgroupError::Read)?;
    let value = read(&file).map_err(CgroupError::Read)?;
    Ok(WatchedLimit { set: SetLimit { limit: need.limit.to_owned(), value }, path, file: Ok(file) })
}

/// Reads a file of the kernel from its beginning, which returns its current text.
fn read(file: &File) -> std::io::Result<String> {
    let mut bytes = [0; MAX_BYTES];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
}

impl WatchedLimit {
    pub(super) fn set(&self) -> &SetLimit {
        &self.set
    }

    /// Returns why the limit is no longer in force, if another process has lifted or changed it.
    pub(super) fn lost(&self) -> Option<String> {
        let (SetLimit { limit, value: was }, path) = (&self.set, self.path.display());
        let removed = |error: &std::io::Error| {
            format!(
                "`{limit}` under limits did not stay in force: {path} was removed ({error}); start runner in a group \
                 that no other program manages: `systemd-run --scope -p Delegate=yes runner …`"
            )
        };
        match self.file.as_ref().map(read) {
            Ok(Ok(value)) if value == *was => None,
            Ok(Ok(value)) => {
                Some(format!("`{limit}` under limits did not stay in force: {path} was {was} and is {value}"))
            }
            Ok(Err(error)) => Some(removed(&error)),
            Err(error) => Some(removed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_limit_that_another_process_changes_is_reported_with_both_values() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"4096\n").unwrap();
        let set = SetLimit { limit: "memory".into(), value: read(&file).unwrap() };
        let watched = WatchedLimit { set, path: "/g/memory.max".into(), file: Ok(file) };
        assert_eq!(watched.lost(), None);
        watched.file.as_ref().unwrap().write_all_at(b"max \n", 0).unwrap();
        assert_eq!(
            watched.lost().unwrap(),
            "`memory` under limits did not stay in force: /g/memory.max was 4096 and is max"
        );
    }
}
