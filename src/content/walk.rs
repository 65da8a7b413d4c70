//! Walks a host path with several threads, and lists what is in it.
//!
//! Each thread takes whatever directory is next, so none goes down into a tree and up again as `fs/walk` does.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FileType;

use super::attributes::{Attributes, Found};
use super::directory::{Directory, Listed, on_host};
use super::error::{ContentError, OverlayMark, changed_or_failed};
use super::filesystem::Trust;
use super::listing::{Draft, Entry, Kind};
use super::queue::Queue;
use super::read::{Known, Reader};
use super::stat::{Place, Stamp, Stat, State};
use crate::digest::Digest;
use crate::fs::dirfd::Identity;
use crate::threads::{self, On};

/// How many files of a directory are a task, so that a large directory is shared between the threads.
const PART: usize = 128;

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// What is known of files.
    pub(super) known: &'a Known<'a>,
    pub(super) threads: usize,
    /// Whether it is a root filesystem: then `.runnerignore` is a file like any other, nothing may be there that overlayfs
    /// takes for a mark of its own, and whoever asks looks at times and names of the files.
    pub(super) is_root: bool,
    /// A directory that is taken for an empty one.
    pub(super) hidden: Option<Identity>,
    /// Times before this one count, in seconds since 1970.
    pub(super) times_before: Option<i64>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Of each thread.
    pub(super) drafts: Vec<Draft>,
    /// The digests that can be relied on later.
    pub(super) seen: Vec<(Stamp, Digest)>,
    /// Of all that has a time to be relied on, but for directories in which rules leave something out.
    pub(super) state: State,
    /// How many regular files.
    pub(super) files: u64,
    /// How many bytes are in them.
    pub(super) bytes: u64,
    /// How many of them were read.
    pub(super) read: u64,
}

enum Task {
    Directory(Directory),
    Part(Part),
}

/// Some of a directory's files.
struct Part {
    directory: Arc<Listed>,
    names: Range<usize>,
    /// How many parts of the directory are not done yet.
    left: Arc<AtomicUsize>,
}

/// One thread of a walk.
struct Worker<'a> {
    top: BorrowedFd<'a>,
    /// The host's path of the top.
    at: &'a Path,
    reader: Reader<'a>,
    attributes: Attributes,
    way: Way<'a>,
    draft: Draft,
    state: State,
    files: u64,
    bytes: u64,
}

/// Walks what `top` is of, which is at the host's path `at`, and all below it.
pub(super) fn walk<'a>(top: &'a OwnedFd, at: &'a Path, way: Way<'a>) -> Result<Walked, ContentError> {
    let worker = |attributes: Attributes| {
        let (reader, draft, state) = (Reader::new(way.known), Draft::default(), State::default());
        Worker { top: top.as_fd(), at, reader, attributes, way, draft, state, files: 0, bytes: 0 }
    };
    let mut first = worker(Attributes::of_any_thread());
    let kind = first.entry(&Place::of(top), b"")?;
    let found = Walked::default().with(first);
    if kind != FileType::Directory {
        return Ok(found);
    }
    let queue = Queue::new(Task::Directory(Directory {
        path: Vec::new(),
        rules: None,
        has_rules: !way.is_root,
        hidden: way.hidden,
    }));
    let others = threads::share(way.threads.max(1), |on| {
        let attributes = match on {
            On::ItsOwn => Attributes::of_own_thread(),
            On::Callers => Attributes::of_any_thread(),
        };
        worker(attributes).work(&queue)
    });
    let found = others.into_iter().fold(found, Walked::and);
    queue.finish().map(|()| found)
}

impl Walked {
    fn with(self, worker: Worker<'_>) -> Self {
        let Worker { reader, draft, state, files, bytes, .. } = worker;
        self.and(Self { drafts: vec![draft], seen: reader.seen, state, files, bytes, read: reader.count })
    }

    fn and(mut self, other: Self) -> Self {
        self.drafts.extend(other.drafts);
        self.seen.extend(other.seen);
        self.state = self.state.and(other.state);
        self.files += other.files;
        self.bytes += other.bytes;
        self.read += other.read;
        self
    }
}

impl Worker<'_> {
    /// Does what there is to do, until all threads are done.
    fn work(mut self, queue: &Queue<Task, ContentError>) -> Walked {
        queue.work(|task| self.run(task, queue));
        self.attributes.leave();
        Walked::default().with(self)
    }

    fn run(&mut self, task: Task, queue: &Queue<Task, ContentError>) -> Result<(), ContentError> {
        match task {
            Task::Directory(directory) => self.directory(directory, queue),
            Task::Part(part) => self.part(part, queue),
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
        let left = Arc::new(AtomicUsize::new(count.div_ceil(PART).max(1)));
        let part = |start: usize| Part {
            directory: Arc::clone(&listed),
            names: start..count.min(start + PART),
            left: Arc::clone(&left),
        };
        // Before all directories, so that no more directories are open than there are threads.
        queue.push_first((PART..count).step_by(PART).map(|start| Task::Part(part(start))));
        self.part(part(0), queue)
    }

    fn part(&mut self, part: Part, queue: &Queue<Task, ContentError>) -> Result<(), ContentError> {
        let Part { directory, names, left } = part;
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
        // Whoever does the last part sees that nothing came or went meanwhile.
        if left.fetch_sub(1, Ordering::AcqRel) == 1 { directory.check(self.at) } else { Ok(()) }
    }

    /// Lists one file, and says what it is.
    fn entry(&mut self, place: &Place<'_>, below: &[u8]) -> Result<FileType, ContentError> {
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
        let Found { digest: attributes, mark } =
            attributes.map_err(changed_or_failed("read the extended attributes of", path))?;
        let whiteout = (kind == Kind::CharacterDevice(0, 0)).then_some(OverlayMark::Whiteout);
        if let Some(mark) = whiteout.or(mark.map(OverlayMark::Attribute)).filter(|_| self.way.is_root) {
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
        if stat.kind == FileType::Directory || stat.names < 2 || self.way.is_root {
            self.draft.push(&entry);
        } else {
            self.draft.push_one_of_several(&entry, stat.identity());
        }
        Ok(stat.kind)
    }

    /// The time of a file, if it counts. Steps do not see that of the hidden directory.
    fn time(&self, stat: &Stat) -> Option<i64> {
        let (seconds, _) = stat.stamp.mtime;
        let before = self.way.times_before?;
        (seconds < before && self.way.hidden != Some(stat.identity())).then_some(seconds)
    }
}
