//! Scratch space: where what a session changes lives until a snapshot, in memory or on the store's disk.

use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::context;
use crate::fs::remove_tree::remove_tree;
use crate::model;
use crate::mount::{Mounted, bind_without_access_times, mount_tmpfs};

/// A folder for changes; gone with the last that uses it.
///
/// Reading in it changes no access time: mksquashfs(1), where it writes images, takes two names for hard links of one file only if all that
/// stat(2) says of them is equal, and it has read a symbolic link's target by the time that it comes to the second name.
#[derive(Debug)]
pub struct Scratch {
    // Unmounted before it is removed.
    mounted: Mounted,
    disk: Option<Disk>,
    made: AtomicU32,
}

/// No scratch in memory is larger by itself.
const MAX_DEFAULT: u64 = 10 << 30;

/// Half of the memory of this host, or of what the cgroup that runner is in leaves it: a step that fills its root finds it
/// full, before the kernel ends runner for want of memory.
fn default_size(caller: Option<u64>) -> u64 {
    let host = rustix::system::sysinfo();
    let host = host.totalram.saturating_mul(u64::from(host.mem_unit));
    (caller.map_or(host, |limit| limit.min(host)) / 2).min(MAX_DEFAULT)
}

/// A folder of the store.
#[derive(Debug)]
struct Disk(PathBuf);

impl Scratch {
    /// Makes one, mounted at `place`, a folder to be made; `disk` is the folder of the store to be made for one on disk, and
    /// `caller` the memory that the cgroup of runner leaves it, if it has a limit.
    ///
    /// # Errors
    /// What mount(2) or mkdir(2) say.
    pub fn create(kind: model::Scratch, caller: Option<u64>, place: &Path, disk: &Path) -> io::Result<Self> {
        let made =
            |path: &Path| private_folder(path).map_err(context(format_args!("make the folder {}", path.display())));
        made(place)?;
        let in_memory = match kind {
            model::Scratch::Default => Some(default_size(caller)),
            model::Scratch::Tmpfs(bytes) => Some(bytes),
            model::Scratch::Disk => None,
        };
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
                (bound.map_err(context(format_args!("mount the folder {}", disk.0.display())))?, Some(disk))
            }
        };
        Ok(Self { mounted, disk, made: AtomicU32::new(0) })
    }

    /// Returns where it is mounted.
    pub fn place(&self) -> &Path {
        self.mounted.path()
    }

    /// Whether it is in the store.
    pub fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// A new folder in it, mode 0755, its name led by `what`.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn folder(&self, what: &str) -> io::Result<PathBuf> {
        let path = self.mounted.path().join(format!("{what}{}", self.made.fetch_add(1, Ordering::Relaxed)));
        new_folder(&path).map_err(context(format_args!("make the folder {}", path.display())))?;
        Ok(path)
    }
}

/// How many files a tmpfs of that size may hold: one for each page, and some for a small one. A file with something in it
/// takes a page at least, so only empty files come to that; without a bound, these take memory that the size does not
/// count. From Linux 6.6 on, extended attributes are bound by it too, at a KiB for each file that there might be.
pub fn inodes(bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    const FEWEST: u64 = 1024;
    (bytes / PAGE).max(FEWEST)
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be removed now is removed with the lease, at the latest at the next start.
        let _ = remove_tree(&self.0);
    }
}

/// Makes a folder with mode 0755, whatever the umask: what is seen inside does not depend on who started runner.
///
/// # Errors
/// What mkdir(2) says.
pub fn new_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    set_permissions(path, Permissions::from_mode(0o755))
}

/// Makes a folder and all above it that only runner may look into.
///
/// # Errors
/// What mkdir(2) says.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
