//! A directory read whole, with every attribute that a layer must preserve, and compared with another one.
//!
//! It shares no code with runner, so that no error of runner's own comparison (`difference`) can hide in it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};

/// The entries of a directory, by path below it; the directory itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Entry>);

/// One file, directory or other entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: &'static str,
    /// The permission bits, with set-uid, set-gid and sticky.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Only for files and symbolic links.
    pub size: Option<u64>,
    /// A file's digest, a symbolic link's target.
    pub content: Option<String>,
    /// Not for directories: overlayfs counts those in its own way.
    pub links: Option<u64>,
    /// The first of the names that a file has in this tree, where it has more than one.
    pub linked_to: Option<PathBuf>,
    /// Only for device nodes.
    pub device: Option<u64>,
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// Whole seconds since 1970.
    pub modified: i64,
    /// Bytes that are allocated on the disk.
    pub allocated: u64,
}

impl Tree {
    pub fn read(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
        let mut left = vec![PathBuf::new()];
        while let Some(below) = left.pop() {
            let path = if below.as_os_str().is_empty() { root.to_owned() } else { root.join(&below) };
            let entry = Entry::read(&path);
            if entry.kind == "directory" {
                left.extend(fs::read_dir(&path).unwrap().map(|item| below.join(item.unwrap().file_name())));
            }
            entries.insert(below, entry);
        }
        for (below, entry) in &mut entries {
            if entry.links.is_some_and(|links| links > 1) {
                let metadata = fs::symlink_metadata(root.join(below)).unwrap();
                let first = names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| below.clone());
                entry.linked_to = Some(first.clone());
            }
        }
        Self(entries)
    }

    pub fn get(&self, path: &str) -> &Entry {
        self.0.get(Path::new(path)).unwrap_or_else(|| panic!("{path} is not there: {:?}", self.paths()))
    }

    /// Returns all paths but the root's own.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().filter_map(|path| path.to_str()).filter(|path| !path.is_empty()).collect()
    }

    /// Returns each difference, in words. Times from `fresh` (seconds since 1970) on are taken as equal: both trees were made
    /// after that, but not in the same second.
    pub fn differences(&self, expected: &Self, fresh: i64) -> Vec<String> {
        let mut differences = Vec::new();
        for (path, expected) in &expected.0 {
            let Some(found) = self.0.get(path) else {
                differences.push(format!("{path:?}: is not there"));
                continue;
            };
            let mut tell = |what: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
                let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
                if found != expected {
                    differences.push(format!("{path:?}: {what} is {found} and not {expected}"));
                }
            };
            tell("kind", &found.kind, &expected.kind);
            tell("mode", &format!("{:o}", found.mode), &format!("{:o}", expected.mode));
            tell("owner", &found.owner, &expected.owner);
            tell("size", &found.size, &expected.size);
            tell("content", &found.content, &expected.content);
            tell("link count", &found.links, &expected.links);
            tell("hard link", &found.linked_to, &expected.linked_to);
            tell("device", &found.device, &expected.device);
            tell("attributes", &found.attributes, &expected.attributes);
            tell("is sparse", &found.is_sparse(), &expected.is_sparse());
            let time =
                |entry: &Entry| if entry.modified < fresh { entry.modified.to_string() } else { "new".to_owned() };
            tell("time", &time(found), &time(expected));
        }
        let more = self.0.keys().filter(|path| !expected.0.contains_key(*path));
        differences.extend(more.map(|path| format!("{path:?}: should not be there")));
        differences
    }
}

impl Entry {
    fn read(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let kind = metadata.file_type();
        let (name, size, content) = if kind.is_dir() {
            ("directory", None, None)
        } else if kind.is_file() {
            ("file", Some(metadata.size()), Some(format!("{:016x}", digest(path))))
        } else if kind.is_symlink() {
            let target = fs::read_link(path).unwrap();
            ("symbolic link", Some(metadata.size()), Some(format!("{target:?}")))
        } else if kind.is_fifo() {
            ("fifo", None, None)
        } else if kind.is_char_device() {
            ("character device", None, None)
        } else if kind.is_block_device() {
            ("block device", None, None)
        } else {
            ("socket", None, None)
        };
        Self {
            kind: name,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            size,
            content,
            links: (!kind.is_dir()).then(|| metadata.nlink()),
            linked_to: None,
            device: (kind.is_char_device() || kind.is_block_device()).then(|| metadata.rdev()),
            attributes: attributes(path),
            modified: metadata.mtime(),
            allocated: metadata.blocks() * 512,
        }
    }

    /// Returns whether more than half of a file of some size is holes.
    fn is_sparse(&self) -> bool {
        self.size.is_some_and(|size| size > 1 << 20 && self.allocated < size / 2)
    }
}

/// Returns a digest of a file's bytes; the standard library's hash, because a cryptographic one takes seconds in a debug build.
fn digest(path: &Path) -> u64 {
    const BLOCK: usize = 1 << 20;
    let mut file = fs::File::open(path).unwrap();
    let mut hash = std::hash::DefaultHasher::new();
    let (mut buffer, zeros) = (vec![0; BLOCK], vec![0; BLOCK]);
    while let length @ 1.. = file.read(&mut buffer).unwrap() {
        match &buffer[..length] {
            zero if zero == &zeros[..length] => hash.write_usize(length),
            bytes => hash.write(bytes),
        }
    }
    hash.finish()
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(path, &mut names) {
        Ok(length) => length,
        // A squashfs image in which no file has any.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => panic!("{path:?}: {error}"),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value).unwrap();
            value.truncate(length);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect()
}
