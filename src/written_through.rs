//! Mounts that outlast their session and that steps may write to: nothing undoes a step's half-finished writes there.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{Mount, MountKind};

/// Filesystems that end with their session, or with a step.
const IN_MEMORY: [&str; 9] = ["cgroup", "cgroup2", "devpts", "mqueue", "proc", "ramfs", "securityfs", "sysfs", "tmpfs"];

/// A writable bind, a cache, or a filesystem of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WrittenThrough {
    /// The target inside; bytes that are not UTF-8 are replaced.
    pub target: String,
    /// The path on the host, or its kind.
    pub what: String,
}

impl WrittenThrough {
    /// Returns the entry of a mount, if it is such a one.
    pub fn of(mount: &Mount) -> Option<Self> {
        let lasts = match &mount.kind {
            MountKind::Bind(_) | MountKind::Cache(_) => true,
            MountKind::Kernel(kind, _) => !IN_MEMORY.contains(&kind.as_str()),
            MountKind::Tmpfs
            | MountKind::Secret(_)
            | MountKind::Ssh(_)
            | MountKind::Snapshot { .. }
            | MountKind::Image(_) => false,
        };
        let target = mount.target.display().to_string();
        (lasts && !mount.is_read_only()).then(|| Self { target, what: mount.kind.name() })
    }

    /// Returns those of all mounts of a container.
    pub fn all(mounts: &[Mount]) -> Vec<Self> {
        mounts.iter().filter_map(Self::of).collect()
    }

    /// Returns all of them in words.
    pub fn list(all: &[Self]) -> String {
        let each = all.iter().map(|Self { target, what }| format!("{target} ({what})"));
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CacheMount, Sharing};

    #[test]
    fn writable_binds_and_caches_are_listed_and_mounts_that_end_with_the_session_are_not() {
        let mount = |kind: MountKind, target: &str, options: &[&str]| {
            let options = options.iter().map(ToString::to_string).collect();
            Mount { kind, target: target.into(), options, ignored: false }
        };
        let bind = || MountKind::Bind("/work/src".into());
        let cache = || MountKind::Cache(CacheMount { id: "apt".into(), sharing: Sharing::Shared });
        let mounts = [
            mount(bind(), "/src", &[]),
            mount(bind(), "/read", &["ro"]),
            mount(cache(), "/var/cache/apt", &["nodev"]),
            mount(cache(), "/cache", &["ro"]),
            mount(MountKind::Tmpfs, "/tmp", &[]),
            mount(MountKind::Kernel("ramfs".into(), "ramfs".into()), "/ram", &[]),
            mount(MountKind::Kernel("ext4".into(), "/dev/loop0".into()), "/disk", &["rw"]),
        ];
        let words = WrittenThrough::list(&WrittenThrough::all(&mounts));
        assert_eq!(words, "/src (/work/src), /var/cache/apt (the cache apt), /disk (a filesystem ext4)");
    }
}
