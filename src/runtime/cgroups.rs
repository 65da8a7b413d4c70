//! Cgroups that a killed runner, or a runtime, left behind: found by their names, and removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::Layout;

/// The prefix of the cgroups of all containers of one lease.
pub fn prefix(lease: &str) -> String {
    format!("runner-{lease}-")
}

/// Removes what is left of a lease that no living process holds, with the processes in it; true when nothing is left.
pub fn remove_left_over(lease: &str) -> bool {
    let prefix = prefix(lease);
    remove_where(|name| name.starts_with(&prefix))
}

/// The prefix of the cgroups of the steps of a session that has one for each.
pub fn step_prefix(container: &str) -> String {
    format!("{container}-")
}

/// Removes what is left of a session that has a cgroup for each step; true when nothing is left.
pub fn remove_steps(container: &str) -> bool {
    let prefix = step_prefix(container);
    remove_where(|name| name.starts_with(&prefix))
}

/// Removes the cgroups of one container; true when nothing is left.
pub fn remove_container(id: &str) -> bool {
    remove_where(|name| name == id)
}

fn remove_where(is_left: impl Fn(&str) -> bool) -> bool {
    let mut clean = true;
    for root in Layout::of_this_host().unwrap_or_default().mounts() {
        let Ok(entries) = fs::read_dir(root) else { continue };
        for entry in entries.flatten() {
            if is_left(&entry.file_name().to_string_lossy()) {
                clean &= remove(&entry.path());
            }
        }
    }
    clean
}

fn remove(folder: &Path) -> bool {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        if fs::remove_dir(folder).is_ok() || !folder.exists() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
