//! Listings on disk, stored under their digests, so that a later build can report the files that changed.

use std::path::{Path, PathBuf};

use super::error::ContentError;
use super::listing::Listing;
use crate::digest::Digest;
use crate::fs::{atomic, regular};

/// The level of compression: half the size for a tenth of the time that the digests took.
const LEVEL: i32 = 1;

/// The longest listing that is read: that of ten million files is shorter.
const MAX_BYTES: u64 = 4 << 30;

/// A directory of listings, `<hex>.zst` each, compressed by zstd.
///
/// Listings only serve explanations: without one, a build cannot name the files that changed. A collection of the store
/// removes those whose digests no record has.
#[derive(Debug)]
pub struct Listings(PathBuf);

impl Listings {
    /// Opens the listings in this directory, which is made with the first listing.
    pub fn open(directory: &Path) -> Self {
        atomic::sweep(directory, None);
        Self(directory.to_owned())
    }

    /// Returns the path that the listing of that digest has, if it is stored.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(name(digest))
    }

    /// Stores a listing under its digest.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn put(&self, digest: &Digest, listing: &Listing) -> Result<(), ContentError> {
        if self.path(digest).exists() {
            return Ok(());
        }
        let put = || atomic::write(&self.0, &name(digest), &zstd::bulk::compress(listing.as_bytes(), LEVEL)?);
        put().map_err(|source| ContentError::Io { action: "store a listing in", path: self.0.clone(), source })
    }

    /// Returns the listing of that digest, if it is stored. Removes a damaged one, and returns none.
    pub fn get(&self, digest: &Digest) -> Option<Listing> {
        let file = regular::open(&self.path(digest)).ok()?;
        let whole = zstd::stream::Decoder::new(file).and_then(|listing| regular::read_all(listing, MAX_BYTES));
        let bytes = whole.unwrap_or_default();
        let listing = Some(bytes).filter(|bytes| Digest::of_bytes(bytes) == *digest).and_then(Listing::from_bytes);
        if listing.is_none() {
            // So that the next listing of that digest replaces it.
            let _ = std::fs::remove_file(self.path(digest));
        }
        listing
    }
}

fn name(digest: &Digest) -> String {
    format!("{}.zst", digest.hex())
}

#[cfg(test)]
mod tests {
    use super::super::listing::{Draft, Entry, Kind};
    use super::*;

    fn listing() -> Listing {
        let mut draft = Draft::default();
        let kind = Kind::File(Digest::of_bytes(b"x"));
        draft.push(&Entry {
            path: Path::new("x"),
            kind,
            mode: 0o644,
            uid: 1,
            gid: 2,
            attributes: None,
            time: None,
            first_name: None,
        });
        Listing::from_drafts(&[draft])
    }

    #[test]
    fn a_stored_listing_is_found_under_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let listings = Listings::open(&directory.path().join("listings"));
        let listing = listing();
        let digest = listing.digest();
        assert_eq!(listings.get(&digest), None);
        listings.put(&digest, &listing).unwrap();
        listings.put(&digest, &listing).unwrap();
        assert_eq!(listings.get(&digest), Some(listing));
        assert_eq!(listings.get(&Digest::of_bytes(b"other")), None);
    }

    #[test]
    fn a_damaged_listing_is_removed_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let listings = Listings::open(directory.path());
        let listing = listing();
        let digest = listing.digest();
        let other = zstd::bulk::compress(b"runner listing 1\n", LEVEL).unwrap();
        for damaged in [b"".as_slice(), b"no zstd", &other] {
            std::fs::write(listings.path(&digest), damaged).unwrap();
            assert_eq!(listings.get(&digest), None);
            listings.put(&digest, &listing).unwrap();
            assert_eq!(listings.get(&digest).as_ref(), Some(&listing));
        }
    }
}
