//! Copies files of the host into the root, at the paths that they have on the host.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Timespec;

use crate::fs::dirfd::Identity;
use crate::fs::opened::OpenedPaths;
use crate::fs::regular;
use crate::rootfs::RootfsError;
use crate::rootfs::tree::{Meta, Tree, TreeError};

/// The most symlinks on the way to a file, as in path_resolution(7).
const MAX_LINKS: usize = 40;

/// The links to directories of programs that a host with a merged /usr has in its root, see file-hierarchy(7).
const MERGED: [&str; 2] = ["bin", "sbin"];

/// A file that was copied.
pub(super) struct CopiedFile {
    /// Its path without symlinks.
    pub(super) path: PathBuf,
    pub(super) is_executable: bool,
}

/// The source of a path of the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory; it has no attributes of the host's.
    Directory,
    /// A symlink and its target.
    Link(Vec<u8>),
    /// A file of the host and its permission bits.
    File(PathBuf, u32),
}

/// Writes the root, or only collects the sources of its files.
pub(super) struct Copier<'a> {
    /// The programs that were opened before.
    opened: &'a OpenedPaths,
    tree: Option<Tree>,
    /// The sources, by path in the tree.
    sources: BTreeMap<Vec<u8>, Source>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(dest: BorrowedFd<'_>, opened: &'a OpenedPaths) -> Result<Self, RootfsError> {
        let tree = Tree::new(dest).map_err(|error| cannot(Path::new("/"), error))?;
        Ok(Self { opened, tree: Some(tree), sources: BTreeMap::new() })
    }

    /// Returns a copier that only collects the sources.
    pub(super) fn collecting(opened: &'a OpenedPaths) -> Self {
        Self { opened, tree: None, sources: BTreeMap::new() }
    }

    /// Returns the sources, by path in the tree.
    pub(super) fn into_sources(self) -> BTreeMap<Vec<u8>, Source> {
        self.sources
    }

    /// Records the source of a path. Returns whether the path is new and must be written.
    fn is_new(&mut self, inside: &[u8], source: Source) -> bool {
        !self.sources.contains_key(inside) && self.sources.insert(inside.to_vec(), source).is_none()
    }

    /// Copies a regular file of the host, the directories above it, and the symlinks that lead to it.
    pub(super) fn place(&mut self, path: &Path) -> Result<CopiedFile, RootfsError> {
        let mut ahead: VecDeque<Vec<u8>> = parts(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            let inside = done.join(&b'/');
            let outside = Path::new("/").join(OsStr::from_bytes(&inside));
            let unreadable = |source| RootfsError::Read { path: path.to_owned(), source };
            let found = fs::symlink_metadata(&outside).map_err(unreadable)?;
            let mtime = Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() };
            let kind = found.file_type();
            if kind.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(unreadable(rustix::io::Errno::LOOP.into()));
                }
                let target = fs::read_link(&outside).map_err(unreadable)?;
                let text = target.as_os_str().as_bytes();
                if self.is_new(&inside, Source::Link(text.to_vec())) {
                    let meta = Meta { mtime, ..Meta::plain(0o777) };
                    self.write(&outside, |tree| tree.symlink(&inside, text, &meta))?;
                }
                match target.is_absolute() {
                    true => done.clear(),
                    false => drop(done.pop()),
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
            } else if kind.is_dir() {
                if self.is_new(&inside, Source::Directory) {
                    self.write(&outside, |tree| tree.directory(&inside, &Meta::plain(0o755)))?;
                }
            } else if kind.is_file() && ahead.is_empty() {
                let mode = found.mode() & 0o777;
                if self.is_new(&inside, Source::File(outside.clone(), mode)) {
                    let from = self.from(path, &outside)?;
                    self.copy(&inside, from, &outside, &Meta { mtime, ..Meta::plain(mode) })?;
                }
                return Ok(CopiedFile { path: outside, is_executable: found.mode() & 0o111 != 0 });
            } else {
                break;
            }
        }
        let problem = "it is not a regular file".to_owned();
        Err(RootfsError::Program { program: path.to_owned(), problem })
    }

    /// Makes the links of a merged /usr to directories of the root: `/bin/sh`, which runs a step's `run`, exists if
    /// `/usr/bin/sh` does.
    pub(super) fn link_merged(&mut self) -> Result<(), RootfsError> {
        for name in MERGED {
            let outside = Path::new("/").join(name);
            let Ok(target) = fs::read_link(&outside) else { continue };
            let inside = parts(&target).make_contiguous().join(&b'/');
            if self.sources.get(&inside) != Some(&Source::Directory) {
                continue;
            }
            let unreadable = |source| RootfsError::Read { path: outside.clone(), source };
            let found = fs::symlink_metadata(&outside).map_err(unreadable)?;
            let mtime = Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() };
            let text = target.as_os_str().as_bytes();
            if self.is_new(name.as_bytes(), Source::Link(text.to_vec())) {
                let meta = Meta { mtime, ..Meta::plain(0o777) };
                self.write(&outside, |tree| tree.symlink(name.as_bytes(), text, &meta))?;
            }
        }
        Ok(())
    }

    /// Makes a link by which the loader finds a library that it knows from /etc/ld.so.cache on the host: the root has
    /// no cache, which would change with every package of the host.
    pub(super) fn link_library(&mut self, directory: &Path, name: &str, library: &Path) -> Result<(), RootfsError> {
        let path = directory.join(name);
        let inside = parts(&path).make_contiguous().join(&b'/');
        let text = library.as_os_str().as_bytes();
        if self.is_new(&inside, Source::Link(text.to_vec())) {
            self.write(&path, |tree| tree.symlink(&inside, text, &Meta::plain(0o777)))?;
        }
        Ok(())
    }

    /// Writes to the tree, if there is one.
    fn write(
        &mut self,
        outside: &Path,
        write: impl FnOnce(&mut Tree) -> Result<(), TreeError>,
    ) -> Result<(), RootfsError> {
        self.tree.as_mut().map_or(Ok(()), write).map_err(|error| cannot(outside, error))
    }

    /// Makes the files of every such root: `/tmp`, `/root`, and the accounts of root.
    pub(super) fn add_accounts(&mut self) -> Result<(), RootfsError> {
        self.directory("tmp", 0o1777)?;
        self.directory("root", 0o700)?;
        self.text(b"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
        self.text(b"etc/group", "root:x:0:\n")
    }

    pub(super) fn close(self) -> Result<(), RootfsError> {
        self.tree.map_or(Ok(()), Tree::close).map_err(|error| cannot(Path::new("/"), error))
    }

    /// Makes a directory in the root. If the host has a symlink of that name on the way to a program, the directory
    /// that the symlink leads to is used.
    fn directory(&mut self, name: &str, mode: u32) -> Result<(), RootfsError> {
        let mut outside = Path::new("/").join(name);
        if self.sources.contains_key(name.as_bytes()) {
            let real = outside.canonicalize();
            outside = real.map_err(|source| RootfsError::Read { path: outside.clone(), source })?;
        }
        let inside = parts(&outside).make_contiguous().join(&b'/');
        self.write(&outside, |tree| tree.directory(&inside, &Meta::plain(mode)))
    }

    fn text(&mut self, inside: &[u8], text: &str) -> Result<(), RootfsError> {
        let outside = Path::new("/").join(OsStr::from_bytes(inside));
        let Some(tree) = &mut self.tree else { return Ok(()) };
        let mut file = tree.file(inside).map_err(|error| cannot(&outside, error))?;
        let written = io::copy(&mut text.as_bytes(), &mut file);
        written.map_err(|source| RootfsError::Place {
            path: outside.clone(),
            action: "write its content".into(),
            source,
        })?;
        Tree::finish(&file, &Meta::plain(0o644)).map_err(|error| cannot(&outside, error))
    }

    /// Opens the file that a path leads to. If it was opened before, it must be the same file.
    fn from(&self, path: &Path, outside: &Path) -> Result<File, RootfsError> {
        let read = |source| RootfsError::Read { path: outside.to_owned(), source };
        let file = regular::open(outside).map_err(read)?;
        if let Some(opened) = self.opened.get(path).map_err(read)?
            && Identity::of(opened).map_err(read)? != Identity::of(&file).map_err(read)?
        {
            let problem = "it was replaced after the build began".to_owned();
            return Err(RootfsError::Program { program: path.to_owned(), problem });
        }
        Ok(file)
    }

    fn copy(&mut self, inside: &[u8], mut from: File, outside: &Path, meta: &Meta) -> Result<(), RootfsError> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        let mut to = tree.file(inside).map_err(|error| cannot(outside, error))?;
        let copied = io::copy(&mut from, &mut to);
        copied.map_err(|source| RootfsError::Place {
            path: outside.to_owned(),
            action: "copy its content".into(),
            source,
        })?;
        Tree::finish(&to, meta).map_err(|error| cannot(outside, error))
    }
}

fn cannot(path: &Path, error: TreeError) -> RootfsError {
    RootfsError::Place { path: path.to_owned(), action: error.action, source: error.source }
}

/// Returns a path's names, without empty names and `.`.
fn parts(path: &Path) -> VecDeque<Vec<u8>> {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}
