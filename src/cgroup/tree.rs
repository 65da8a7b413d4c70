//! Thaws, kills and removes a group and all groups below it, which hostile processes may have frozen and nested deeply.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::dir::{GroupDir, children, step_to};
use super::group_set::{GroupSet, Hierarchy};

/// How long a group may take to freeze all its processes: one may wait for a disk.
const FREEZE_TIMEOUT: Duration = Duration::from_millis(100);

/// How long the removal of a group may take after its processes were killed.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(2);

impl GroupSet {
    /// Thaws the processes in these groups and all below, and lifts the limits on their processor time below these groups:
    /// thousands of processes that wait for processor time do not end by SIGKILL either.
    pub fn thaw(&self) {
        for hierarchy in self.hierarchies() {
            if hierarchy.has("cpu") || hierarchy.is_v2() {
                let (file, all) = if hierarchy.is_v2() { ("cpu.max", "max") } else { ("cpu.cfs_quota_us", "-1") };
                let lift = &mut |group: BorrowedFd<'_>| write(group, file, all);
                let _ = descend(hierarchy.own.as_fd(), lift, &mut |_, _| {});
            }
            if hierarchy.has("freezer") {
                thaw_v1(&hierarchy.own);
            } else if hierarchy.is_v2() {
                let _ = walk(hierarchy.own.as_fd(), &mut |group| write(group, "cgroup.freeze", "0"));
            }
        }
    }

    /// Kills every process in these groups and all below, frozen ones too. Some may not have ended on return.
    pub fn kill(&self) {
        let of = |matches: fn(&Hierarchy) -> bool| {
            let matching = self.hierarchies().iter().filter(move |hierarchy| matches(hierarchy));
            matching.map(|hierarchy| &hierarchy.own).collect::<Vec<_>>()
        };
        let (v2, freezers) = (of(Hierarchy::is_v2), of(|hierarchy| hierarchy.has("freezer")));
        let mut at_once = !v2.is_empty();
        for group in &v2 {
            at_once &= group.write("cgroup.kill", "1").is_ok();
        }
        // Linux before 5.14 has no such file, and a host may have no v2. Then the group is frozen from above, where no process
        // inside can thaw it, so that none can fork or freeze others while it is killed.
        if !at_once {
            freezers.iter().for_each(|group| freeze_v1(group));
            v2.iter().for_each(|group| drop(group.write("cgroup.freeze", "1")));
        }
        for group in if freezers.is_empty() { &v2 } else { &freezers } {
            let _ = walk(group.as_fd(), &mut kill_members);
        }
        self.thaw();
    }

    /// Freezes all processes in these groups and all below, as far as that is done in time, calls `meanwhile`, and thaws them.
    /// Signals that they get meanwhile take effect afterwards.
    pub fn while_frozen(&self, meanwhile: impl FnOnce()) {
        let freezer = self.hierarchies().iter().find(|hierarchy| hierarchy.has("freezer"));
        match (freezer, self.v2()) {
            (Some(freezer), _) => freeze_v1(&freezer.own),
            (None, Some(v2)) => freeze_v2(v2),
            (None, None) => {}
        }
        meanwhile();
        self.thaw();
    }

    /// Returns the processes in these groups and all below, as far as this PID namespace sees them.
    pub fn processes(&self) -> Vec<Pid> {
        let hierarchies = self.hierarchies();
        // On v1 each hierarchy has a group of its own; that of the freezer contains all processes.
        let freezer = hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        let Some(hierarchy) = freezer.or_else(|| hierarchies.iter().find(|hierarchy| hierarchy.is_v2())) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        let _ = walk(hierarchy.own.as_fd(), &mut |group| all.extend(members(group)));
        all
    }

    /// Removes these groups and all below, with the processes in them. Returns whether none remains.
    pub fn remove(&self) -> bool {
        let deadline = Instant::now() + REMOVE_TIMEOUT;
        let mut remaining: Vec<&GroupDir> = self.hierarchies().iter().map(|hierarchy| &hierarchy.own).collect();
        for round in 0u32.. {
            remaining.retain(|group| {
                group.remove().is_err() && {
                    remove_below(group.as_fd());
                    group.remove().is_err()
                }
            });
            if remaining.is_empty() {
                return true;
            }
            // Usually all processes have ended, and the kernel only needs a moment to release them.
            if round > 0 {
                self.kill();
            }
            if Instant::now() > deadline {
                return false;
            }
            sleep(PAUSE);
        }
        false
    }
}

fn freeze_v1(group: &GroupDir) {
    let _ = group.write("freezer.state", "FROZEN");
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    while group.read("freezer.state").is_ok_and(|state| state.trim() == "FREEZING") && Instant::now() < deadline {
        sleep(PAUSE);
    }
}

fn freeze_v2(group: &GroupDir) {
    let _ = group.write("cgroup.freeze", "1");
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    while group.read("cgroup.events").is_ok_and(|events| events.contains("frozen 0")) && Instant::now() < deadline {
        sleep(PAUSE);
    }
}

/// Thaws from the bottom up, so that all groups below are thawed when the topmost one is.
fn thaw_v1(group: &GroupDir) {
    let _ = walk(group.as_fd(), &mut |group| write(group, "freezer.state", "THAWED"));
    let _ = group.write("freezer.state", "THAWED");
}

fn kill_members(group: BorrowedFd<'_>) {
    for pid in members(group) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

fn members(group: BorrowedFd<'_>) -> Vec<Pid> {
    let read = || -> io::Result<String> {
        let file = openat(group, "cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::read_to_string(std::fs::File::from(file))
    };
    let read = read().unwrap_or_default();
    // 0 stands for a process that this PID namespace does not see; to kill(2) it means the caller's own process group.
    read.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw).collect()
}

fn write(group: BorrowedFd<'_>, name: &str, text: &str) {
    if let Ok(file) = openat(group, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, text.as_bytes());
    }
}

/// Calls `visit` for each group below `top`, a group before those below it, and last for `top` itself. At any depth, only one
/// descriptor is open at a time.
fn walk(top: BorrowedFd<'_>, visit: &mut dyn FnMut(BorrowedFd<'_>)) -> io::Result<()> {
    descend(top, visit, &mut |_, _| {})?;
    visit(top);
    Ok(())
}

/// Removes all groups below `top`, as far as they contain no process.
fn remove_below(top: BorrowedFd<'_>) {
    let _ = descend(top, &mut |_| {}, &mut |parent, name| {
        let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
    });
}

/// Calls `enter` for each group below `top` on the way down, and `leave` with its parent and name on the way up.
fn descend(
    top: BorrowedFd<'_>,
    enter: &mut dyn FnMut(BorrowedFd<'_>),
    leave: &mut dyn FnMut(BorrowedFd<'_>, &OsString),
) -> io::Result<()> {
    let mut current: OwnedFd = top.try_clone_to_owned()?;
    // For each level from `top` down: the groups that remain to be visited, and the names on the way there.
    let mut levels = vec![children(top)?];
    let mut names: Vec<OsString> = Vec::new();
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pop() {
            // A group that was removed by now needs nothing.
            let Ok(below) = step_to(current.as_fd(), &name) else { continue };
            enter(below.as_fd());
            levels.push(children(below.as_fd()).unwrap_or_default());
            names.push(name);
            current = below;
        } else {
            levels.pop();
            if let Some(name) = names.pop() {
                current = step_to(current.as_fd(), "..".as_ref())?;
                leave(current.as_fd(), &name);
            }
        }
    }
    Ok(())
}
