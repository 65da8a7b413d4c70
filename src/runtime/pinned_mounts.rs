//! Pins the mount namespaces of external runtimes' ended containers, as long as the workspace of a build exists.
//!
//! When the last reference to a mount namespace goes, the kernel separates its mounts: a directory of that namespace that is
//! open elsewhere then shows the files that other mounts hid. A step can send such a directory to a step that runs in parallel.
//! The embedded runtime confines its steps with Landlock instead, see `src/init/sys/landlock.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::process::{Resource, getrlimit};

use crate::poison::lock;

/// The most namespaces that are pinned: each takes a descriptor of this process, and all of them at most a quarter of those.
const MAX_PINNED: usize = 400;

/// The pinned namespaces; all sessions of a workspace share this list.
#[derive(Debug, Default)]
pub struct PinnedMounts(Mutex<VecDeque<OwnedFd>>);

impl PinnedMounts {
    /// Pins a namespace; where the list is full, it releases the oldest one.
    pub(super) fn pin(&self, namespace: OwnedFd) {
        let mut pinned = lock(&self.0);
        let descriptors = getrlimit(Resource::Nofile).current.map_or(MAX_PINNED, |most| most as usize / 4);
        if pinned.len() >= MAX_PINNED.min(descriptors) {
            pinned.pop_front();
        }
        pinned.push_back(namespace);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn pinned_namespaces_take_at_most_a_quarter_of_the_descriptors() {
        let most = getrlimit(Resource::Nofile).current.map_or(MAX_PINNED, |most| MAX_PINNED.min(most as usize / 4));
        let pinned = PinnedMounts::default();
        for _ in 0..most + 3 {
            pinned.pin(File::open("/dev/null").unwrap().into());
        }
        assert_eq!(pinned.0.lock().unwrap().len(), most);
    }
}
