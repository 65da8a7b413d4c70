//! The sizes of one image: of all its files, of its directories, and its largest files.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::sizes::SizeSums;
use crate::difference::{Kind, Node};
use crate::fs::walk::{MountPoints, Walk};
use crate::fs::xattr::XattrReader;

/// The directories and the files that are listed.
const MAX_LISTED: usize = 15;

/// The bytes of a listed path.
const MAX_PATH: usize = 1000;

/// The sizes of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Content {
    /// The bytes of all files; a file with several names counts once.
    pub size: u64,
    /// The number of files that are no directories.
    pub files: u64,
    /// The largest directories of the first two levels, the largest first.
    pub directories: Vec<NamedSize>,
    /// The largest files, the largest first.
    pub largest: Vec<NamedSize>,
}

/// A directory or a file with its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NamedSize {
    /// The path. Bytes that are not UTF-8 are replaced.
    pub path: String,
    /// The bytes of the file, or of the files in the directory.
    pub size: u64,
}

impl Content {
    /// Adds up the sizes of the files below an open directory. No link is followed.
    ///
    /// # Errors
    /// A directory cannot be read, or something is mounted in it.
    pub fn of(root: BorrowedFd<'_>) -> io::Result<Self> {
        let (mut sums, mut largest, mut reader) = (SizeSums::default(), BTreeSet::new(), XattrReader::default());
        let mut walk = Walk::new(root, MountPoints::Refuse);
        while walk.advance()? {
            for entry in walk.entries()? {
                let node = Node::read(&mut reader, walk.fd(), entry.name())?;
                let path = walk.path().join(entry.name());
                sums.add(0, &path, &node);
                if node.kind.is_directory() {
                    walk.enter(entry.into_name());
                } else if node.kind == Kind::File {
                    // By size, then the first path.
                    largest.insert((node.size, std::cmp::Reverse(path)));
                    if largest.len() > MAX_LISTED {
                        largest.pop_first();
                    }
                }
            }
        }
        let (size, files) = sums.total(0);
        let mut directories: Vec<(PathBuf, u64)> = sums.directories(0).filter(|(_, size)| *size > 0).collect();
        directories.sort_by(|(one, first), (other, second)| second.cmp(first).then_with(|| one.cmp(other)));
        directories.truncate(MAX_LISTED);
        let named = |path: &Path, size| NamedSize { path: shortened(path.to_string_lossy().into_owned()), size };
        Ok(Self {
            size,
            files,
            directories: directories.iter().map(|(path, size)| named(path, *size)).collect(),
            largest: largest
                .iter()
                .rev()
                .map(|(size, std::cmp::Reverse(path))| named(&Path::new("/").join(path), *size))
                .collect(),
        })
    }
}

/// Returns a path, or its beginning if it is very long.
fn shortened(mut path: String) -> String {
    if path.len() > MAX_PATH {
        path.truncate(path.floor_char_boundary(MAX_PATH));
        path.push('…');
    }
    path
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_and_files_are_listed_by_size_and_names_of_one_file_count_once() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("usr/lib/deep/er")).unwrap();
        fs::create_dir_all(at("usr/bin")).unwrap();
        fs::create_dir_all(at("empty")).unwrap();
        for (path, size) in [("usr/lib/deep/er/a", 300), ("usr/lib/b", 20), ("usr/bin/c", 50), ("top", 7), ("none", 0)]
        {
            fs::write(at(path), vec![7; size]).unwrap();
        }
        fs::hard_link(at("usr/bin/c"), at("usr/bin/d")).unwrap();
        symlink("/etc", at("link")).unwrap();
        for number in 0..20 {
            fs::write(at(&format!("small{number:02}")), "x").unwrap();
        }
        let content = Content::of(fs::File::open(root.path()).unwrap().as_fd()).unwrap();
        assert_eq!((content.size, content.files), (397, 27));
        let shown = |list: &[NamedSize]| -> Vec<String> {
            list.iter().map(|entry| format!("{} {}", entry.path, entry.size)).collect()
        };
        assert_eq!(shown(&content.directories), ["/usr 370", "/usr/lib 320", "/usr/bin 50"]);
        let largest = shown(&content.largest);
        assert_eq!(largest.len(), MAX_LISTED);
        assert_eq!(largest[0], "/usr/lib/deep/er/a 300");
        assert_eq!(largest[5..7], ["/small00 1", "/small01 1"]);
    }

    #[test]
    fn a_very_long_path_is_shortened_between_characters() {
        assert_eq!(shortened("ü".repeat(900)).chars().count(), 501);
        assert_eq!(shortened("/a".to_owned()), "/a");
    }
}
