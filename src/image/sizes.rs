//! Adds up sizes by directory.

use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::Change;
use crate::difference::{Kind, Node};

/// The levels of directories whose sizes are added up: `/usr` and `/usr/lib`.
const LEVELS: usize = 2;

/// The directories whose sizes are added up. Files of others count in the total alone.
const MAX_DIRECTORIES: usize = 20_000;

/// The files with several names that are recognised by them. Further ones count once for each name.
const MAX_LINKED: usize = 1 << 20;

/// The directories that a difference lists.
const MAX_LISTED: usize = 100;

/// The sizes of two images, or of one.
#[derive(Debug, Default)]
pub(super) struct SizeSums {
    bytes: [u64; 2],
    files: [u64; 2],
    directories: BTreeMap<PathBuf, [u64; 2]>,
    linked: [HashSet<((u32, u32), u64)>; 2],
}

/// The sizes of two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Sizes {
    /// The bytes of all files of the old image; a file with several names counts once.
    pub old: u64,
    /// The same of the new image.
    pub new: u64,
    /// The number of files of the old image that are no directories.
    pub old_files: u64,
    /// The same of the new image.
    pub new_files: u64,
    /// The directories of the first two levels whose sizes differ, the largest difference first.
    pub directories: Vec<DirectoryChange>,
    /// The number of further directories whose sizes differ.
    pub omitted_directories: usize,
}

/// A directory whose size differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DirectoryChange {
    /// The path. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// How it differs.
    pub change: Change,
    /// The bytes of the files in it, in the old image.
    pub old: u64,
    /// The same in the new image.
    pub new: u64,
}

impl SizeSums {
    /// Adds a file of the image `side`.
    pub(super) fn add(&mut self, side: usize, path: &Path, node: &Node) {
        if node.kind.is_directory() {
            return;
        }
        self.files[side] += 1;
        let linked = &mut self.linked[side];
        let is_again = node.links > 1 && linked.len() < MAX_LINKED && !linked.insert(node.id);
        if node.kind != Kind::File || is_again {
            return;
        }
        self.bytes[side] = self.bytes[side].saturating_add(node.size);
        let mut directory = PathBuf::from("/");
        let above = path.parent().into_iter().flat_map(Path::components).take(LEVELS);
        for name in above.filter(|component| matches!(component, Component::Normal(_))) {
            directory.push(name);
            if !self.directories.contains_key(&directory) {
                if self.directories.len() == MAX_DIRECTORIES {
                    return;
                }
                self.directories.insert(directory.clone(), [0; 2]);
            }
            if let Some(sums) = self.directories.get_mut(&directory) {
                sums[side] = sums[side].saturating_add(node.size);
            }
        }
    }

    /// Returns the bytes and the number of the files of the image `side`.
    pub(super) fn total(&self, side: usize) -> (u64, u64) {
        (self.bytes[side], self.files[side])
    }

    /// Returns the sizes of the directories of the image `side`, in no order.
    pub(super) fn directories(self, side: usize) -> impl Iterator<Item = (PathBuf, u64)> {
        self.directories.into_iter().map(move |(path, sums)| (path, sums[side]))
    }

    /// Returns the difference.
    pub(super) fn difference(self) -> Sizes {
        let mut changed: Vec<(PathBuf, [u64; 2])> =
            self.directories.into_iter().filter(|(_, [old, new])| old != new).collect();
        changed.sort_by_key(|(_, [old, new])| std::cmp::Reverse(old.abs_diff(*new)));
        let omitted_directories = changed.len().saturating_sub(MAX_LISTED);
        changed.truncate(MAX_LISTED);
        let directory = |(path, [old, new]): (PathBuf, [u64; 2])| DirectoryChange {
            path: path.to_string_lossy().into_owned(),
            change: Change::of([old > 0, new > 0]),
            old,
            new,
        };
        Sizes {
            old: self.bytes[0],
            new: self.bytes[1],
            old_files: self.files[0],
            new_files: self.files[1],
            directories: changed.into_iter().map(directory).collect(),
            omitted_directories,
        }
    }
}
