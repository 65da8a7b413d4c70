//! `runner store gc`: removes unused layers and other files.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::location::StoreLocation;
use crate::cli::GcArgs;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print;
use crate::command::console::print_json;
use crate::command::console::warn;
use crate::command::leftovers;
use crate::error::{Error, Exit};
use crate::report::listing::{ago, short, time};
use crate::report::{sanitize, size};
use crate::store::{Collection, Policy, Removal, RemovalReason, RemovalTarget, Store, StoreError, named_in_lock_file};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The days without use after which something is removed, if the command line names no other number.
const DAYS: u32 = 30;

/// Prints each removal, and carries it out unless `--dry-run` is given.
pub fn gc(location: &StoreLocation, args: &GcArgs) -> Result<(), CommandError> {
    let now = SystemTime::now();
    let policy = policy(location, args, now)?;
    let (mut removed, mut reused) = (Vec::new(), Vec::new());
    if let Some(store) = &location.store {
        let removals =
            store.collectable(&policy, before(now, args.keep_days.unwrap_or(DAYS)), now).map_err(store_error)?;
        if args.dry_run {
            removed = removals;
        } else {
            (removed, reused) = remove(store, removals)?;
        }
    }
    let bytes: u64 = removed.iter().map(|removal| removal.size).sum();
    if args.json {
        let all = |removals: &[Removal]| removals.iter().map(as_json).collect::<Vec<_>>();
        let name = if args.dry_run { "would_remove" } else { "removed" };
        return print_json(
            &json!({ "dry_run": args.dry_run, name: all(&removed), "kept": all(&reused), "size": bytes }),
        );
    }
    let mut text = String::new();
    for (removals, end) in [(&removed, ""), (&reused, "; not removed, because it has just come into use")] {
        removals.iter().for_each(|removal| text.push_str(&format!("{}{end}\n", line(removal, now, &location.path))));
    }
    let layers = removed.iter().filter(|removal| matches!(removal.target, RemovalTarget::Layer { .. })).count();
    let others = removed.len() - layers;
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let counts = match (layers, others) {
        (0, others) => count(others, "item"),
        (layers, 0) => count(layers, "layer"),
        (layers, others) => format!("{} and {}", count(layers, "layer"), count(others, "other item")),
    };
    let did = if args.dry_run { "would remove" } else { "removed" };
    text.push_str(&match removed.len() {
        0 => "nothing to remove\n".to_owned(),
        _ => format!("{did} {counts}, {}\n", size(bytes)),
    });
    print(text.as_bytes())
}

fn policy(location: &StoreLocation, args: &GcArgs, now: SystemTime) -> Result<Policy, Error> {
    let days = args.keep_days.or(if args.max_size.is_none() { Some(DAYS) } else { None });
    let mut policy = Policy { unused_since: days.map(|days| before(now, days)), ..Policy::default() };
    policy.max_size = args.max_size;
    let lock_files = location.store.as_ref().map(|store| store.lock_files().map_err(store_error)).transpose()?;
    for path in args.keep_locks.iter().chain(lock_files.iter().flatten()) {
        // The layers that the lock file names are unknown, so no layer can be removed.
        let wrong = |error: StoreError| {
            let hint = error.hint();
            Error::new(Exit::Usage, error).with_hint(hint)
        };
        policy.locked.extend(named_in_lock_file(path).map_err(wrong)?);
    }
    Ok(policy)
}

/// Returns the time this many days ago.
fn before(now: SystemTime, days: u32) -> SystemTime {
    now.checked_sub(DAY * days).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Carries the removals out. Returns those that are removed, and those that have come into use meanwhile.
fn remove(store: &Store, removals: Vec<Removal>) -> Result<(Vec<Removal>, Vec<Removal>), Error> {
    for warning in leftovers::remove(store)? {
        warn(&warning);
    }
    let mut collection = Collection::new(store);
    let (mut removed, mut reused) = (Vec::new(), Vec::new());
    for removal in removals {
        if collection.remove(&removal).map_err(store_error)? { removed.push(removal) } else { reused.push(removal) }
    }
    Ok((removed, reused))
}

fn line(removal: &Removal, now: SystemTime, store: &Path) -> String {
    let what = match &removal.target {
        RemovalTarget::Layer { digest, step, .. } => {
            let step = step.as_ref().map(|step| format!(" of {}", sanitize(step))).unwrap_or_default();
            format!("layer {}{step}", short(digest))
        }
        RemovalTarget::Record { .. } => format!("record {}", path_in_store(removal, store)),
        RemovalTarget::Logs => path_in_store(removal, store),
        RemovalTarget::Failed => format!("session of a failed step {}", path_in_store(removal, store)),
        RemovalTarget::Damaged => format!("damaged layer {}", path_in_store(removal, store)),
        RemovalTarget::Export => format!("export {}", path_in_store(removal, store)),
        RemovalTarget::ExportedFiles => format!("list of exported files {}", path_in_store(removal, store)),
        RemovalTarget::Listing => format!("listing {}", path_in_store(removal, store)),
        RemovalTarget::Parent => format!("parent {}", path_in_store(removal, store)),
        RemovalTarget::LastKey => format!("last key {}", path_in_store(removal, store)),
        RemovalTarget::Timings | RemovalTarget::Name | RemovalTarget::Document => path_in_store(removal, store),
        RemovalTarget::Leftover => format!("leftover {}", path_in_store(removal, store)),
    };
    let why = match removal.reason {
        RemovalReason::Unused(used) => format!("last used {}", ago(used, now)),
        RemovalReason::Room(used) => format!("to free space, last used {}", ago(used, now)),
        RemovalReason::NoLayer => "its layer no longer exists".to_owned(),
        RemovalReason::Unreadable => "it cannot be read".to_owned(),
        RemovalReason::Unnamed => "nothing refers to it any more".to_owned(),
        RemovalReason::Leftover => "the runner that wrote it no longer runs".to_owned(),
    };
    format!("{what} ({}): {why}", size(removal.size))
}

fn path_in_store(removal: &Removal, store: &Path) -> String {
    removal.path.strip_prefix(store).unwrap_or(&removal.path).display().to_string()
}

fn as_json(removal: &Removal) -> Value {
    let kind = match removal.target {
        RemovalTarget::Layer { .. } => "layer",
        RemovalTarget::Record { .. } => "record",
        RemovalTarget::Logs => "logs",
        RemovalTarget::Failed => "failed",
        RemovalTarget::Damaged => "damaged",
        RemovalTarget::Export => "export",
        RemovalTarget::ExportedFiles => "exported_files",
        RemovalTarget::Listing => "listing",
        RemovalTarget::Parent => "parent",
        RemovalTarget::LastKey => "last_key",
        RemovalTarget::Timings => "timings",
        RemovalTarget::Name => "name",
        RemovalTarget::Document => "document",
        RemovalTarget::Leftover => "left_over",
    };
    let (why, used) = match removal.reason {
        RemovalReason::Unused(used) => ("unused", Some(used)),
        RemovalReason::Room(used) => ("room", Some(used)),
        RemovalReason::NoLayer => ("no_layer", None),
        RemovalReason::Unreadable => ("unreadable", None),
        RemovalReason::Unnamed => ("unnamed", None),
        RemovalReason::Leftover => ("left_over", None),
    };
    let mut json = json!({
        "kind": kind,
        "path": removal.path.display().to_string(),
        "size": removal.size,
        "why": why,
        "used": used.map(time),
    });
    if let RemovalTarget::Layer { digest, step, .. } = &removal.target {
        json["digest"] = digest.to_string().into();
        json["step"] = step.clone().into();
    }
    json
}
