//! What a collection removes beside layers and records: all that is lost with it is an explanation, or a log.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::super::error::io as failed;
use super::super::layer_pin::is_in_use;
use super::super::{Inventory, Store, StoreError};
use super::effect::{Effect, What, Why};
use crate::cache::key::Fields;
use crate::digest::Digest;

/// What is younger may be about to be named, or to be finished.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);

/// The last key of a step says, after its layer has gone, that it was built once, and what has changed since; timings
/// say how long it would take to build it again.
const FORGOTTEN: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// All of it. `gone` are the keys of the records that go.
pub(super) fn rest(
    store: &Store,
    inventory: &Inventory,
    gone: &BTreeSet<&Digest>,
    old: SystemTime,
    now: SystemTime,
) -> Result<Vec<Effect>, StoreError> {
    let records = inventory.records.iter().filter(|(key, _)| !gone.contains(key));
    let (kept, fields): (BTreeSet<Digest>, Vec<Fields>) =
        records.map(|(key, record)| (*key, record.recorded.fields.clone())).unzip();
    let mut named: BTreeSet<Digest> = fields.iter().flat_map(named).collect();
    let mut built_on: Vec<Digest> = fields.iter().filter_map(Fields::below).collect();
    let mut effects = Vec::new();
    each(store, "last", &mut effects, |entry, metadata| {
        let fields = store.last_fields(&entry.path());
        let is_kept = fields.iter().any(|fields| kept.contains(&fields.key()));
        let modified = metadata.modified()?;
        if modified >= old {
            named.extend(fields.iter().flat_map(self::named));
        }
        let goes = !is_half_written(entry) && !is_kept && is_before(metadata, now, FORGOTTEN)?;
        built_on.extend(fields.iter().filter(|_| !goes).filter_map(Fields::below));
        Ok(goes.then_some((What::LastKey, Why::Unused(modified), metadata.len())))
    })?;
    let built_on = with_parents(store, built_on);
    each(store, "parents", &mut effects, |entry, metadata| {
        // A half-written one is named by none.
        let is_named = digest_of(entry, ".json").is_some_and(|digest| built_on.contains(&digest));
        let goes = !is_named && is_before(metadata, now, YOUNG)?;
        Ok(goes.then_some((What::Parent, Why::Unnamed, metadata.len())))
    })?;
    each(store, "timings", &mut effects, |_, metadata| {
        let goes = is_before(metadata, now, FORGOTTEN)?;
        Ok(goes.then_some((What::Timings, Why::Unused(metadata.modified()?), metadata.len())))
    })?;
    each(store, "listings", &mut effects, |entry, metadata| {
        let is_named = digest_of(entry, ".zst").is_none_or(|digest| named.contains(&digest));
        let goes = !is_named && is_before(metadata, now, YOUNG)?;
        Ok(goes.then_some((What::Listing, Why::Unnamed, metadata.len())))
    })?;
    each(store, "damaged", &mut effects, |_, metadata| {
        // Since when it is there: the time of its inode, for setting it aside leaves the other as it was.
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(metadata.ctime().try_into().unwrap_or_default());
        Ok((since < old).then_some((What::Damaged, Why::Unused(since), metadata.len())))
    })?;
    each(store, "failed", &mut effects, |entry, metadata| {
        let mut size = 0;
        for image in fs::read_dir(entry.path())? {
            size += image?.metadata()?.len();
        }
        // When it was stored; nothing in it changes after that.
        let since = metadata.modified()?;
        let goes = since < old && !is_in_use(&entry.path())?;
        Ok(goes.then_some((What::Failed, Why::Unused(since), size)))
    })?;
    each(store, "logs", &mut effects, |entry, metadata| {
        let (mut used, mut size) = (metadata.modified()?, 0);
        for log in fs::read_dir(entry.path())? {
            let metadata = log?.metadata()?;
            (used, size) = (metadata.modified()?.max(used), size + metadata.len());
        }
        let goes = used < old && !is_in_use(&entry.path())?;
        Ok(goes.then_some((What::Logs, Why::Unused(used), size)))
    })?;
    for directory in ["keys", "last", "programs", "lock-files"] {
        each(store, directory, &mut effects, |entry, metadata| {
            let goes = is_half_written(entry) && is_before(metadata, now, YOUNG)?;
            Ok(goes.then_some((What::LeftOver, Why::LeftOver, metadata.len())))
        })?;
    }
    each(store, "building", &mut effects, |entry, metadata| {
        Ok((!is_in_use(&entry.path())?).then_some((What::LeftOver, Why::LeftOver, metadata.len())))
    })?;
    Ok(effects)
}

/// The digest that a file is named after.
fn digest_of(entry: &DirEntry, end: &str) -> Option<Digest> {
    format!("sha256:{}", entry.file_name().to_str()?.strip_suffix(end)?).parse().ok()
}

/// These parents, by their digests, and all below them.
fn with_parents(store: &Store, mut open: Vec<Digest>) -> BTreeSet<Digest> {
    let mut all = BTreeSet::new();
    while let Some(digest) = open.pop() {
        if all.insert(digest) {
            open.extend(store.parent(&digest).and_then(|parent| parent.below));
        }
    }
    all
}

/// The digests in the fields of a key: those of contents, which listings explain, among them.
fn named(fields: &Fields) -> BTreeSet<Digest> {
    fields.iter().flat_map(|(_, value)| value.split(' ')).filter_map(|word| word.parse().ok()).collect()
}

fn is_half_written(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".new-")
}

fn is_before(metadata: &Metadata, now: SystemTime, age: Duration) -> io::Result<bool> {
    Ok(now.duration_since(metadata.modified()?).is_ok_and(|is| is > age))
}

/// Adds what of a directory's entries goes. What is gone meanwhile is not there.
fn each(
    store: &Store,
    directory: &str,
    effects: &mut Vec<Effect>,
    mut goes: impl FnMut(&DirEntry, &Metadata) -> io::Result<Option<(What, Why, u64)>>,
) -> Result<(), StoreError> {
    let directory = store.root().join(directory);
    let entries = match fs::read_dir(&directory) {
        // Some are made with the first file in them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed("list", &directory))?,
    };
    for entry in entries {
        let path = entry.path();
        let mut look = || -> io::Result<Option<Effect>> {
            let metadata = entry.metadata()?;
            let Some((what, why, size)) = goes(&entry, &metadata)? else { return Ok(None) };
            Ok(Some(Effect { what, why, path: path.clone(), size, modified: metadata.modified()? }))
        };
        match look() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            effect => effects.extend(effect.map_err(failed("look at", &path))?),
        }
    }
    Ok(())
}
