//! Makes the scratch space of a session's changes until a snapshot, in memory or on the store's disk.

use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::context;
use crate::fs::remove_tree::remove_tree;
use crate::model;
use crate::mount::{Mounted, bind_without_access_times, mount_tmpfs};

/// A directory for changes, which is removed with its last user.
///
/// Reading in it changes no access time: mksquashfs(1), if it writes the images, recognizes two names as hard links of one file only
/// if their stat(2) is equal, and it has read a symbolic link's target before it reaches the second name.
#[derive(Debug)]
pub struct Scratch {
    // Declared before `disk`: it is unmounted before the directory is removed.
    mounted: Mounted,
    disk: Option<Disk>,
    made: AtomicU32,
}

/// The largest default size of a scratch in memory.
const MAX_DEFAULT: u64 = 10 << 30;

/// Returns half of the memory of this host, or of the limit of runner's cgroup: a step that fills its root gets an error before
/// the kernel kills runner because memory ran out.
fn default_size(caller: Option<u64>) -> u64 {
    let host = rustix::system::sysinfo();
    let host = host.totalram.saturating_mul(u64::from(host.mem_unit));
    (caller.map_or(host, |limit| limit.min(host)) / 2).min(MAX_DEFAULT)
}

/// Returns the size of a scratch in memory, given the memory limit of runner's cgroup; none for one on disk.
pub(super) fn bytes(kind: model::Scratch, caller: Option<u64>) -> Option<u64> {
    match kind {
        model::Scratch::Default => Some(default_size(caller)),
        model::Scratch::Tmpfs(bytes) => Some(bytes),
        model::Scratch::Disk => None,
    }
}

/// A directory of the store.
#[derive(Debug)]
struct Disk(PathBuf);

impl Scratch {
    /// Makes the directory `place`, and mounts a scratch there; for a scratch on disk it makes the directory `disk` in the store.
    /// `caller` is the memory limit of runner's cgroup, if it has one.
    ///
    /// # Errors
    /// Those of mount(2) and mkdir(2).
    pub fn create(kind: model::Scratch, caller: Option<u64>, place: &Path, disk: &Path) -> io::Result<Self> {
        let made = |path: &Path| {
            private_directory(path).map_err(context(format_args!("make the directory {}", path.display())))
        };
        made(place)?;
        let in_memory = bytes(kind, caller);
        let (mounted, disk) = match in_memory {
            Some(bytes) => {
                let inodes = format!("nr_inodes={}", inodes(bytes));
                let options = [format!("size={bytes}"), "mode=0700".into(), inodes, "noatime".into()];
                (mount_tmpfs(place, &options).map_err(context(format_args!("mount a tmpfs of {bytes} bytes")))?, None)
            }
            None => {
                made(disk)?;
                let disk = Disk(disk.to_owned());
                let bound = bind_without_access_times(&disk.0, place);
                (bound.map_err(context(format_args!("mount the directory {}", disk.0.display())))?, Some(disk))
            }
        };
        Ok(Self { mounted, disk, made: AtomicU32::new(0) })
    }

    /// Returns the path at which the scratch is mounted.
    pub fn place(&self) -> &Path {
        self.mounted.path()
    }

    /// Returns whether the scratch is in the store.
    pub fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Makes a new directory in the scratch, with mode 0755, whose name begins with `purpose`.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn directory(&self, purpose: &str) -> io::Result<PathBuf> {
        let path = self.mounted.path().join(format!("{purpose}{}", self.made.fetch_add(1, Ordering::Relaxed)));
        new_directory(&path).map_err(context(format_args!("make the directory {}", path.display())))?;
        Ok(path)
    }
}

/// Returns the limit on files in a tmpfs of this size: one for each page, and a minimum for a small one. A file with content takes
/// at least a page, so only empty files reach the limit; without a limit, these take memory that the size does not include. Since
/// Linux 6.6 the limit also applies to extended attributes, at a KiB for each possible file.
pub fn inodes(bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    const MIN_FILES: u64 = 1024;
    (bytes / PAGE).max(MIN_FILES)
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Files that cannot be removed now are removed with the lease, at the latest at the next start.
        let _ = remove_tree(&self.0);
    }
}

/// Makes a directory with mode 0755, whatever the umask, so that steps see the same mode whoever has started runner.
///
/// # Errors
/// Those of mkdir(2).
pub fn new_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    set_permissions(path, Permissions::from_mode(0o755))
}

/// Makes a directory that only runner may read, and all missing ones above it.
///
/// # Errors
/// Those of mkdir(2).
pub fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
