//! Names the key of a cache mount that admits one step at a time, where a program found another one's lock in it.

use super::{Failed, mount_of, paths};
use crate::model::{CacheMount, Container, MountKind, Sharing};

/// The messages of apt, dpkg, apk and pacman about a lock that another process has.
const IS_LOCKED: &[&str] = &["could not get lock", "unable to lock", "could not lock", "could not open lock file"];

/// Returns the hint, where the lock is in a cache that steps share, or where only such a cache can contain it.
pub(super) fn hint(container: &Container, failed: Failed<'_>) -> Option<String> {
    let cache = failed.lines(IS_LOCKED).find_map(|line| {
        let mut named = paths(line).peekable();
        if named.peek().is_some() {
            return named.find_map(|path| shared(&mount_of(container, path)?.kind));
        }
        container.mounts.iter().find_map(|mount| shared(&mount.kind))
    })?;
    Some(format!(
        "another step, here or in another runner, uses the cache {} too; `sharing: locked` in its mount lets one step at a time \
         use it",
        cache.id
    ))
}

fn shared(kind: &MountKind) -> Option<&CacheMount> {
    match kind {
        MountKind::Cache(cache) if cache.sharing == Sharing::Shared => Some(cache),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;

    fn hinted_for(sharing: Sharing, printed: &str) -> Option<String> {
        let cache = CacheMount { id: "apt".into(), sharing };
        let container = container(&[(MountKind::Cache(cache), "/var/cache/apt", &[]), (MountKind::Tmpfs, "/tmp", &[])]);
        hinted(&container, 0, printed, &TestSession::default())
    }

    #[test]
    fn another_steps_lock_in_a_shared_cache_gives_the_hint_sharing_locked() {
        for printed in [
            "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 0\n\
             E: Unable to lock directory /var/cache/apt/archives/",
            "E: Could not open lock file /var/cache/apt/lock - open (11: Resource temporarily unavailable)",
            "ERROR: Unable to lock database: Resource temporarily unavailable",
        ] {
            let hint = hinted_for(Sharing::Shared, printed).unwrap();
            assert!(hint.contains("uses the cache apt too; `sharing: locked`"), "{hint}");
        }
    }

    #[test]
    fn a_lock_elsewhere_or_in_a_locked_cache_has_no_hint() {
        for path in ["/var/lib/dpkg/lock-frontend", "/tmp/lock"] {
            assert_eq!(hinted_for(Sharing::Shared, &format!("E: Could not get lock {path}")), None, "{path}");
        }
        assert_eq!(hinted_for(Sharing::Locked, "E: Could not get lock /var/cache/apt/archives/lock"), None);
    }
}
