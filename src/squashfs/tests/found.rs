//! All that there is to see of a tree, by path, read by the calls of the standard library and of xattr(7).
//!
//! It shares no code with the writer and with `difference`, so that no mistake of theirs hides in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek};
use rustix::io::Errno;

use crate::digest::Digest;

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: Kind,
    /// With the type.
    pub mode: u32,
    pub owner: (u32, u32),
    pub time: i64,
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode, and how many there are; not of a directory.
    pub same_as: Option<(PathBuf, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// With its number of links.
    Directory(u64),
    File(u64, Digest),
    Symlink(PathBuf),
    Device(u64),
    Other,
}

/// Returns all of a tree, the root at the empty path.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut inodes) = (BTreeMap::new(), BTreeMap::<(u64, u64), Vec<PathBuf>>::new());
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let real = root.join(&path);
        let metadata = fs::symlink_metadata(&real).unwrap();
        let kind = if metadata.is_dir() {
            left.extend(fs::read_dir(&real).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
            Kind::Directory(metadata.nlink())
        } else if metadata.is_file() {
            let file = fs::File::open(&real).unwrap();
            // Where the filesystem finds no hole, the end of the file is one.
            if metadata.size() > 0 {
                seek(&file, SeekFrom::Hole(0)).unwrap_or_else(|error| panic!("{}: no hole: {error}", path.display()));
                seek(&file, SeekFrom::Start(0)).unwrap();
            }
            Kind::File(metadata.size(), Digest::of_file(&file).unwrap())
        } else if metadata.is_symlink() {
            Kind::Symlink(fs::read_link(&real).unwrap())
        } else if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
            Kind::Device(metadata.rdev())
        } else {
            Kind::Other
        };
        if !metadata.is_dir() {
            inodes.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
        }
        let one = Found {
            kind,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            time: metadata.mtime(),
            attributes: attributes(&real),
            same_as: (!metadata.is_dir()).then(|| (PathBuf::new(), metadata.nlink())),
        };
        found.insert(path, one);
    }
    for paths in inodes.values() {
        let first = paths.iter().min().unwrap();
        for path in paths {
            if let Some((same_as, links)) = &mut found.get_mut(path).unwrap().same_as {
                *same_as = first.clone();
                assert_eq!(*links, paths.len() as u64, "{}", path.display());
            }
        }
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let length = match llistxattr(path, &mut names) {
        // An image in which nothing has any.
        Err(Errno::OPNOTSUPP) => 0,
        length => length.unwrap(),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Fails where two trees differ, and says where.
pub(super) fn assert_same(expected: &BTreeMap<PathBuf, Found>, found: &BTreeMap<PathBuf, Found>, what: &str) {
    for (path, entry) in expected {
        assert_eq!(Some(entry), found.get(path), "{what}: {}", path.display());
    }
    assert_eq!(expected.len(), found.len(), "{what}");
}

/// The tree as an image stores it: no time before 1970 or after 2106.
pub(super) fn clamped(mut tree: BTreeMap<PathBuf, Found>) -> BTreeMap<PathBuf, Found> {
    for entry in tree.values_mut() {
        entry.time = entry.time.clamp(0, u32::MAX.into());
    }
    tree
}
