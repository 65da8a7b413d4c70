//! The mount namespaces of external runtimes' containers that have ended, held as long as the workspace of a build.
//!
//! When the last hold of a mount namespace goes, the kernel takes its mounts apart: a directory of it that is open elsewhere
//! shows the files that other mounts hid. A step can send such a directory to a step that runs beside it. The embedded
//! runtime confines its steps with Landlock instead, see `src/init/sys/landlock.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};

/// As many are held at most: each is a descriptor of this process, of which they take a quarter.
const MAX_HELD: usize = 400;

/// The namespaces; all sessions of a workspace share them.
#[derive(Debug, Default)]
pub struct HeldMounts(Mutex<VecDeque<OwnedFd>>);

impl HeldMounts {
    /// Holds a namespace; past the most the oldest goes.
    pub(super) fn hold(&self, namespace: OwnedFd) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let descriptors = getrlimit(Resource::Nofile).current.map_or(MAX_HELD, |most| most as usize / 4);
        if held.len() >= MAX_HELD.min(descriptors) {
            held.pop_front();
        }
        held.push_back(namespace);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn no_more_are_held_than_leave_runner_its_descriptors() {
        let most = getrlimit(Resource::Nofile).current.map_or(MAX_HELD, |most| MAX_HELD.min(most as usize / 4));
        let held = HeldMounts::default();
        for _ in 0..most + 3 {
            held.hold(File::open("/dev/null").unwrap().into());
        }
        assert_eq!(held.0.lock().unwrap().len(), most);
    }
}
