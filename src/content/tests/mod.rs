//! Tests on real files.

mod cached;
mod changing;
mod counts;
mod deep;
mod ignored;
mod names_and_times;
mod random;
mod root;

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Changed, Content, ContentError, Contents};
use crate::fs::dirfd::Dir;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

/// Reads a content without a cache, with several threads on any number of processors.
fn content(path: &Path) -> Content {
    let contents = Contents { threads: 4, ..Contents::without_cache() };
    contents.of(path).unwrap()
}

/// Returns the differences, in words.
fn changes(old: &Content, new: &Content) -> Vec<String> {
    let changed = Changed::between(&old.listing, &new.listing);
    assert_eq!(changed.is_empty(), old.digest == new.digest);
    changed.first.iter().map(|change| format!("{} {}", change.path.display(), change.how)).collect()
}

fn paths(content: &Content) -> Vec<String> {
    content.listing.entries().map(|entry| entry.path.display().to_string()).collect()
}

fn error(path: &Path) -> ContentError {
    Contents::without_cache().of(path).unwrap_err()
}
