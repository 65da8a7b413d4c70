//! Enables controllers of cgroup v2 for the groups below a group, and disables them again.
//!
//! A group other than the host's root cannot both contain processes and enable controllers for the groups below it. A process
//! that does so nevertheless turns it "domain threaded", and no process starts below it. See
//! `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::dir::{GroupDir, children};
use super::error::CgroupError;
use super::group_set::HOST_LEAF;
use crate::fs::xattr::XattrFile;

/// The extended attribute that lists the controllers that runner has enabled for the groups below.
const ENABLED: &str = "trusted.runner.enabled";

/// The extended attributes by which systemd marks a group that its unit may manage itself (`Delegate=yes`); the second one
/// since version 251.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

const ENABLED_BELOW: &str = "cgroup.subtree_control";

/// How often runner moves processes that were started meanwhile.
const ROUNDS: u32 = 100;

/// A lock on a group. Each runner takes it before it changes the controllers that the group enables for the groups below.
#[derive(Debug)]
pub(super) struct Lock<'a>(&'a GroupDir);

impl<'a> Lock<'a> {
    pub(super) fn take(group: &'a GroupDir) -> io::Result<Self> {
        loop {
            match flock(group, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(group)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// A limit, and the controller that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ControllerNeed {
    /// The key under `limits` of the manifest.
    pub limit: &'static str,
    /// The controller's name on v1 and v2.
    pub controller: &'static str,
}

/// Returns whether this is the host's root, and not only that of a cgroup namespace: it may contain processes and enable
/// controllers.
pub(super) fn is_host_root(group: &GroupDir) -> bool {
    !group.has("cgroup.type")
}

/// Enables these controllers for the groups below `group`. For that it moves the group's own processes into a leaf.
///
/// # Errors
/// Where the group does not have a controller, or a process cannot be moved; then the group is unchanged.
pub(super) fn enable(group: &GroupDir, needs: &[ControllerNeed]) -> Result<(), CgroupError> {
    let enabled = group.words(ENABLED_BELOW);
    let missing: Vec<ControllerNeed> = needs.iter().copied().filter(|need| !has(&enabled, need.controller)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let available = group.words("cgroup.controllers");
    if let Some(need) = missing.iter().find(|need| !has(&available, need.controller)) {
        let (limit, controller) = (need.limit, need.controller);
        return Err(CgroupError::Lacking { limit, controller, group: group.path().to_owned() });
    }
    let kind = group.read("cgroup.type").unwrap_or_default();
    if !matches!(kind.trim(), "" | "domain") {
        let kind = kind.trim().to_owned();
        return Err(CgroupError::Threaded { limit: first.limit, group: group.path().to_owned(), kind });
    }
    let enable = || -> io::Result<()> {
        record_enabled(group, &missing)?;
        let names: Vec<String> = missing.iter().map(|need| format!("+{}", need.controller)).collect();
        for _ in 0..ROUNDS {
            if !is_host_root(group) {
                vacate(group)?;
            }
            match group.write(ENABLED_BELOW, &names.join(" ")) {
                // A process was started here meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
                other => return other,
            }
        }
        Err(Errno::BUSY.into())
    };
    enable().map_err(|source| {
        undo(group);
        CgroupError::Occupied { limit: first.limit, group: group.path().to_owned(), source }
    })
}

/// Returns whether the groups below `group` have this controller.
pub(super) fn is_enabled(group: &GroupDir, controller: &str) -> bool {
    has(&group.words(ENABLED_BELOW), controller)
}

/// Returns whether `group` has this controller, and can enable it for the groups below.
pub(super) fn has_controller(group: &GroupDir, controller: &str) -> bool {
    has(&group.words("cgroup.controllers"), controller)
}

/// Returns whether `group` contains no process, so that runner can enable a controller below it without moving any. The host
/// itself decides about its root.
pub(super) fn is_empty(group: &GroupDir) -> bool {
    !is_host_root(group) && group.read("cgroup.procs").is_ok_and(|processes| processes.is_empty())
}

/// Returns whether the manager of `group` has delegated it to the processes in it, which runner may then move into groups below.
pub(super) fn is_delegated(group: &GroupDir) -> bool {
    let file = XattrFile::open(group.as_fd());
    DELEGATED.into_iter().any(|name| file.value(name).is_ok_and(|value| value.is_some_and(|value| value == b"1")))
}

/// Enables a controller below `group` for a limit that the manifest does not request, if the group has the controller, and
/// [is empty](is_empty) or [delegated](is_delegated).
pub(super) fn enable_by_default(group: &GroupDir, controller: &'static str) {
    if (is_empty(group) || is_delegated(group)) && has_controller(group, controller) {
        // The manifest requests no such limit, so a failure breaks no promise.
        let _ = enable(group, &[ControllerNeed { limit: controller, controller }]);
    }
}

/// Enables a controller below `group`, which contains no process, if the group has it.
pub(super) fn enable_if_available(group: &GroupDir, controller: &str) {
    if has_controller(group, controller) {
        let _ = group.write(ENABLED_BELOW, &format!("+{controller}"));
    }
}

/// Restores a v2 group to its state before runner, unless another runner has groups below it: disables the controllers, and moves
/// the processes back.
pub fn restore(group: &GroupDir) {
    if enabled_by_runner(group).is_empty() && !group.has(HOST_LEAF) {
        return;
    }
    let Ok(_lock) = Lock::take(group) else { return };
    let below = children(group.as_fd()).unwrap_or_default();
    let in_use = below.iter().any(|name| name != HOST_LEAF && name.to_string_lossy().starts_with("runner-"));
    if !in_use {
        undo(group);
    }
}

fn undo(group: &GroupDir) {
    for controller in enabled_by_runner(group) {
        // A controller that another program uses by now stays enabled.
        let _ = group.write(ENABLED_BELOW, &format!("-{controller}"));
    }
    let _ = XattrFile::open(group.as_fd()).remove(ENABLED);
    let Ok(leaf) = group.child(HOST_LEAF) else { return };
    for _ in 0..ROUNDS {
        if move_all(&leaf, group).is_err() || leaf.remove().is_ok() {
            return;
        }
    }
}

fn enabled_by_runner(group: &GroupDir) -> Vec<String> {
    let names = XattrFile::open(group.as_fd()).value(ENABLED).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&names).split_whitespace().map(str::to_owned).collect()
}

/// Records the controllers before any is enabled: if runner is killed in between, an extra name remains, which does no harm.
fn record_enabled(group: &GroupDir, needs: &[ControllerNeed]) -> io::Result<()> {
    let mut names = enabled_by_runner(group);
    for need in needs {
        if !has(&names, need.controller) {
            names.push(need.controller.to_owned());
        }
    }
    Ok(XattrFile::open(group.as_fd()).set(ENABLED, names.join(" ").as_bytes())?)
}

fn vacate(group: &GroupDir) -> io::Result<()> {
    if group.read("cgroup.procs")?.is_empty() {
        return Ok(());
    }
    let leaf = match group.create(HOST_LEAF) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => group.child(HOST_LEAF)?,
        other => other?,
    };
    for _ in 0..ROUNDS {
        if move_all(group, &leaf)? == 0 {
            return Ok(());
        }
    }
    Err(io::Error::other("new processes start there all the time"))
}

/// Moves the processes of one group into another. Returns how many there were.
fn move_all(from: &GroupDir, to: &GroupDir) -> io::Result<usize> {
    let processes = from.words("cgroup.procs");
    for pid in &processes {
        if pid == "0" {
            return Err(io::Error::other("it belongs to another PID namespace"));
        }
        match to.write("cgroup.procs", pid) {
            // The process has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            other => other?,
        }
    }
    Ok(processes.len())
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::GroupSet;

    #[test]
    fn a_group_is_delegated_if_systemds_attribute_is_1() {
        let home = GroupSet::of_this_process().unwrap();
        let made = home.create(&format!("runner-unit-delegated-{}", std::process::id())).unwrap();
        let group = made.v2().unwrap();
        let mut results = vec![is_delegated(group)];
        for (name, value) in [("trusted.delegate", "0"), ("trusted.delegate", "1"), ("user.delegate", "1")] {
            XattrFile::open(group.as_fd()).set(name, value.as_bytes()).unwrap();
            results.push(is_delegated(group));
            XattrFile::open(group.as_fd()).remove(name).unwrap();
        }
        assert!(made.remove());
        assert_eq!(results, [false, false, true, true]);
    }
}
