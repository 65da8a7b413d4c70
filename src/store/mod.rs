//! The store: what lasts between builds, and what a build needs while it runs.
//!
//! # Layout
//! ```text
//! format                       the layout's version, `1`
//! layers/sha256/<hex>.squashfs a layer under its digest; 0444, whole or not there
//! keys/<hex>.json              what was built under a key, with the key's fields; whole or not there
//! parents/<hex>.json           the topmost parent that something was built on, a layer or a rootfs source, and the digest of those
//!                              below it; <hex> is the digest of both
//! last/<hex>.json              the last keys of a step; by project; <hex> is the SHA-256 of the build's name, NUL, and the step's
//! timings/<hex>.json           how long the steps of a build last took; by project; <hex> is the SHA-256 of the build's name
//! building/<hex>               locked by who builds that key
//! damaged/<hex>.squashfs       a layer that was not as it had been written
//! lock-files/<hex>             where a lock file is, whose layers are kept; <hex> is the SHA-256 of the path
//! stat/, listings/             what is known of host directories, see `content`
//! programs/<hex>               the digest of a program; <hex> is the SHA-256 of where and what its file is
//! cache/<hex>/                 a cache mount; <hex> is the SHA-256 of its id
//! cache/<hex>.use              its id; locked by each build that has it mounted
//! cache/<hex>.turn             locked by the steps that use it now
//! logs/<build>/<step>.log      what a step printed
//! failed/<build>.<n>/          the session of the n-th step of a build, which failed; see `failed`
//! leases/<lease>               one for each running build, locked while it lives
//! scratch/<lease>/             writable layers on disk
//! tmp/<lease>/                 half-written files
//! mnt/                         always empty; a session mounts its private tmpfs here
//! ```
//! The directory is 0700 and belongs to who uses it: layers hold setuid programs, and scratch holds whatever steps
//! made.
//!
//! # Leases and locks
//! A killed runner leaves behind only what the kernel does not take back by itself: scratch, half-written files,
//! cgroups. All of it is named after a lease. A lease lives as long as someone holds the flock(2) lock of its file, and
//! the kernel drops that lock however its holder ends. The helpers that a runner starts hold it with it.
//!
//! - A lease's file is there before anything of it is, and goes last.
//! - Who has locked a lease's file may remove what is the lease's, then the file, then lets go of the lock. A lock on
//!   a file that was unlinked meanwhile is worth nothing: its holder looks at the link count, and starts again.
//! - The file lists the half-written files that are outside the store, beside their outputs: absolute paths, each
//!   ended by a NUL, on the disk before the file that it names is created.
//! - Layers and records are written without a lock: they are renamed into place, and two of one name are equal.
//! - A record holds one digest of all that its result is built on, and names the layer directly below. The record of that one
//!   names the next: so the chain is followed from record to record, and where there is no record of a parent, in `parents/`.
//!   A parent is written before what names it. One that a crash has lost is not there: what it was built on is then not known,
//!   a layer counts as built on what is known, and a reason names the layer directly below. No key depends on it.
//! - Records of keys before format 6 list all layers that theirs is built on. No key finds them any more; they are listed, and
//!   collected, with their layers.
//! - Who uses a layer holds a shared lock on its file, from before it is looked at. Who removes one has a lock on it that
//!   nobody shares, or leaves it. Here, too, a lock on a file that is unlinked is worth nothing.
//! - A build holds a shared lock on its directory of logs.
//! - When something was used last is the time of modification of its file; of a layer, also that of the records that give
//!   it, or give a layer on it. The same layer may have come out on several bases: each record counts for its own base.
//! - A store on a read-only filesystem has no lease: a build whose results are all in it makes nothing there. It locks the
//!   layers that it uses.
//! - Who builds a key holds the lock of its file in `building/`, so that others wait for it and take what it builds. The
//!   lock saves work and no more: two that build the same key do no harm.
//! - Locks of a cache are on files beside its directory: a step may lock the directory itself. A step locks the turn of each
//!   cache of its container, in the order of their ids; whoever removes a cache has both of its locks alone.

mod build_lock;
mod caches;
mod error;
mod existing;
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
pub use gc::{Cause, Collection, Effect, Policy, What, Why};
pub use inventory::{Inventory, LayerFile, RecordFile};
pub use layer::LayerState;
pub use layer_pin::LayerPin;
pub use lease::{DeadLease, Lease, Swept};
pub use lock_files::named_in_lock_file;
pub use log::BuildId;
pub use recorded::{CacheRecord, RecordedLayer};
pub use stacks::{Stack, Stacks};
pub use timings::{Timing, Timings};
pub use verify::Damage;

use self::error::io as failed;

/// The version of the layout that this runner reads and writes.
const FORMAT: &str = "1";

/// Of so many projects whose builds have one name the last keys and the timings are known: a directory of its own for each
/// CI job leaves many behind.
const MAX_PROJECTS: usize = 8;

/// The directories of a store.
const DIRECTORIES: [&str; 17] = [
    "layers",
    "layers/sha256",
    "keys",
    "parents",
    "last",
    "timings",
    "building",
    "damaged",
    "lock-files",
    "programs",
    "cache",
    "logs",
    "failed",
    "leases",
    "scratch",
    "tmp",
    "mnt",
];

/// An open store. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    is_read_only: bool,
}

impl Store {
    /// Opens the store in this directory, and makes it first where there is none.
    ///
    /// # Errors
    /// [`StoreError::Format`] for a store of another version, [`StoreError::NotAStore`] for a directory that holds
    /// something else, [`StoreError::Owner`] for another user's directory, and whatever making the directories gives.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        refuse_link(path)?;
        let whole = std::path::absolute(path).map_err(failed("open the store", path))?;
        // A link on the way may lead to such a name.
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
        let found = match read_format(&root)? {
            Some(found) => found,
            None => adopt(&root)?,
        };
        if found != FORMAT {
            return Err(StoreError::Format { path: root, found });
        }
        let is_read_only = is_read_only(&root)?;
        for directory in DIRECTORIES.iter().filter(|_| !is_read_only) {
            make_directory(&root.join(directory), 0o700)?;
        }
        Ok(Self { root, is_read_only })
    }

    /// Opens the store in this directory, if there is one: nothing is made where there is nothing.
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

    /// The store's directory; absolute, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it is on a read-only filesystem: what is in it can be used, and nothing be added.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// An empty directory to mount something on in a mount namespace of one's own.
    pub fn mnt(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Where the layer of that digest is, if it is there.
    pub fn layer_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("layers/sha256/{}.squashfs", digest.hex()))
    }
}

fn is_read_only(root: &Path) -> Result<bool, StoreError> {
    let found = rustix::fs::statvfs(root).map_err(io::Error::from).map_err(failed("look at", root))?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

fn refuse_link(path: &Path) -> Result<(), StoreError> {
    // Without a slash at its end, which would have the link followed.
    match fs::read_link(path.components().collect::<PathBuf>()) {
        Ok(target) => Err(StoreError::Link { path: path.to_owned(), target }),
        Err(_) => Ok(()),
    }
}

fn read_format(root: &Path) -> Result<Option<String>, StoreError> {
    let path = root.join("format");
    match regular::read(&path, 1 << 10) {
        // Not as text: a file that is not text is a format too, just none of ours.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Makes an empty directory a store, and gives the format that it then has: another runner may have been faster.
fn adopt(root: &Path) -> Result<String, StoreError> {
    if !is_empty(root)? {
        // Whoever makes a store writes the format first, but a listing may show the later and miss the earlier.
        return read_format(root)?.ok_or_else(|| StoreError::NotAStore { path: root.to_owned() });
    }
    fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(failed("change the mode of", root))?;
    let path = root.join("format");
    // Another runner that makes a store of it writes the same.
    atomic::write_lasting(root, "format", format!("{FORMAT}\n").as_bytes()).map_err(failed("write", &path))?;
    read_format(root)?.ok_or_else(|| StoreError::NotAStore { path: root.to_owned() })
}

/// Whether nothing is in the directory but what mkfs puts there, and what other runners do that make a store of it.
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

/// Makes a directory that may be there already.
fn make_directory(path: &Path, mode: u32) -> Result<(), StoreError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("create the folder", path)(error)),
        _ => Ok(()),
    }
}

/// The name as it is, if it is the name of one file: never a path that leads elsewhere.
fn file_name(name: &str) -> Result<&OsStr, StoreError> {
    let path = Path::new(name);
    match path.file_name() {
        Some(file) if file == name => Ok(file),
        _ => Err(StoreError::Name { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn a_store_is_made_where_there_is_none_and_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let store = Store::open(&root).unwrap();
        assert_eq!(mode(&root), 0o700);
        assert_eq!(fs::read_to_string(root.join("format")).unwrap(), "1\n");
        assert_eq!(fs::read_dir(store.mnt()).unwrap().count(), 0);
        assert_eq!(Store::open(&root).unwrap().root(), root.canonicalize().unwrap());
    }

    #[test]
    fn a_link_in_the_place_of_a_store_is_refused_and_one_above_it_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        Store::open(&directory.path().join("real/store")).unwrap();
        for (target, link) in [("real", "above"), ("real/store", "link")] {
            std::os::unix::fs::symlink(target, directory.path().join(link)).unwrap();
        }
        assert!(Store::open(&directory.path().join("above/store")).is_ok());
        for link in ["link", "link/", "link/."] {
            for opened in [
                Store::open(&directory.path().join(link)).err(),
                Store::open_existing(&directory.path().join(link)).err(),
            ] {
                assert!(matches!(opened, Some(StoreError::Link { .. })), "{link}");
            }
        }
    }

    #[test]
    fn nothing_is_made_where_there_is_no_store() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        assert!(Store::open_if_any(&root).unwrap().is_none() && !root.exists());
        assert!(Store::open_if_any(directory.path()).unwrap().is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        Store::open(&root).unwrap();
        assert!(Store::open_if_any(&root).unwrap().is_some());
        assert!(matches!(Store::open_if_any(directory.path()), Err(StoreError::NotAStore { .. })));
    }

    #[test]
    fn an_empty_directory_is_taken_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(directory.path().join("lost+found")).unwrap();
        Store::open(directory.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o700);
    }

    #[test]
    fn another_format_is_refused_with_a_hint() {
        for found in ["2", "", "\u{fffd}"] {
            let directory = tempfile::tempdir().unwrap();
            let bytes = if found == "\u{fffd}" { b"\xff\n".to_vec() } else { format!("{found}\n").into_bytes() };
            fs::write(directory.path().join("format"), bytes).unwrap();
            let error = Store::open(directory.path()).unwrap_err();
            assert!(matches!(&error, StoreError::Format { found: f, .. } if f == found), "{error}");
            assert!(error.hint().unwrap().contains("--store"));
            assert!(!directory.path().join("layers").exists());
        }
    }

    #[test]
    fn a_directory_with_something_else_in_it_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("thesis.tex"), "").unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(mode(directory.path()), 0o755);
    }

    #[test]
    fn another_users_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(12345), None).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Owner { owner: 12345, .. }), "{error}");
    }

    #[test]
    fn runners_that_make_a_store_at_once_make_one() {
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("store");
            thread::scope(|scope| {
                for opened in [0; 4].map(|_| scope.spawn(|| Store::open(&root))) {
                    opened.join().unwrap().unwrap();
                }
            });
            let hidden = fs::read_dir(&root)
                .unwrap()
                .filter(|e| e.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."));
            assert_eq!(hidden.count(), 0);
        }
    }

    #[test]
    fn only_file_names_are_file_names() {
        for name in ["", ".", "..", "a/b", "/", "a/", "../x"] {
            assert!(file_name(name).is_err(), "{name}");
        }
        for name in ["a", "...", ".a", "a b"] {
            assert_eq!(file_name(name).unwrap(), name);
        }
    }
}
