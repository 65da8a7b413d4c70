//! Takes the turn of a step, or of a command, with the caches of its container: one with `sharing: locked` admits one
//! at a time.
//!
//! Every runner takes the turns of all caches in the order of their ids, so that no two steps wait for each other. A
//! step that waits has not begun, and one that has its turns waits for no other step.

use std::collections::BTreeMap;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::context::Context;
use crate::model::{ContainerId, MountKind, Sharing};
use crate::store::{CacheTurn, StoreError};

/// The time between two attempts to take a turn.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Waits for the turn with every cache of a container; none where the build is interrupted before, or `gives_up`
/// returns true. Calls `report` with the id of each cache that it must wait for.
///
/// # Errors
/// Those of locking.
pub fn take_turns(
    context: Context<'_>,
    container: ContainerId,
    gives_up: impl Fn() -> bool,
    mut report: impl FnMut(&str),
) -> Result<Option<Vec<CacheTurn>>, StoreError> {
    let mut caches: BTreeMap<&str, Sharing> = BTreeMap::new();
    for mount in &context.build.container(container).mounts {
        if let MountKind::Cache(cache) = &mount.kind {
            let sharing = caches.entry(&cache.id).or_insert(cache.sharing);
            if cache.sharing == Sharing::Locked {
                *sharing = Sharing::Locked;
            }
        }
    }
    let mut turns = Vec::new();
    for (id, sharing) in caches {
        let mut is_reported = false;
        let turn = loop {
            if let Some(turn) = context.store.try_cache_turn(id, sharing)? {
                break turn;
            }
            if context.interrupt.is_set() || gives_up() {
                return Ok(None);
            }
            if !is_reported {
                is_reported = true;
                report(id);
            }
            let mut polled = [PollFd::from_borrowed_fd(context.interrupt.descriptor(), PollFlags::IN)];
            // The loop tries again, also after an early return.
            let _ = poll(&mut polled, Some(&POLL_INTERVAL));
        };
        turns.push(turn);
    }
    Ok(Some(turns))
}
