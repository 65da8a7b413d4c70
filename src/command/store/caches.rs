//! `runner store ls --caches` and `runner store gc --caches`: the cache mounts.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::location::StoreLocation;
use crate::cli::GcArgs;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print_json;
use crate::command::console::{columns, print, warn};
use crate::command::leftovers;
use crate::error::Error;
use crate::report::listing::{ago, table_or_blocks, time};
use crate::report::{sanitize, size};
use crate::store::Cache;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Lists the caches, the last used one first.
pub fn ls(location: &StoreLocation, as_json: bool) -> Result<(), CommandError> {
    let caches = caches(location)?;
    let total = bytes(&caches);
    if as_json {
        let caches: Vec<Value> = caches.iter().map(as_value).collect();
        return print_json(&json!({ "store": location.path.display().to_string(), "size": total, "caches": caches }));
    }
    if caches.is_empty() {
        return print(format!("no caches in {}\n", location.path.display()).as_bytes());
    }
    let now = SystemTime::now();
    let rows = caches.iter().map(|cache| vec![name(cache), shown_size(cache), used(cache, now)]).collect();
    let block = |row: &[String]| format!("{}\n  {}, used {}\n", row[0], row[1], row[2]);
    let listed = table_or_blocks(&["CACHE", "SIZE", "USED"], rows, columns(), block);
    print(format!("{listed}{}, {}\n", count(caches.len()), size(total)).as_bytes())
}

/// Removes the caches that no build uses, or only lists them (`--dry-run`).
pub fn gc(location: &StoreLocation, args: &GcArgs) -> Result<(), CommandError> {
    let now = SystemTime::now();
    let since = args.keep_days.and_then(|days| now.checked_sub(DAY * days)).unwrap_or(now);
    let (mut removed, mut in_use) = (Vec::new(), Vec::new());
    if let Some(store) = &location.store {
        if !args.dry_run {
            for warning in leftovers::remove(store)? {
                warn(&warning);
            }
        }
        for cache in caches(location)?.into_iter().filter(|cache| cache.is_in_use || cache.used < since) {
            let is_removed = !cache.is_in_use
                && (args.dry_run || store.remove_cache(&cache.path, cache.used).map_err(store_error)?);
            if is_removed { removed.push(cache) } else { in_use.push(cache) }
        }
    }
    let total = bytes(&removed);
    if args.json {
        let all = |caches: &[Cache]| caches.iter().map(as_value).collect::<Vec<_>>();
        let did = if args.dry_run { "would_remove" } else { "removed" };
        return print_json(
            &json!({ "dry_run": args.dry_run, did: all(&removed), "kept": all(&in_use), "size": total }),
        );
    }
    let line = |cache: &Cache| format!("cache {} ({}): used {}", name(cache), shown_size(cache), used(cache, now));
    let mut text: String = removed.iter().map(|cache| line(cache) + "\n").collect();
    for cache in &in_use {
        text += &format!("cache {} ({}): not removed, because a build uses it\n", name(cache), shown_size(cache));
    }
    let did = if args.dry_run { "would remove" } else { "removed" };
    text += &match removed.len() {
        0 => "nothing to remove\n".to_owned(),
        removed => format!("{did} {}, {}\n", count(removed), size(total)),
    };
    print(text.as_bytes())
}

fn caches(location: &StoreLocation) -> Result<Vec<Cache>, Error> {
    location.store.as_ref().map_or(Ok(Vec::new()), |store| store.caches().map_err(store_error))
}

fn bytes(caches: &[Cache]) -> u64 {
    caches.iter().filter_map(|cache| cache.size).sum()
}

fn count(number: usize) -> String {
    format!("{number} {}", if number == 1 { "cache" } else { "caches" })
}

/// Returns the id of a cache, or its directory if the id is unknown.
fn name(cache: &Cache) -> String {
    match &cache.id {
        Some(id) => sanitize(&id.replace('\n', " ")).into_owned(),
        None => cache.path.display().to_string(),
    }
}

fn shown_size(cache: &Cache) -> String {
    cache.size.map_or("-".to_owned(), size)
}

fn used(cache: &Cache, now: SystemTime) -> String {
    if cache.is_in_use { "now".to_owned() } else { ago(cache.used, now) }
}

fn as_value(cache: &Cache) -> Value {
    json!({
        "id": cache.id,
        "path": cache.path.display().to_string(),
        "size": cache.size,
        "used": time(cache.used),
        "in_use": cache.is_in_use,
    })
}
