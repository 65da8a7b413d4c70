//! Stores the digests that names of rootfs sources led to, and the small documents of images by their digests.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::recorded::read;
use super::{Store, StoreError};
use crate::digest::{Digest, Hasher};
use crate::fs::{atomic, regular};
use crate::oci::MAX_DOCUMENT;

/// A name and what it led to.
#[derive(Debug, Serialize, Deserialize)]
struct Resolved {
    kind: String,
    name: String,
    digest: Digest,
}

impl Store {
    /// Returns the digest that a name led to when it was last looked up.
    pub fn resolved(&self, kind: &str, name: &str) -> Option<Digest> {
        let path = self.root.join("names").join(file_of(kind, name));
        let resolved: Resolved = read(&path)?;
        used(&path);
        (resolved.kind == kind && resolved.name == name).then_some(resolved.digest)
    }

    /// Stores the digest that a name leads to.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_resolved(&self, kind: &str, name: &str, digest: &Digest) -> Result<(), StoreError> {
        let resolved = Resolved { kind: kind.to_owned(), name: name.to_owned(), digest: *digest };
        self.write_whole(&self.root.join("names").join(file_of(kind, name)), &resolved, false)
    }

    /// Returns a document of an image, if the store has it undamaged.
    pub fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.root.join("documents").join(digest.hex());
        let bytes = regular::read(&path, MAX_DOCUMENT).ok()?;
        used(&path);
        (Digest::of_bytes(&bytes) == *digest).then_some(bytes)
    }

    /// Stores a document of an image.
    ///
    /// # Errors
    /// Those of writing.
    pub fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let directory = self.root.join("documents");
        atomic::write(&directory, &digest.hex(), bytes).map_err(super::failed("write", &directory.join(digest.hex())))
    }
}

/// Notes the use of a file for collections. A user who may not write to the store does not count.
fn used(path: &Path) {
    let _ = regular::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

fn file_of(kind: &str, name: &str) -> String {
    let mut hasher = Hasher::new();
    hasher.update(format!("{kind}\0{name}").as_bytes());
    format!("{}.json", hasher.finish().hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_documents_are_found_again_and_damaged_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let (one, other) = (Digest::of_bytes(b"1"), Digest::of_bytes(b"2"));
        assert_eq!(store.resolved("image", "debian"), None);
        store.set_resolved("image", "debian", &one).unwrap();
        store.set_resolved("image", "debian", &other).unwrap();
        assert_eq!((store.resolved("image", "debian"), store.resolved("url", "debian")), (Some(other), None));
        store.put_document(&one, b"1").unwrap();
        assert_eq!(store.document(&one).as_deref(), Some(&b"1"[..]));
        std::fs::write(store.root().join("documents").join(one.hex()), b"x").unwrap();
        assert_eq!((store.document(&one), store.document(&other)), (None, None));
    }
}
