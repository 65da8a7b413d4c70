//! Walks a host path with several threads, and lists its files.
//!
//! Each thread takes the next directory of a queue, so none descends into a tree and up again as `fs/walk` does.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FileType;

use super::attributes::{Attributes, FileAttributes};
use super::directory::{Directory, Listed, on_host};
use super::error::{ContentError, OverlayMark, changed_or_failed};
use super::filesystem::Trust;
use super::listing::{Draft, Entry, Kind};
use super::queue::Queue;
use super::read::{KnownDigests, Reader};
use super::stat::{FileLocation, Stamp, Stat, State};
use crate::digest::Digest;
use crate::fs::dirfd::Identity;
use crate::threads::{self, On};

/// The number of files of a directory that are one task, so that threads share a large directory.
const BATCH: usize = 128;

/// The options of a walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalkOptions<'a> {
    /// The known digests of files.
    pub(super) known: &'a KnownDigests<'a>,
    pub(super) threads: usize,
    /// Whether it is a root filesystem: then `.runnerignore` is an ordinary file, no file may be a mark of overlayfs,
    /// and the caller reads the times and names of the files.
    pub(super) is_root: bool,
    /// Whether it is a root that runner has mounted: `.runnerignore` is an ordinary file there, and all attributes count.
    pub(super) is_mounted: bool,
    /// A directory that counts as empty.
    pub(super) hidden: Option<Identity>,
    /// Times before this one count, in seconds since 1970.
    pub(super) times_before: Option<i64>,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// The draft of each thread.
    pub(super) drafts: Vec<Draft>,
    /// The digests that the cache can rely on later.
    pub(super) digests: Vec<(Stamp, Digest)>,
    /// The state of all files with reliable times, except directories in which rules ignore files.
    pub(super) state: State,
    /// The number of regular files.
    pub(super) files: u64,
    /// The number of bytes in them.
    pub(super) bytes: u64,
    /// The number of files that were read.
    pub(super) read: u64,
}

enum Task {
    Directory(Directory),
    FileBatch(FileBatch),
}

/// A batch of a directory's files.
struct FileBatch {
    directory: Arc<Listed>,
    names: Range<usize>,
    /// The number of unfinished batches of the directory.
    batches_left: Arc<AtomicUsize>,
}

/// One thread of a walk.
struct Worker<'a> {
    top: BorrowedFd<'a>,
    /// The host's path of the top.
    at: &'a Path,
    reader: Reader<'a>,
    attributes: Attributes,
    options: WalkOptions<'a>,
    draft: Draft,
    state: State,
    files: u64,
    bytes: u64,
}

/// Walks the file of `top` and all files below it. `at` is the host's path of `top`.
pub(super) fn walk<'a>(top: &'a OwnedFd, at: &'a Path, options: WalkOptions<'a>) -> Result<Walked, ContentError> {
    let worker = |attributes: Attributes| {
        let (reader, draft, state) = (Reader::new(options.known), Draft::default(), State::default());
        Worker { top: top.as_fd(), at, reader, attributes, options, draft, state, files: 0, bytes: 0 }
    };
    let mut first = worker(Attributes::of_any_thread().with_all(options.is_mounted));
    let kind = first.entry(&FileLocation::of(top), b"")?;
    let walked = Walked::default().with(first);
    if kind != FileType::Directory {
        return Ok(walked);
    }
    let queue = Queue::new(Task::Directory(Directory {
        path: Vec::new(),
        rules: None,
        has_rules: !options.is_root && !options.is_mounted,
        hidden: options.hidden,
    }));
    let others = threads::share(options.threads.max(1), |on| {
        let attributes = match on {
            On::ItsOwn => Attributes::of_own_thread(),
            On::Callers => Attributes::of_any_thread(),
        };
        worker(attributes.with_all(options.is_mounted)).work(&queue)
    });
    let walked = others.into_iter().fold(walked, Walked::and);
    queue.finish().map(|()| walked)
}

impl Walked {
    fn with(self, worker: Worker<'_>) -> Self {
        let Worker { reader, draft, state, files, bytes, .. } = worker;
        self.and(Self { drafts: vec![draft], digests: reader.digests, state, files, bytes, read: reader.count })
    }

    fn and(mut self, other: Self) -> Self {
        self.drafts.extend(other.drafts);
        self.digests.extend(other.digests);
        self.state = self.state.and(other.state);
        self.files += other.files;
        self.bytes += other.bytes;
        self.read += other.read;
        self
    }
}

impl Worker<'_> {
    /// Does tasks until all threads are done.
    fn work(mut self, queue: &Queue<Task, ContentError>) -> Walked {
        queue.work(|task| self.run(task, queue));
        self.attributes.leave();
        Walked::default().with(self)
    }

    fn run(&mut self, task: Task, queue: &Queue<Task, ContentError>) -> Result<(), ContentError> {
        match task {
            Task::Directory(directory) => self.directory(directory, queue),
            Task::FileBatch(batch) => self.batch(batch, queue),
        }
    }

    fn directory(&mut self, directory: Directory, queue: &Queue<Task, ContentError>) -> Result<(), ContentError> {
        let path = on_host(self.at, &directory.path);
        let listed = Arc::new(directory.list(self.top, self.at)?);
        let trust = self.reader.trust(&listed.place(), listed.stat(), || path.clone())?;
        if trust == Trust::Times && listed.has_all() {
            self.state.take(&listed.stat().stamp);
        }
        let count = listed.names().len();
        let batches_left = Arc::new(AtomicUsize::new(count.div_ceil(BATCH).max(1)));
        let batch = |start: usize| FileBatch {
            directory: Arc::clone(&listed),
            names: start..count.min(start + BATCH),
            batches_left: Arc::clone(&batches_left),
        };
        // Batches are done before directories, so that no more directories are open than there are threads.
        queue.push_first((BATCH..count).step_by(BATCH).map(|start| Task::FileBatch(batch(start))));
        self.batch(batch(0), queue)
    }

    fn batch(&mut self, batch: FileBatch, queue: &Queue<Task, ContentError>) -> Result<(), ContentError> {
        let FileBatch { directory, names, batches_left } = batch;
        let failed = changed_or_failed("enter", || on_host(self.at, directory.path()));
        self.attributes.enter(directory.fd()).map_err(failed)?;
        let mut below = Vec::new();
        for (name, _) in directory.names().get(names).unwrap_or_default() {
            if self.entry(&directory.entry(name), &directory.path_of(name))? == FileType::Directory {
                below.push(Task::Directory(directory.directory(name)));
            }
        }
        if !below.is_empty() {
            queue.push_last(below);
        }
        // The thread with the last batch checks that no file was added or removed meanwhile.
        if batches_left.fetch_sub(1, Ordering::AcqRel) == 1 { directory.check(self.at) } else { Ok(()) }
    }

    /// Lists one file, and returns its type.
    fn entry(&mut self, place: &FileLocation<'_>, below: &[u8]) -> Result<FileType, ContentError> {
        let at = self.at;
        let path = || on_host(at, below);
        let stat = place.stat().map_err(changed_or_failed("look at", path))?;
        let link;
        let (major, minor) = stat.node;
        let kind = match stat.kind {
            FileType::RegularFile => {
                self.files += 1;
                self.bytes += stat.stamp.size;
                Kind::File(self.reader.content_digest(place, &stat, path)?)
            }
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                link = place.link().map_err(changed_or_failed("read the link", path))?;
                Kind::Link(Path::new(OsStr::from_bytes(link.to_bytes())))
            }
            FileType::CharacterDevice => Kind::CharacterDevice(major, minor),
            FileType::BlockDevice => Kind::BlockDevice(major, minor),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Err(ContentError::UnknownType { path: path() }),
        };
        // Each write to a fifo or a device changes its times.
        if matches!(stat.kind, FileType::RegularFile | FileType::Symlink)
            && matches!(self.reader.trust(place, &stat, path), Ok(Trust::Times))
        {
            self.state.take(&stat.stamp);
        }
        let attributes = self.attributes.look(place, stat.kind);
        let FileAttributes { digest: attributes, mark } =
            attributes.map_err(changed_or_failed("read the extended attributes of", path))?;
        let whiteout = (kind == Kind::CharacterDevice(0, 0)).then_some(OverlayMark::Whiteout);
        if let Some(mark) = whiteout.or(mark.map(OverlayMark::Attribute)).filter(|_| self.options.is_root) {
            return Err(ContentError::OverlayMark { path: path(), mark });
        }
        let entry = Entry {
            path: Path::new(OsStr::from_bytes(below)),
            kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            attributes,
            time: self.time(&stat),
            first_name: None,
        };
        if stat.kind == FileType::Directory || stat.names < 2 || self.options.is_root {
            self.draft.push(&entry);
        } else {
            self.draft.push_one_of_several(&entry, stat.identity());
        }
        Ok(stat.kind)
    }

    /// Returns the time of a file, if it counts. Steps do not see that of the hidden directory.
    fn time(&self, stat: &Stat) -> Option<i64> {
        let (seconds, _) = stat.stamp.mtime;
        let before = self.options.times_before?;
        (seconds < before && self.options.hidden != Some(stat.identity())).then_some(seconds)
    }
}
