//! Controllers of cgroup v2 for what lies below a group, and the way back.
//!
//! A group other than the host's root cannot both hold processes and give its children controllers; tried all the same,
//! it becomes "domain threaded" and nothing starts below it. See `Documentation/admin-guide/cgroup-v2.rst` of the kernel.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::dir::{GroupDir, children};
use super::error::CgroupError;
use super::home::HOST_LEAF;
use crate::fs::xattr::XattrFile;

/// The extended attribute that names the controllers that runner has switched on for the groups below.
const ENABLED: &str = "trusted.runner.enabled";

/// The extended attributes by which systemd marks a group that its unit may arrange as it likes (`Delegate=yes`); the
/// second one since version 251.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

const ENABLED_BELOW: &str = "cgroup.subtree_control";

/// How often processes that were started meanwhile are moved.
const ROUNDS: u32 = 100;

/// A lock on a group that all runners take which change what it gives to the groups below.
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

/// A controller that a limit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// The key under `limits` of the manifest.
    pub limit: &'static str,
    /// The controller's name on v1 and v2.
    pub controller: &'static str,
}

/// Whether this is the host's root, not only that of a cgroup namespace: it may hold processes and give controllers.
pub(super) fn is_host_root(group: &GroupDir) -> bool {
    !group.has("cgroup.type")
}

/// Gives the groups below `group` these controllers. Its own processes are moved into a leaf of their own for that.
///
/// # Errors
/// Where the group has a controller not, or a process cannot be moved; then all is as it was.
pub(super) fn enable(group: &GroupDir, needs: &[Need]) -> Result<(), CgroupError> {
    let enabled = group.words(ENABLED_BELOW);
    let missing: Vec<Need> = needs.iter().copied().filter(|need| !has(&enabled, need.controller)).collect();
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
        note(group, &missing)?;
        let wanted: Vec<String> = missing.iter().map(|need| format!("+{}", need.controller)).collect();
        for _ in 0..ROUNDS {
            if !is_host_root(group) {
                vacate(group)?;
            }
            match group.write(ENABLED_BELOW, &wanted.join(" ")) {
                // A process was started here meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
                other => return other,
            }
        }
        Err(Errno::BUSY.into())
    };
    enable().map_err(|source| {
        give_back(group);
        CgroupError::Occupied { limit: first.limit, group: group.path().to_owned(), source }
    })
}

/// Whether the groups below `group` have that controller.
pub(super) fn is_on(group: &GroupDir, controller: &str) -> bool {
    has(&group.words(ENABLED_BELOW), controller)
}

/// Whether `group` has that controller, to give it to the groups below.
pub(super) fn has_controller(group: &GroupDir, controller: &str) -> bool {
    has(&group.words("cgroup.controllers"), controller)
}

/// Whether no process is in `group`, so that a controller can be switched on below it without moving any. The host's root
/// is for the host to set up.
pub(super) fn is_free(group: &GroupDir) -> bool {
    !is_host_root(group) && group.read("cgroup.procs").is_ok_and(|processes| processes.is_empty())
}

/// Whether whoever manages `group` has left it to the processes in it, which may then be moved into groups below.
pub(super) fn is_delegated(group: &GroupDir) -> bool {
    let file = XattrFile::open(group.as_fd());
    DELEGATED.into_iter().any(|name| file.value(name).is_ok_and(|value| value.is_some_and(|value| value == b"1")))
}

/// Gives the groups below `group` a controller for a limit that the manifest does not ask for: if the group has the
/// controller, and [is free](is_free) or [delegated](is_delegated).
pub(super) fn enable_by_default(group: &GroupDir, controller: &'static str) {
    if (is_free(group) || is_delegated(group)) && has_controller(group, controller) {
        // No limit asks for it, so none is missed.
        let _ = enable(group, &[Need { limit: controller, controller }]);
    }
}

/// Gives the groups below `group`, in which no process is, a controller if it has that.
pub(super) fn pass_on(group: &GroupDir, controller: &str) {
    if has_controller(group, controller) {
        let _ = group.write(ENABLED_BELOW, &format!("+{controller}"));
    }
}

/// Puts a v2 group back to what it was before a runner came, unless another one has groups below it: switches off what
/// was switched on, and moves what was moved.
pub fn restore(group: &GroupDir) {
    if switched_on(group).is_empty() && !group.has(HOST_LEAF) {
        return;
    }
    let Ok(_lock) = Lock::take(group) else { return };
    let below = children(group.as_fd()).unwrap_or_default();
    let in_use = below.iter().any(|name| name != HOST_LEAF && name.to_string_lossy().starts_with("runner-"));
    if !in_use {
        give_back(group);
    }
}

fn give_back(group: &GroupDir) {
    for controller in switched_on(group) {
        // A controller that somebody else uses by now stays on.
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

fn switched_on(group: &GroupDir) -> Vec<String> {
    let names = XattrFile::open(group.as_fd()).value(ENABLED).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&names).split_whitespace().map(str::to_owned).collect()
}

/// Written before anything is switched on: killed in between, runner leaves a name too many, which does no harm.
fn note(group: &GroupDir, needs: &[Need]) -> io::Result<()> {
    let mut names = switched_on(group);
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
    Err(io::Error::other("new processes are started there all the time"))
}

/// Moves the processes of one group into another; how many there were.
fn move_all(from: &GroupDir, to: &GroupDir) -> io::Result<usize> {
    let processes = from.words("cgroup.procs");
    for pid in &processes {
        if pid == "0" {
            return Err(io::Error::other("it belongs to another PID namespace"));
        }
        match to.write("cgroup.procs", pid) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            other => other?,
        }
    }
    Ok(processes.len())
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Home;

    #[test]
    fn a_group_is_delegated_where_an_attribute_of_it_says_so() {
        let home = Home::of_this_process().unwrap();
        let made = home.create(&format!("runner-unit-delegated-{}", std::process::id())).unwrap();
        let group = made.v2().unwrap();
        let mut found = vec![is_delegated(group)];
        for (name, value) in [("trusted.delegate", "0"), ("trusted.delegate", "1"), ("user.delegate", "1")] {
            XattrFile::open(group.as_fd()).set(name, value.as_bytes()).unwrap();
            found.push(is_delegated(group));
            XattrFile::open(group.as_fd()).remove(name).unwrap();
        }
        assert!(made.remove());
        assert_eq!(found, [false, false, true, true]);
    }
}
