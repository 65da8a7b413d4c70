//! Scratch space: where what a session changes lives until a snapshot, in memory or on the store's disk.

use std::fs::{DirBuilder, remove_dir_all};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::build;
use crate::mount::{Mounted, mount_tmpfs};

/// A folder for changes; gone with the last that uses it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    place: Place,
    made: AtomicU32,
}

#[derive(Debug)]
enum Place {
    Memory { _mounted: Mounted },
    Disk,
}

impl Scratch {
    /// Makes one at `memory`, a folder to be made and mounted on, or at `disk`, a folder of the store to be made.
    ///
    /// # Errors
    /// What mount(2) or mkdir(2) say.
    pub fn create(kind: build::Scratch, memory: &Path, disk: &Path) -> io::Result<Self> {
        let (path, place) = match kind {
            build::Scratch::Tmpfs(bytes) => {
                private_folder(memory)?;
                let options = [format!("size={bytes}"), "mode=0700".into(), "nr_inodes=0".into()];
                (memory, Place::Memory { _mounted: mount_tmpfs(memory, &options)? })
            }
            build::Scratch::Disk => {
                private_folder(disk)?;
                (disk, Place::Disk)
            }
        };
        Ok(Self { path: path.to_owned(), place, made: AtomicU32::new(0) })
    }

    /// A new folder in it, mode 0755, its name led by `what`.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn folder(&self, what: &str) -> io::Result<PathBuf> {
        let path = self.path.join(format!("{what}{}", self.made.fetch_add(1, Ordering::Relaxed)));
        DirBuilder::new().mode(0o755).create(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if matches!(self.place, Place::Disk) {
            // What cannot be removed now is removed with the lease, at the latest at the next start.
            let _ = remove_dir_all(&self.path);
        }
    }
}

/// Makes a folder and all above it that only runner may look into.
///
/// # Errors
/// What mkdir(2) says.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
