//! The parents that keys were built on, stored by their digest, so that each key has one digest of all of them.
//!
//! Each has a file: the topmost parent, and the digest of those below it, whose file is written before. The files
//! explain why a key differs, and name the layers below a layer where no record does. They are not synced: a file that
//! a crash has damaged does not have its digest, and counts as missing.

use std::path::PathBuf;

use super::recorded::read;
use super::{Store, StoreError};
use crate::cache::key::{ParentRecord, Parents};
use crate::digest::Digest;

impl Store {
    /// Returns the topmost of the parents of that digest; none where its file is missing or damaged.
    pub fn parent(&self, digest: &Digest) -> Option<ParentRecord> {
        read(&self.parents_path(digest)).filter(|record: &ParentRecord| record.digest() == *digest)
    }

    /// Writes the files of these parents that are missing, the lowest first.
    pub(super) fn put_parents(&self, parents: &Parents) -> Result<(), StoreError> {
        let (mut missing, mut parents) = (Vec::new(), parents.clone());
        while let Some((digest, record)) = parents.digest().zip(parents.record()) {
            if self.parent(&digest).is_some() {
                break;
            }
            missing.push((digest, record));
            parents = parents.below();
        }
        missing
            .iter()
            .rev()
            .try_for_each(|(digest, record)| self.write_whole(&self.parents_path(digest), record, false))
    }

    pub(super) fn parents_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(format!("parents/{}.json", digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parents_are_found_by_their_digest_and_damaged_files_are_rewritten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let [one, two] = [b"1", b"2"].map(|layer| Digest::of_bytes(layer));
        let first = Parents::default().with_layer("one", &one);
        let second = first.with_layer("two", &two);
        let find = |parents: &Parents| store.parent(&parents.digest().unwrap());
        assert_eq!((find(&first), find(&second)), (None, None));
        for damage in ["", "{", r#"{"id":"layer"}"#] {
            store.put_parents(&second).unwrap();
            assert_eq!((find(&first), find(&second)), (first.record(), second.record()));
            for parents in [&first, &second] {
                fs::write(store.parents_path(&parents.digest().unwrap()), damage).unwrap();
                assert_eq!(find(parents), None, "{damage}");
            }
        }
    }
}
