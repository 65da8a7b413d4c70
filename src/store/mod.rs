//! The store: the files that last between builds, and those that a build needs while it runs.
//!
//! # Layout
//! ```text
//! format                       the layout's version, `1`
//! layers/sha256/<hex>.squashfs a layer under its digest; 0444, complete or absent
//! exports/sha256/<hex> what an export step wrote, under its digest; 0444, complete or absent
//! exported/<hex>.json  the files of a directory that runner exported; <hex> is the SHA-256 of its path
//! keys/<hex>.json              the result that was built under a key, with the key's fields; complete or absent
//! parents/<hex>.json           the topmost parent that something was built on, a layer or a rootfs source, and the digest of those
//!                              below it; <hex> is the digest of both
//! last/<hex>.json              the last keys of a step; by project; <hex> is the SHA-256 of the build's name, NUL, and the step's
//! timings/<hex>.json           how long the steps of a build last took; by project; <hex> is the SHA-256 of the build's name
//! building/<hex>               locked by the runner that builds that key
//! damaged/<hex>.squashfs       a layer whose bytes had changed since it was written
//! lock-files/<hex>             the path of a lock file, whose layers no collection removes; <hex> is the SHA-256 of the path
//! stat/, listings/             digests and listings of host directories, see `content`
//! sources/<hex>                the digest of a path of a snapshot from which files were taken, see `cache`; <hex> is the SHA-256 of the
//!                              digest of its layers, the epoch and the path
//! programs/<hex>               the digest of a program; <hex> is the SHA-256 of its file's path and identity
//! names/<hex>.json             the digest that a name of a rootfs source led to; <hex> is the SHA-256 of its kind, NUL, and it
//! documents/<hex>              an index, a manifest or a configuration of an OCI image, under its digest
//! cache/<hex>/                 a cache mount; <hex> is the SHA-256 of its id
//! cache/<hex>.use              its id; locked by each build that has it mounted
//! cache/<hex>.turn             locked by the steps that are using it
//! logs/<build>/<step>.log      the output of a step
//! failed/<build>.<n>/          the session of the n-th step of a build, which failed: see `failed`
//! leases/<lease>               one for each running build, locked while it lives
//! scratch/<lease>/             writable layers on disk
//! tmp/<lease>/                 half-written files
//! mnt/                         always empty; a session mounts its private tmpfs here
//! ```
//! The directory is 0700 and belongs to the user who runs runner: layers contain setuid programs, and scratch contains
//! any file that steps made.
//!
//! # Leases and locks
//! A killed runner leaves behind only the things that the kernel does not release by itself: scratch, half-written
//! files, cgroups. Each of them is named after a lease. A lease lives as long as a process has the flock(2) lock of its
//! file, and the kernel releases that lock however the process ends. The helpers that a runner starts share the lock
//! with it.
//!
//! - A lease's file is made before anything else of the lease, and removed last.
//! - A runner that has locked a lease's file may remove everything that belongs to the lease, then the file, and then
//!   releases the lock. A lock on a file that was unlinked meanwhile is worth nothing: its owner looks at the link
//!   count, and starts again.
//! - The file lists the half-written files that are outside the store, beside their outputs: absolute paths, each ended
//!   by a NUL, and each on the disk before the file that it names is created.
//! - Layers and records are written without a lock: they are renamed into place, and two of one name are equal.
//! - A record has one digest of everything that its result is built on, and names the layer directly below. The record
//!   of that layer names the next one: so runner follows the chain from record to record, and through `parents/` where
//!   a parent has no record. A parent is written before the record that names it. After a crash has lost a parent, the
//!   layers below it are unknown: a layer counts as built on the known ones, and a reason names the layer directly
//!   below. No key depends on it.
//! - Records of keys before format 6 list all layers that their layer is built on. No key finds these records any more;
//!   they are listed, and collected, with their layers.
//! - A runner that uses a layer has a shared lock on its file, which it takes before it looks at the file. A runner
//!   removes a layer only while it has an exclusive lock on it. Here, too, a lock on an unlinked file is worth nothing.
//! - A build has a shared lock on its directory of logs.
//! - The time of a file's last use is its time of modification; for a layer, also that of the records that give it, or
//!   give a layer built on it. Builds on several bases may have given the same layer: each record counts for its own
//!   base.
//! - A store on a read-only filesystem has no lease: a build whose results are all in the store makes nothing there. It
//!   locks the layers that it uses.
//! - The runner that builds a key has the lock of its file in `building/`, so that others wait for it and use its
//!   result. The lock only saves work: two runners that build the same key do no harm.
//! - Locks of a cache are on files beside its directory, because a step may lock the directory itself. A step locks the
//!   turn of each cache of its container, in the order of their ids; a runner removes a cache only while it has
//!   exclusive locks on both of its files.

mod build_lock;
mod caches;
mod error;
mod existing;
mod export;
mod exported;
mod failed;
mod gc;
mod inventory;
mod layer;
mod layer_pin;
mod lease;
mod lock;
mod lock_files;
mod log;
mod output;
mod parents;
mod program;
mod record;
mod recorded;
mod sources;
mod stacks;
mod timings;
mod verify;

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular;

pub use self::failed::{FailedSessionDraft, FailedStep, StoredFailedSession};
pub use build_lock::BuildLock;
pub use caches::{Cache, CacheTurn};
pub use error::StoreError;
pub use existing::Existing;
pub use export::{ExportForm, RecordedExport};
pub use exported::ExportedTree;
pub use gc::{Cause, Collection, Policy, Removal, RemovalReason, RemovalTarget};
pub use inventory::{Inventory, LayerFile, RecordFile};
pub use layer::LayerState;
pub use layer_pin::LayerPin;
pub use lease::{DeadLease, Lease, Swept};
pub use lock_files::named_in_lock_file;
pub use log::BuildId;
pub use output::OutputAttributes;
pub use recorded::{CacheRecord, RecordedLayer};
pub use stacks::{Stack, Stacks};
pub use timings::{Timing, Timings};
pub use verify::Damage;

use self::error::io as failed;

/// The version of the layout that this runner reads and writes.
const FORMAT: &str = "1";

/// The number of projects with builds of the same name whose last keys and timings are stored: a CI job that has a
/// directory of its own leaves many behind.
const MAX_PROJECTS: usize = 8;

/// A directory of a store.
#[derive(Debug, Clone, Copy)]
struct StoreDirectory {
    name: &'static str,
    /// Its files are written beside their places, and renamed: a killed runner may leave half-written ones.
    is_written_atomically: bool,
}

/// The directories of a store, those above others first.
const DIRECTORIES: [StoreDirectory; 22] = [
    plain("layers"),
    plain("layers/sha256"),
    plain("exports"),
    plain("exports/sha256"),
    records("exported"),
    records("keys"),
    records("parents"),
    records("last"),
    records("timings"),
    plain("building"),
    plain("damaged"),
    records("lock-files"),
    records("programs"),
    records("names"),
    records("documents"),
    plain("cache"),
    plain("logs"),
    plain("failed"),
    plain("leases"),
    plain("scratch"),
    plain("tmp"),
    plain("mnt"),
];

/// Returns a directory without such files: with those of leases, locks, layers that were complete before they got their names,
/// logs, or the content of steps.
const fn plain(name: &'static str) -> StoreDirectory {
    StoreDirectory { name, is_written_atomically: false }
}

/// Returns a directory of small files that are replaced as a whole.
const fn records(name: &'static str) -> StoreDirectory {
    StoreDirectory { name, is_written_atomically: true }
}

/// An open store. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    is_read_only: bool,
}

impl Store {
    /// Opens the store in this directory, and creates it where it is missing.
    ///
    /// # Errors
    /// [`StoreError::Format`] for a store of another version, [`StoreError::NotAStore`] for a directory with other
    /// files in it, [`StoreError::Owner`] for another user's directory, and those of making the directories.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        refuse_link(path)?;
        let whole = std::path::absolute(path).map_err(failed("open the store", path))?;
        // A link in the path may lead to a name that is not UTF-8.
        let real = whole.ancestors().find_map(|above| above.canonicalize().ok());
        if whole.to_str().is_none() || real.is_some_and(|real| real.to_str().is_none()) {
            return Err(StoreError::NotUtf8 { path: whole });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(error::CREATE, path))?;
        let root = path.canonicalize().map_err(failed("open the store", path))?;
        let owner = root.metadata().map_err(failed("open the store", &root))?.uid();
        let user = rustix::process::geteuid().as_raw();
        if owner != user {
            return Err(StoreError::Owner { path: root, owner, user });
        }
        let format = match read_format(&root)? {
            Some(format) => format,
            None => adopt(&root)?,
        };
        if format != FORMAT {
            return Err(StoreError::Format { path: root, found: format });
        }
        let is_read_only = is_read_only(&root)?;
        for directory in DIRECTORIES.iter().filter(|_| !is_read_only) {
            make_directory(&root.join(directory.name), 0o700)?;
        }
        Ok(Self { root, is_read_only })
    }

    /// Opens the store in this directory, if one exists, and creates nothing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_if_any(path: &Path) -> Result<Option<Self>, StoreError> {
        let is_ours = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => {
                let owner = metadata.map_err(failed("open the store", path))?.uid();
                owner == rustix::process::geteuid().as_raw()
            }
        };
        if is_ours && is_empty(path)? { Ok(None) } else { Self::open(path).map(Some) }
    }

    /// Returns the store's directory; absolute, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the store is on a read-only filesystem: its files can be used, and none can be added.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Returns an empty directory, to mount something on in a private mount namespace.
    pub fn mnt(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Returns the path that the layer of that digest has, if it is in the store.
    pub fn layer_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("layers/sha256/{}.squashfs", digest.hex()))
    }
}

fn is_read_only(root: &Path) -> Result<bool, StoreError> {
    let found = rustix::fs::statvfs(root).map_err(io::Error::from).map_err(failed("look at", root))?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn refuse_link(path: &Path) -> Result<(), StoreError> {
    // Without a slash at the end, because with one the kernel follows the link.
    match fs::read_link(path.components().collect::<PathBuf>()) {
        Ok(target) => Err(StoreError::Link { path: path.to_owned(), target }),
        Err(_) => Ok(()),
    }
}

fn read_format(root: &Path) -> Result<Option<String>, StoreError> {
    let path = root.join("format");
    match regular::read(&path, 1 << 10) {
        // A file that is not text is a format as well, an unknown one.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Makes an empty directory a store, and returns the format that it then has: another runner may have been faster.
fn adopt(root: &Path) -> Result<String, StoreError> {
    if !is_empty(root)? {
        // A runner that creates a store writes the format first, but a listing may show a later file and miss an
        // earlier one.
        return read_format(root)?.ok_or_else(|| StoreError::NotAStore { path: root.to_owned() });
    }
    fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(failed("change the mode of", root))?;
    let path = root.join("format");
    // Another runner that creates the store at the same time writes the same.
    atomic::write_lasting(root, "format", format!("{FORMAT}\n").as_bytes()).map_err(failed("write", &path))?;
    read_format(root)?.ok_or_else(|| StoreError::NotAStore { path: root.to_owned() })
}

/// Whether the directory has no entries but those of mkfs, and those of other runners that are creating a store in it.
fn is_empty(root: &Path) -> Result<bool, StoreError> {
    let list = || -> io::Result<bool> {
        for entry in fs::read_dir(root)? {
            let name = entry?.file_name();
            if name != "lost+found" && !name.as_encoded_bytes().starts_with(atomic::HALF_WRITTEN.as_bytes()) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    list().map_err(failed("list", root))
}

/// Makes a directory that may exist already.
fn make_directory(path: &Path, mode: u32) -> Result<(), StoreError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("create the directory", path)(error)),
        _ => Ok(()),
    }
}

/// Returns the name unchanged, if it is the name of one file: never a path that leads elsewhere.
fn file_name(name: &str) -> Result<&OsStr, StoreError> {
    let path = Path::new(name);
    match path.file_name() {
        Some(file) if file == name => Ok(file),
        _ => Err(StoreError::Name { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
