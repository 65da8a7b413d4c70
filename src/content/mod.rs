//! What is in a host path: one digest, and a listing that tells later which files changed.
//!
//! | in the digest | why |
//! | --- | --- |
//! | path below the top, as bytes; type | a step sees them |
//! | permission bits with setuid, setgid, sticky; user; group | a step sees them, and they say what it may do |
//! | bytes of a file, target of a link, numbers of a device | a step reads them |
//! | `user.*`, `security.capability`, POSIX access control lists | `content/attributes.rs` says why these |
//! | the top itself: type, mode, owner, attributes | it is what a step finds at the mount's target |
//! | times before `source_date_epoch` | a layer holds them where a step copies them (`cp -a`) |
//! | which of the paths lead to one file | the same: a layer holds hard links |
//!
//! | not in it | why | | --- | --- | | other times | a step can see them, but each checkout of the same sources has
//! others, so nothing would ever be the same on two machines; a layer has the epoch in place of them. A step that
//! decides by them, as make(1) does, has to do without them for the same bytes | | all times with `source_date_epoch:
//! none` | no layer is the same twice then | | names of a file elsewhere, inode numbers, sizes of directories, holes |
//! other filesystems, and checkouts, have others | | what is in a fifo or behind a socket or a device | it is not the
//! directory's | | files that `.runnerignore` names | `content/ignore.rs` has the rules | | where the path is, how it
//! is spelled, the order of the names | the same content is to have the same digest |
//!
//! The top path is followed as mount(2) follows it, links below it are not. What is mounted below it is part of it, as a
//! bind takes it along. A path on a filesystem that the kernel makes up as it is read (proc, sysfs, cgroup) cannot be
//! told, and is refused; so is `/`, unless its `.runnerignore` names those.
//!
//! # Cheap
//! Files are hashed once (large ones without their holes, see `content/by_data.rs`), and known again by device, inode, size, mtime and ctime; `content/read.rs` says when that is sound.
//! Everything else is looked at each time: a digest that is answered from the cache alone would miss a new file.
//! Of each path there is a stat cache of its own, so a command reads no more of them than it needs, and two runners
//! that write the same one at once each write a whole and a right one. One not used for 30 days is removed.

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

pub use changes::{Aspect, Change, Changed, How, MAX_TOLD};
pub use error::{ContentError, OverlayMark};
pub use ignore::NAME as RULES_FILE;
pub use listing::{Entry, Kind, Listing};
pub use listings::Listings;
pub use long_read::LongRead;
pub use stat::State;

use cache::StatCache;
use error::changed_or_failed;
use filesystem::Trust;
use read::{Known, Reader, lock};
use stat::{Place, Stamp};
use walk::{Walked, Way};

/// More threads wait for each other and for the disk.
const MAX_THREADS: usize = 8;

/// A path that is another thing so many times in a row is being written to.
const MAX_TRIES: u32 = 6;

/// A stat cache that nobody used for so long belongs to a path that is not bound any more.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What is in a host path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Of all that counts: that of the listing.
    pub digest: Digest,
    /// All that counts, file by file.
    pub listing: Listing,
    /// Tells whether any of it was changed since, also where it was changed back.
    pub state: State,
    /// How many regular files there are.
    pub files: u64,
    /// How many bytes are in them.
    pub bytes: u64,
    /// How many of them had to be read: the others were known by their stat.
    pub read: u64,
}

/// Tells what is in host paths. Opened once for a command; may be shared between threads.
#[derive(Debug)]
pub struct Contents {
    /// The directory of the stat caches.
    directory: Option<PathBuf>,
    threads: usize,
    /// What this command read, so that one path inside another is not read twice.
    fresh: Mutex<HashMap<Stamp, Digest>>,
    /// Why a stat cache could not be written, the first time.
    problem: Mutex<Option<ContentError>>,
    /// Set where nothing more is to be read.
    stop: Arc<AtomicBool>,
    long_read: LongRead,
    /// Paths that were opened before, which are looked at as they were found then.
    opened: Arc<OpenedPaths>,
    /// A directory that is taken for an empty one.
    hidden: Option<Identity>,
    /// Of all but a root, times before this one count.
    times_before: Option<i64>,
}

impl Contents {
    /// With the stat caches in this directory, which is made with the first one. One that cannot be read, or is
    /// damaged, is an empty one.
    pub fn open(directory: &Path) -> Self {
        atomic::sweep(directory, Some(KEPT));
        Self { directory: Some(directory.to_owned()), ..Self::without_cache() }
    }

    /// Without any stat cache: every file is read, once.
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

    /// The same, that gives up with [`ContentError::Stopped`] as soon as that is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// The same, that reports files which take long to read.
    #[must_use]
    pub fn reporting(self, long_read: LongRead) -> Self {
        Self { long_read, ..self }
    }

    /// The same, that looks at paths that were opened before as they were found then.
    #[must_use]
    pub fn with(self, opened: Arc<OpenedPaths>) -> Self {
        Self { opened, ..self }
    }

    /// The same, that takes a directory for an empty one, whatever its path: what is in it is not seen by steps.
    #[must_use]
    pub fn without(self, hidden: Option<Identity>) -> Self {
        Self { hidden, ..self }
    }

    /// The same, in which the times of files count that are before this one, in seconds since 1970: an image whose later
    /// times are set to it holds them.
    #[must_use]
    pub fn with_times_before(self, times_before: Option<i64>) -> Self {
        Self { times_before, ..self }
    }

    /// What is in this directory or file of the host, such as the source of a bind, but for what `.runnerignore` names.
    ///
    /// # Errors
    /// [`ContentError::MadeUp`] for what the kernel makes up; [`ContentError::Changing`] for what is another thing at
    /// each of several looks; a `.runnerignore` that cannot be understood; what the system refuses, so that nothing
    /// unreadable is left out.
    pub fn of(&self, path: &Path) -> Result<Content, ContentError> {
        self.walk(path, false)
    }

    /// All that is in this directory, a root filesystem, but for times and names of the same file: a `.runnerignore` in
    /// it is a file like any other, for nobody wrote it for the directory.
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
            walk::walk(top, path, Way { known, threads, is_root, hidden, times_before })
        })?;
        let listing = Listing::from_drafts(&walked.drafts);
        let Walked { state, files, bytes, read, .. } = walked;
        Ok(Content { digest: listing.digest(), listing, state, files, bytes, read })
    }

    /// The SHA-256 of a file, as of an image or an archive.
    ///
    /// # Errors
    /// [`ContentError::NotAFile`], and as [`Contents::of`].
    pub fn of_file(&self, path: &Path) -> Result<Digest, ContentError> {
        self.of_file_with_state(path).map(|(digest, _)| digest)
    }

    /// The same, with its state.
    ///
    /// # Errors
    /// As [`Contents::of_file`].
    pub fn of_file_with_state(&self, path: &Path) -> Result<(Digest, State), ContentError> {
        let mut digest = None;
        let walked = self.cached(path, |file, path, known| {
            let (place, mut reader) = (Place::of(file), Reader::new(known));
            let stat = place.stat().map_err(changed_or_failed("look at", || path.to_owned()))?;
            if stat.kind != FileType::RegularFile {
                return Err(ContentError::NotAFile { path: path.to_owned() });
            }
            let mut state = State::default();
            if reader.trust(&place, &stat, || path.to_owned())? == Trust::Times {
                state.take(&stat.stamp);
            }
            digest = Some(reader.digest(&place, &stat, || path.to_owned())?);
            Ok(Walked { seen: reader.seen, state, ..Walked::default() })
        })?;
        digest.map(|digest| (digest, walked.state)).ok_or_else(|| ContentError::NotAFile { path: path.to_owned() })
    }

    /// Ends with the stat caches.
    ///
    /// # Errors
    /// Why one of them could not be written. No digest is wrong for it; only the next command is slower.
    pub fn close(self) -> Result<(), ContentError> {
        self.problem.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Looks at a path with its stat cache, as often as it takes for it to hold still, and keeps the cache.
    fn cached(
        &self,
        path: &Path,
        mut look: impl FnMut(&OwnedFd, &Path, &Known<'_>) -> Result<Walked, ContentError>,
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
        let known = Known { cache: &cache, fresh: &self.fresh, stop: &self.stop, long_read: &self.long_read };
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
                    // What was read already is known now, so the next look is a short one.
                    thread::sleep(Duration::from_millis(5 << tries));
                    tries += 1;
                }
                result => break result,
            }
        };
        if let Some((directory, name)) = file {
            let new = match &result {
                Ok(walked) => StatCache::new(walked.seen.clone()),
                // What was read is not read again when the cause is mended.
                Err(_) => cache.and(lock(&self.fresh).iter()),
            };
            self.keep(directory, &name, &cache, &new);
        }
        result
    }

    fn keep(&self, directory: &Path, name: &str, old: &StatCache, new: &StatCache) {
        if old == new {
            atomic::touch(&directory.join(name));
        } else if let Err(source) = atomic::write(directory, name, &new.to_bytes()) {
            let error = ContentError::Io { action: "write a stat cache in", path: directory.to_owned(), source };
            lock(&self.problem).get_or_insert(error);
        }
    }
}
