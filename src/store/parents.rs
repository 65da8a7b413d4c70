//! The parents that keys were built on: found by their digest, so that each key holds one digest of all of them.
//!
//! A file for each: the topmost parent, and the digest of those below it, whose file is there before. They explain why a key is
//! another one, and say what a layer is built on where no record does. So they are not synced: what a crash has lost of them is
//! known by its digest, and counts as not there.

use std::path::PathBuf;

use super::recorded::read;
use super::{Store, StoreError};
use crate::cache::key::{ParentRecord, Parents};
use crate::digest::Digest;

impl Store {
    /// The topmost of the parents of that digest; none where it is not there, or is damaged.
    pub fn parent(&self, digest: &Digest) -> Option<ParentRecord> {
        read(&self.parents_path(digest)).filter(|record: &ParentRecord| record.digest() == *digest)
    }

    /// Puts what is not there yet of these parents, the lowest first.
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
    fn parents_are_found_by_their_digest_and_those_that_were_damaged_are_put_again() {
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
