//! The limits of a container: written to its group, and looked at again when a step has ended.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::controllers::{Lock, Need, enable, enable_by_default, pass_on};
use super::dir::GroupDir;
use super::error::CgroupError;
use super::home::{Home, write};
use crate::model::Limits;

/// No file of a limit is longer.
const MAX_BYTES: usize = 64;

const MEMORY: Need = Need { limit: "memory", controller: "memory" };
const CPUS: Need = Need { limit: "cpus", controller: "cpu" };
const PIDS: Need = Need { limit: "pids", controller: "pids" };

/// The limits that a config.json asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    memory: Option<i64>,
    /// Microseconds of processor time in a period, and the period.
    cpu: Option<(i64, u64)>,
    pids: Option<i64>,
}

/// A limit that a container's groups were given, as the kernel has taken it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLimit {
    /// The limit's name in a manifest.
    limit: String,
    /// The text of its file: of memory whole pages.
    says: String,
}

/// A limit that is to hold, and the file that says whether it does.
#[derive(Debug)]
pub(super) struct WatchedLimit {
    set: SetLimit,
    path: PathBuf,
    /// The error that says that it is gone, where it is.
    file: std::io::Result<File>,
}

impl Wanted {
    pub(super) fn of(resources: &LinuxResources) -> Self {
        let cpu = resources.cpu().as_ref();
        Self {
            memory: resources.memory().as_ref().and_then(|memory| memory.limit()),
            cpu: cpu.and_then(|cpu| Some((cpu.quota()?, cpu.period()?))),
            pids: resources.pids().as_ref().map(|pids| pids.limit()),
        }
    }

    /// The controllers that no mounted v1 hierarchy has: v2 must give them.
    fn needs(self, home: &Home) -> Vec<Need> {
        let all = [(self.memory.is_some(), MEMORY), (self.cpu.is_some(), CPUS), (self.pids.is_some(), PIDS)];
        let asked = all.into_iter().filter(|(asked, _)| *asked).map(|(_, need)| need);
        asked.filter(|need| home.v1(need.controller).is_none()).collect()
    }

    /// Makes groups of that name below `home`, with the controllers on that the limits need.
    pub(super) fn create(self, home: &Home, name: &str) -> Result<Home, CgroupError> {
        let needs = self.needs(home);
        let Some(v2) = home.v2() else {
            return match needs.first() {
                Some(Need { limit, controller }) => Err(CgroupError::NoController { limit, controller }),
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
    pub(super) fn find(groups: &Home, set: &[SetLimit]) -> Vec<WatchedLimit> {
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

    /// Writes the limits to groups below a container's too, in which a step reads them: programs such as a JVM choose by
    /// them how much memory and how many threads they use. Nothing is held by them, so nothing is said where it fails.
    pub(super) fn show(self, leaf: &Home) {
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

    /// Gives the groups below those of a container the controllers of its limits, where v2 has them.
    pub(super) fn pass_on(self, groups: &Home) {
        let Some(v2) = groups.v2() else { return };
        let asked = [(self.memory.is_some(), MEMORY), (self.cpu.is_some(), CPUS), (true, PIDS)];
        for (_, need) in asked.into_iter().filter(|(asked, need)| *asked && groups.v1(need.controller).is_none()) {
            pass_on(v2, need.controller);
        }
    }

    fn most_processes(self) -> i64 {
        self.pids.unwrap_or(Limits::DEFAULT_PIDS.cast_signed())
    }

    /// Writes the limits to a container's groups.
    pub(super) fn set(self, groups: &Home) -> Result<Vec<WatchedLimit>, CgroupError> {
        let mut held = Vec::new();
        if let Some(bytes) = self.memory {
            held.push(set_memory(groups, &bytes.to_string())?);
        }
        if let Some((quota, period)) = self.cpu {
            held.extend(set_cpu(groups, quota, period)?);
        }
        match (self.pids, groups.v1("pids").or(groups.v2())) {
            (Some(most), Some(group)) => {
                write(group, "pids.max", &most.to_string())?;
                held.push(hold(PIDS, group, "pids.max")?);
            }
            (None, Some(group)) if group.has("pids.max") => {
                write(group, "pids.max", &self.most_processes().to_string())?
            }
            _ => {}
        }
        Ok(held)
    }
}

/// Swap is counted with memory, so that the limit is one. A kernel that does not count swap has no file for that.
fn set_memory(groups: &Home, bytes: &str) -> Result<WatchedLimit, CgroupError> {
    let (group, limit, swap, most_swap) = match (groups.v1("memory"), groups.v2()) {
        (Some(v1), _) => (v1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
        (None, Some(v2)) => (v2, "memory.max", "memory.swap.max", "0"),
        (None, None) => return Err(CgroupError::NoController { limit: "memory", controller: "memory" }),
    };
    write(group, limit, bytes)?;
    if group.has(swap) {
        write(group, swap, most_swap)?;
    }
    hold(MEMORY, group, limit)
}

fn set_cpu(groups: &Home, quota: i64, period: u64) -> Result<Option<WatchedLimit>, CgroupError> {
    match (groups.v1("cpu"), groups.v2()) {
        (Some(v1), _) => {
            write(v1, "cpu.cfs_period_us", &period.to_string())?;
            match write(v1, "cpu.cfs_quota_us", &quota.to_string()) {
                // v1 takes no quota above that of a group further up, which holds then.
                Err(CgroupError::Write { source, .. })
                    if source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
                {
                    Ok(None)
                }
                written => written.and_then(|()| hold(CPUS, v1, "cpu.cfs_quota_us").map(Some)),
            }
        }
        (None, Some(v2)) => {
            write(v2, "cpu.max", &format!("{quota} {period}"))?;
            hold(CPUS, v2, "cpu.max").map(Some)
        }
        (None, None) => Err(CgroupError::NoController { limit: "cpus", controller: "cpu" }),
    }
}

fn hold(need: Need, group: &GroupDir, name: &str) -> Result<WatchedLimit, CgroupError> {
    let path = group.path().join(name);
    let file = group.file(name, OFlags::RDONLY).map_err(CgroupError::Read)?;
    let says = read(&file).map_err(CgroupError::Read)?;
    Ok(WatchedLimit { set: SetLimit { limit: need.limit.to_owned(), says }, path, file: Ok(file) })
}

/// A file of the kernel gives its text anew when it is read from its beginning.
fn read(file: &File) -> std::io::Result<String> {
    let mut bytes = [0; MAX_BYTES];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim().to_owned())
}

impl WatchedLimit {
    pub(super) fn set(&self) -> &SetLimit {
        &self.set
    }

    /// Returns why the limit does not hold any more, if something else has lifted or changed it.
    pub(super) fn lost(&self) -> Option<String> {
        let (SetLimit { limit, says: was }, path) = (&self.set, self.path.display());
        let gone = |error: &std::io::Error| {
            format!(
                "`{limit}` under limits did not hold to its end: {path} is gone ({error}); start runner in a group \
                 that nobody else manages: `systemd-run --scope -p Delegate=yes runner …`"
            )
        };
        match self.file.as_ref().map(read) {
            Ok(Ok(says)) if says == *was => None,
            Ok(Ok(says)) => {
                Some(format!("`{limit}` under limits did not hold to its end: {path} was {was} and is {says}"))
            }
            Ok(Err(error)) => Some(gone(&error)),
            Err(error) => Some(gone(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_limit_that_something_else_changes_is_reported_with_both_values() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"4096\n").unwrap();
        let set = SetLimit { limit: "memory".into(), says: read(&file).unwrap() };
        let held = WatchedLimit { set, path: "/g/memory.max".into(), file: Ok(file) };
        assert_eq!(held.lost(), None);
        held.file.as_ref().unwrap().write_all_at(b"max \n", 0).unwrap();
        assert_eq!(
            held.lost().unwrap(),
            "`memory` under limits did not hold to its end: /g/memory.max was 4096 and is max"
        );
    }
}
