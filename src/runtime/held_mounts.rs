//! The mount namespaces of external runtimes' containers that have ended, held until runner ends.
//!
//! When the last hold of a mount namespace goes, the kernel takes its mounts apart: a directory of it that is open elsewhere
//! shows the files that other mounts hid. A step can send such a directory to a step that runs beside it. The embedded
//! runtime confines its steps with Landlock instead, see `src/init/sys/landlock.rs`.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// As many are held: each is a descriptor of this process.
const MAX_HELD: usize = 400;

static HELD: Mutex<VecDeque<OwnedFd>> = Mutex::new(VecDeque::new());

/// Holds a namespace; past [`MAX_HELD`] the oldest goes.
pub fn hold(namespace: OwnedFd) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if held.len() == MAX_HELD {
        held.pop_front();
    }
    held.push_back(namespace);
}
