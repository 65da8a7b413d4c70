//! The leftovers of runner, or of an attack that got through, on this host: finds and removes processes and cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience;

/// Returns the cgroup hierarchies of this host.
pub fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let inside = fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
    inside.filter(|path| !path.is_symlink() && path.join("cgroup.procs").exists()).collect()
}

/// Returns the groups that this runner has made, wherever in the hierarchies they are.
pub fn groups_of(runner: u32) -> Vec<PathBuf> {
    fn search(path: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
            search(&entry.path(), prefix, found);
        }
    }
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        search(&hierarchy, &format!("runner-{runner}-"), &mut found);
    }
    found
}

/// Removes a group and those below, thawed, and ends the processes in them.
pub fn remove_group(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&entry.path());
    }
    thaw(path);
    for _ in 0..patience::seconds(200) {
        for pid in fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default().lines() {
            kill(pid, "KILL");
        }
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn thaw(group: &Path) {
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    let _ = fs::write(group.join("cgroup.freeze"), "0");
}

/// Sends a signal to a process that may have ended.
pub fn kill(pid: &str, signal: &str) {
    let _ = Command::new("kill").args([&format!("-{signal}"), pid]).stderr(Stdio::null()).status();
}

/// Returns the processes of the host whose command line has this text.
pub fn processes_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).replace('\0', " ").contains(text) {
            found.push(process.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Removes the leftovers of this runner, and processes with this text, so that the host and other attacks do not suffer.
pub fn clear(runner: u32, text: &str) {
    for pid in processes_of(text).into_iter().filter(|_| !text.is_empty()) {
        for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().lines() {
            let path = line.rsplit(':').next().unwrap_or_default().trim_start_matches('/').to_owned();
            hierarchies().iter().filter(|_| !path.is_empty()).for_each(|hierarchy| thaw(&hierarchy.join(&path)));
        }
        kill(&pid, "KILL");
    }
    // A group is removed after those below it.
    groups_of(runner).iter().rev().for_each(|path| remove_group(path));
}

/// Returns whether a condition became true within that many seconds of a usual machine.
pub fn wait_until(seconds: u64, is_so: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(patience::seconds(seconds));
    while Instant::now() < deadline {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    is_so()
}
