//! Files with several names: finds the paths of a walk that lead to one file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::fs::dirfd::Identity;

/// Returns, by its path, each name of a file that has an earlier one among these, with the first one.
pub(super) fn first_names<'a>(names: impl Iterator<Item = (Identity, &'a [u8])>) -> HashMap<&'a [u8], &'a Path> {
    let mut names: Vec<(Identity, &[u8])> = names.collect();
    names.sort_unstable_by_key(|(_, path)| *path);
    let (mut firsts, mut others) = (HashMap::new(), HashMap::new());
    for (file, path) in names {
        match firsts.entry(file) {
            Entry::Vacant(first) => drop(first.insert(path)),
            Entry::Occupied(first) => drop(others.insert(path, Path::new(OsStr::from_bytes(first.get())))),
        }
    }
    others
}
