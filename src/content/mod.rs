//! Reads the content of a host path: one digest, and a listing that later shows which files changed.
//!
//! | in the digest | why |
//! | --- | --- |
//! | path below the top, as bytes; type | a step sees them |
//! | permission bits with setuid, setgid, sticky; user; group | a step sees them, and its rights depend on them |
//! | bytes of a file, target of a link, numbers of a device | a step reads them |
//! | `user.*`, `security.capability`, POSIX access control lists | `content/attributes.rs` gives the reasons |
//! | the top itself: type, mode, owner, attributes | a step finds it at the mount's target |
//! | times before `source_date_epoch` | a layer contains them where a step copies them (`cp -a`) |
//! | the paths that lead to one file | a layer contains hard links |
//!
//! | not in it | why |
//! | --- | --- |
//! | other times | a step can see them, but each checkout of the same sources has others, so no result would be the same on two machines; a layer has the epoch in place of them. A step that decides by times, as make(1) does, cannot rely on them for the same bytes |
//! | all times with `source_date_epoch: none` | no layer is the same twice then |
//! | names of a file outside of the path, inode numbers, sizes of directories, holes | other filesystems, and checkouts, have others |
//! | the data in a fifo or behind a socket or a device | it does not belong to the directory |
//! | files that `.runnerignore` names | `content/ignore.rs` has the rules |
//! | the path itself, the order of the names | the same content must have the same digest |
//!
//! Links in the top path are followed as mount(2) does, links below it are not. Mounts below it are part of it, because
//! a bind includes them. A path on a filesystem that the kernel generates as it is read (proc, sysfs, cgroup) has no
//! fixed content, and is refused; so is `/`, unless its `.runnerignore` names those.
//!
//! # Cost
//! Files are hashed once (large ones without their holes, see `content/by_data.rs`), and identified later by device,
//! inode, size, mtime and ctime; `content/read.rs` says when that is sound. Everything else is read each time: a digest
//! from the cache alone would miss a new file. Each path has a stat cache of its own, so a command reads no more of
//! them than it needs, and two runners that write the same cache at the same time each write a complete and correct
//! one. A cache that was not used for 30 days is removed.

mod attributes;
mod by_data;
mod cache;
mod changes;
mod directory;
mod error;
mod filesystem;
mod ignore;
mod listing;
mod listings;
mod long_read;
mod names;
mod queue;
mod read;
mod stat;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, openat};

use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::dirfd::Identity;
use crate::fs::opened::OpenedPaths;
use crate::poison::{self, lock};

pub use attributes::is_copied;
pub use changes::{Aspect, Change, Changed, How, MAX_LISTED};
pub use error::{ContentError, OverlayMark};
pub use ignore::NAME as RULES_FILE;
pub use listing::{Entry, Kind, Listing};
pub use listings::Listings;
pub use long_read::LongRead;
pub use stat::State;

use cache::StatCache;
use error::changed_or_failed;
use filesystem::Trust;
use read::{KnownDigests, Reader};
use stat::{FileLocation, Stamp};
use walk::{WalkOptions, Walked};

/// The threads of a walk; more of them would wait for each other and for the disk.
const MAX_THREADS: usize = 8;

/// The number of looks at a path that changes while it is read.
const MAX_TRIES: u32 = 6;

/// The age from which an unused stat cache is removed: its path is probably not bound any more.
const MAX_CACHE_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The content of a host path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The digest of everything that counts: that of the listing.
    pub digest: Digest,
    /// Everything that counts, file by file.
    pub listing: Listing,
    /// A value that differs where any file was changed since, even if it was changed back.
    pub state: State,
    /// The number of regular files.
    pub files: u64,
    /// The number of bytes in them.
    pub bytes: u64,
    /// The number of files that had to be read: the others were identified by their stat.
    pub read: u64,
}

/// Reads the contents of host paths. Opened once for a command; threads may share it.
#[derive(Debug)]
pub struct Contents {
    /// The directory of the stat caches.
    directory: Option<PathBuf>,
    threads: usize,
    /// The digests that this command has read, so that a path inside another one is not read twice.
    fresh: Mutex<HashMap<Stamp, Digest>>,
    /// The first error of writing a stat cache.
    problem: Mutex<Option<ContentError>>,
    /// Set to stop reading.
    stop: Arc<AtomicBool>,
    long_read: LongRead,
    /// Paths that were opened before: their contents are read through these descriptors.
    opened: Arc<OpenedPaths>,
    /// A directory that counts as empty.
    hidden: Option<Identity>,
    /// Times before this one count, except in a root.
    times_before: Option<i64>,
}

impl Contents {
    /// Opens the stat caches in this directory, which is made with the first cache. A damaged or unreadable cache
    /// counts as empty.
    pub fn open(directory: &Path) -> Self {
        atomic::sweep(directory, Some(MAX_CACHE_AGE));
        Self { directory: Some(directory.to_owned()), ..Self::without_cache() }
    }

    /// Uses no stat cache: reads every file, once.
    pub fn without_cache() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Self {
            directory: None,
            threads,
            fresh: Mutex::default(),
            problem: Mutex::default(),
            stop: Arc::default(),
            long_read: LongRead::default(),
            opened: Arc::default(),
            hidden: None,
            times_before: None,
        }
    }

    /// Makes it stop with [`ContentError::Stopped`] as soon as `stop` is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Makes it report files that take long to read.
    #[must_use]
    pub fn reporting(self, long_read: LongRead) -> Self {
        Self { long_read, ..self }
    }

    /// Makes it read paths that were opened before through their descriptors.
    #[must_use]
    pub fn with(self, opened: Arc<OpenedPaths>) -> Self {
        Self { opened, ..self }
    }

    /// Makes it regard a directory as empty, whatever its path: steps do not see its contents.
    #[must_use]
    pub fn without(self, hidden: Option<Identity>) -> Self {
        Self { hidden, ..self }
    }

    /// Makes the times of files count that are before this one, in seconds since 1970: an image contains these times,
    /// and sets later ones to it.
    #[must_use]
    pub fn with_times_before(self, times_before: Option<i64>) -> Self {
        Self { times_before, ..self }
    }

    /// Returns the content of a directory or file of the host, such as the source of a bind, without the files that
    /// `.runnerignore` names.
    ///
    /// # Errors
    /// [`ContentError::MadeUp`] for content that the kernel generates; [`ContentError::Changing`] for content that
    /// differs at each of several looks; those of an invalid `.runnerignore`; those of the system, so that no
    /// unreadable file is omitted.
    pub fn of(&self, path: &Path) -> Result<Content, ContentError> {
        self.walk(path, false)
    }

    /// Returns the whole content of a root filesystem, except times and names of the same file: a `.runnerignore` in it
    /// is an ordinary file, because it was not written for this directory.
    ///
    /// # Errors
    /// [`ContentError::OverlayMark`], and as [`Contents::of`].
    pub fn of_root(&self, path: &Path) -> Result<Content, ContentError> {
        self.walk(path, true)
    }

    fn walk(&self, path: &Path, is_root: bool) -> Result<Content, ContentError> {
        let (threads, hidden) = (self.threads, self.hidden);
        let times_before = self.times_before.filter(|_| !is_root);
        let walked = self.cached(path, |top, path, known| {
            walk::walk(top, path, WalkOptions { known, threads, is_root, is_mounted: false, hidden, times_before })
        })?;
        let listing = Listing::from_drafts(&walked.drafts);
        let Walked { state, files, bytes, read, .. } = walked;
        Ok(Content { digest: listing.digest(), listing, state, files, bytes, read })
    }

    /// Returns the content of an open file or directory of a root that runner has mounted read-only; `path` is for errors. A
    /// `.runnerignore` in it is an ordinary file, and all attributes count that a copy of the file has.
    ///
    /// # Errors
    /// Those of the system.
    pub fn of_mounted(&self, top: &OwnedFd, path: &Path) -> Result<Content, ContentError> {
        // The inode numbers of a mount mean nothing to the next one.
        let cache = StatCache::default();
        let known =
            KnownDigests { cache: &cache, fresh: &Mutex::default(), stop: &self.stop, long_read: &self.long_read };
        let (threads, times_before) = (self.threads, self.times_before);
        let options =
            WalkOptions { known: &known, threads, is_root: false, is_mounted: true, hidden: None, times_before };
        let walked = walk::walk(top, path, options)?;
        let listing = Listing::from_drafts(&walked.drafts);
        let Walked { state, files, bytes, read, .. } = walked;
        Ok(Content { digest: listing.digest(), listing, state, files, bytes, read })
    }

    /// Returns the SHA-256 of a file, such as an image or an archive.
    ///
    /// # Errors
    /// [`ContentError::NotAFile`], and as [`Contents::of`].
    pub fn of_file(&self, path: &Path) -> Result<Digest, ContentError> {
        self.of_file_with_state(path).map(|(digest, _)| digest)
    }

    /// Returns the SHA-256 of a file, and its state.
    ///
    /// # Errors
    /// As [`Contents::of_file`].
    pub fn of_file_with_state(&self, path: &Path) -> Result<(Digest, State), ContentError> {
        let mut digest = None;
        let walked = self.cached(path, |file, path, known| {
            let (place, mut reader) = (FileLocation::of(file), Reader::new(known));
            let stat = place.stat().map_err(changed_or_failed("look at", || path.to_owned()))?;
            if stat.kind != FileType::RegularFile {
                return Err(ContentError::NotAFile { path: path.to_owned() });
            }
            let mut state = State::default();
            if reader.trust(&place, &stat, || path.to_owned())? == Trust::Times {
                state.take(&stat.stamp);
            }
            digest = Some(reader.digest(&place, &stat, || path.to_owned())?);
            Ok(Walked { digests: reader.digests, state, ..Walked::default() })
        })?;
        digest.map(|digest| (digest, walked.state)).ok_or_else(|| ContentError::NotAFile { path: path.to_owned() })
    }

    /// Returns the SHA-256 of a file, and its state, if the file has the digest that is `expected` of it.
    ///
    /// # Errors
    /// [`ContentError::OtherDigest`], and as [`Contents::of_file`].
    pub fn of_expected_file(&self, path: &Path, expected: Option<&Digest>) -> Result<(Digest, State), ContentError> {
        let (found, state) = self.of_file_with_state(path)?;
        match expected.filter(|expected| **expected != found) {
            Some(expected) => Err(ContentError::OtherDigest { path: path.to_owned(), expected: *expected, found }),
            None => Ok((found, state)),
        }
    }

    /// Finishes the stat caches.
    ///
    /// # Errors
    /// The first error of writing one. All digests are correct nevertheless; only the next command is slower.
    pub fn close(self) -> Result<(), ContentError> {
        poison::into_inner(self.problem).map_or(Ok(()), Err)
    }

    /// Looks at a path with its stat cache, again where it changes meanwhile, and stores the cache.
    fn cached(
        &self,
        path: &Path,
        mut look: impl FnMut(&OwnedFd, &Path, &KnownDigests<'_>) -> Result<Walked, ContentError>,
    ) -> Result<Walked, ContentError> {
        let named = path;
        let path = std::path::absolute(path).map_err(|source| ContentError::Io {
            action: "find",
            path: path.to_owned(),
            source,
        })?;
        let file =
            self.directory.as_ref().map(|directory| (directory, Digest::of_bytes(path.as_os_str().as_bytes()).hex()));
        let cache = file.as_ref().map(|(directory, name)| StatCache::load(&directory.join(name))).unwrap_or_default();
        let known = KnownDigests { cache: &cache, fresh: &self.fresh, stop: &self.stop, long_read: &self.long_read };
        let mut tries = 0;
        let result = loop {
            let top = match self.opened.get(named) {
                Ok(Some(opened)) => opened.as_fd().try_clone_to_owned(),
                Ok(None) => openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Into::into),
                Err(error) => Err(error),
            };
            let top = top.map_err(|source| ContentError::Io { action: "open", path: path.clone(), source });
            match top.and_then(|top| look(&top, &path, &known)) {
                Err(ContentError::Changing { .. }) if tries + 1 < MAX_TRIES => {
                    // The digests read so far are stored now, so the next look is a short one.
                    thread::sleep(Duration::from_millis(5 << tries));
                    tries += 1;
                }
                result => break result,
            }
        };
        if let Some((directory, name)) = file {
            let new = match &result {
                Ok(walked) => StatCache::new(walked.digests.clone()),
                // The files read so far are not read again once the cause is fixed.
                Err(_) => cache.and(lock(&self.fresh).iter()),
            };
            self.store_cache(directory, &name, &cache, &new);
        }
        result
    }

    fn store_cache(&self, directory: &Path, name: &str, old: &StatCache, new: &StatCache) {
        if old == new {
            atomic::touch(&directory.join(name));
        } else if let Err(source) = atomic::write(directory, name, &new.to_bytes()) {
            let error = ContentError::Io { action: "write a stat cache in", path: directory.to_owned(), source };
            lock(&self.problem).get_or_insert(error);
        }
    }
}
