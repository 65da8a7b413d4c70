//! Lists the other files that a collection removes, besides layers and records: only explanations and logs are lost
//! with them.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::super::error::io as failed;
use super::super::layer_pin::is_in_use;
use super::super::{Inventory, Store, StoreError};
use super::removal::{Removal, RemovalReason, RemovalTarget};
use crate::cache::key::KeyFields;
use crate::digest::Digest;

/// The age from which a file is removed: a record may be about to name a younger one, or a runner may be writing it.
const MIN_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The age from which last keys and timings are removed. After a step's layer is removed, its last key shows that it
/// was built once, and what has changed since; timings show how long it would take to build it again.
const MIN_AGE_OF_HISTORY: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Returns all of these removals. `removed_keys` are the keys of the records that are removed, and `freed_exports` the exports that are
/// removed to free space.
pub(super) fn other_files(
    store: &Store,
    inventory: &Inventory,
    (removed_keys, freed_exports): (&BTreeSet<&Digest>, &BTreeSet<Digest>),
    old: SystemTime,
    now: SystemTime,
) -> Result<Vec<Removal>, StoreError> {
    let records = inventory.records.iter().filter(|(key, _)| !removed_keys.contains(key));
    let (remaining_keys, fields): (BTreeSet<Digest>, Vec<KeyFields>) =
        records.map(|(key, record)| (*key, record.recorded.fields.clone())).unzip();
    let mut named: BTreeSet<Digest> = fields.iter().flat_map(named).collect();
    let mut built_on: Vec<Digest> = fields.iter().filter_map(KeyFields::below).collect();
    let mut removals = Vec::new();
    add_removable(store, "last", &mut removals, |entry, metadata| {
        let fields = store.last_fields(&entry.path());
        let is_remaining = fields.iter().any(|fields| remaining_keys.contains(&fields.key()));
        let modified = metadata.modified()?;
        if modified >= old {
            named.extend(fields.iter().flat_map(self::named));
        }
        let is_removable = !is_half_written(entry) && !is_remaining && is_before(metadata, now, MIN_AGE_OF_HISTORY)?;
        built_on.extend(fields.iter().filter(|_| !is_removable).filter_map(KeyFields::below));
        Ok(is_removable.then_some((RemovalTarget::LastKey, RemovalReason::Unused(modified), metadata.len())))
    })?;
    let built_on = with_parents(store, built_on);
    add_removable(store, "parents", &mut removals, |entry, metadata| {
        // No record names a half-written file.
        let is_named = digest_of(entry, ".json").is_some_and(|digest| built_on.contains(&digest));
        let is_removable = !is_named && is_before(metadata, now, MIN_AGE)?;
        Ok(is_removable.then_some((RemovalTarget::Parent, RemovalReason::Unnamed, metadata.len())))
    })?;
    let exports: BTreeSet<Digest> = {
        let records = inventory.records.iter().filter(|(key, _)| !removed_keys.contains(key));
        records.flat_map(|(_, record)| &record.recorded.exports).map(|export| export.digest).collect()
    };
    add_removable(store, "exports/sha256", &mut removals, |entry, metadata| {
        let Some(digest) = digest_of(entry, "").filter(|digest| !exports.contains(digest)) else { return Ok(None) };
        let is_freed = freed_exports.contains(&digest);
        let is_removable = (is_freed || is_before(metadata, now, MIN_AGE)?) && !is_in_use(&entry.path())?;
        let reason = if is_freed { RemovalReason::Room(metadata.modified()?) } else { RemovalReason::Unnamed };
        Ok(is_removable.then_some((RemovalTarget::Export, reason, metadata.len())))
    })?;
    add_removable(store, "exported", &mut removals, |entry, metadata| {
        let is_removable = !is_half_written(entry) && is_before(metadata, now, MIN_AGE_OF_HISTORY)?;
        let reason = RemovalReason::Unused(metadata.modified()?);
        Ok(is_removable.then_some((RemovalTarget::ExportedFiles, reason, metadata.len())))
    })?;
    add_removable(store, "timings", &mut removals, |_, metadata| {
        let is_removable = is_before(metadata, now, MIN_AGE_OF_HISTORY)?;
        Ok(is_removable.then_some((
            RemovalTarget::Timings,
            RemovalReason::Unused(metadata.modified()?),
            metadata.len(),
        )))
    })?;
    // Without them a registry is asked again, which may lead to another image: a lock says which one.
    for (directory, target) in [("names", RemovalTarget::Name), ("documents", RemovalTarget::Document)] {
        add_removable(store, directory, &mut removals, |_, metadata| {
            let used = metadata.modified()?;
            let is_removable = used < old && is_before(metadata, now, MIN_AGE)?;
            Ok(is_removable.then_some((target.clone(), RemovalReason::Unused(used), metadata.len())))
        })?;
    }
    add_removable(store, "listings", &mut removals, |entry, metadata| {
        let is_named = digest_of(entry, ".zst").is_none_or(|digest| named.contains(&digest));
        let is_removable = !is_named && is_before(metadata, now, MIN_AGE)?;
        Ok(is_removable.then_some((RemovalTarget::Listing, RemovalReason::Unnamed, metadata.len())))
    })?;
    add_removable(store, "damaged", &mut removals, |_, metadata| {
        // The time at which it was set aside is that of its inode: moving it did not change its time of modification.
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(metadata.ctime().try_into().unwrap_or_default());
        Ok((since < old).then_some((RemovalTarget::Damaged, RemovalReason::Unused(since), metadata.len())))
    })?;
    add_removable(store, "failed", &mut removals, |entry, metadata| {
        let mut size = 0;
        for image in fs::read_dir(entry.path())? {
            size += image?.metadata()?.len();
        }
        // The time at which it was stored; nothing in it changes after that.
        let since = metadata.modified()?;
        let is_removable = since < old && !is_in_use(&entry.path())?;
        Ok(is_removable.then_some((RemovalTarget::Failed, RemovalReason::Unused(since), size)))
    })?;
    add_removable(store, "logs", &mut removals, |entry, metadata| {
        let (mut used, mut size) = (metadata.modified()?, 0);
        for log in fs::read_dir(entry.path())? {
            let metadata = log?.metadata()?;
            (used, size) = (metadata.modified()?.max(used), size + metadata.len());
        }
        let is_removable = used < old && !is_in_use(&entry.path())?;
        Ok(is_removable.then_some((RemovalTarget::Logs, RemovalReason::Unused(used), size)))
    })?;
    for directory in ["keys", "last", "programs", "lock-files"] {
        add_removable(store, directory, &mut removals, |entry, metadata| {
            let is_removable = is_half_written(entry) && is_before(metadata, now, MIN_AGE)?;
            Ok(is_removable.then_some((RemovalTarget::Leftover, RemovalReason::Leftover, metadata.len())))
        })?;
    }
    add_removable(store, "building", &mut removals, |entry, metadata| {
        Ok((!is_in_use(&entry.path())?).then_some((RemovalTarget::Leftover, RemovalReason::Leftover, metadata.len())))
    })?;
    Ok(removals)
}

/// Returns the digest that a file is named after.
fn digest_of(entry: &DirEntry, end: &str) -> Option<Digest> {
    format!("sha256:{}", entry.file_name().to_str()?.strip_suffix(end)?).parse().ok()
}

/// Returns the digests of these parents and of all below them.
fn with_parents(store: &Store, mut open: Vec<Digest>) -> BTreeSet<Digest> {
    let mut all = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if all.insert(digest) {
            open.extend(store.parent(&digest).and_then(|parent| parent.below));
        }
    }
    all
}

/// Returns the digests in the fields of a key, among them those of contents, which listings explain.
fn named(fields: &KeyFields) -> BTreeSet<Digest> {
    fields.iter().flat_map(|(_, value)| value.split(' ')).filter_map(|word| word.parse().ok()).collect()
}

fn is_half_written(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".new-")
}

fn is_before(metadata: &Metadata, now: SystemTime, age: Duration) -> io::Result<bool> {
    Ok(now.duration_since(metadata.modified()?).is_ok_and(|is| is > age))
}

/// Adds the entries of a directory that are to be removed. Ignores an entry that was removed meanwhile.
fn add_removable(
    store: &Store,
    directory: &str,
    removals: &mut Vec<Removal>,
    mut is_removable: impl FnMut(&DirEntry, &Metadata) -> io::Result<Option<(RemovalTarget, RemovalReason, u64)>>,
) -> Result<(), StoreError> {
    let directory = store.root().join(directory);
    let entries = match fs::read_dir(&directory) {
        // Some directories are made with their first file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed("list", &directory))?,
    };
    for entry in entries {
        let path = entry.path();
        let mut look = || -> io::Result<Option<Removal>> {
            let metadata = entry.metadata()?;
            let Some((target, reason, size)) = is_removable(&entry, &metadata)? else { return Ok(None) };
            Ok(Some(Removal { target, reason, path: path.clone(), size, modified: metadata.modified()? }))
        };
        match look() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removal => removals.extend(removal.map_err(failed("look at", &path))?),
        }
    }
    Ok(())
}
