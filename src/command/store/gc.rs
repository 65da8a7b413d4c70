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
use crate::store::{Collection, Effect, Policy, Store, StoreError, What, Why, named_in_lock_file};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The days without use after which something is removed, if the command line names no other number.
const DAYS: u32 = 30;

/// Prints each removal, and carries it out unless `--dry-run` is given.
pub fn gc(location: &StoreLocation, args: &GcArgs) -> Result<(), CommandError> {
    let now = SystemTime::now();
    let policy = policy(location, args, now)?;
    let (mut removed, mut reused) = (Vec::new(), Vec::new());
    if let Some(store) = &location.store {
        let effects =
            store.collectable(&policy, before(now, args.keep_days.unwrap_or(DAYS)), now).map_err(store_error)?;
        if args.dry_run {
            removed = effects;
        } else {
            (removed, reused) = remove(store, effects)?;
        }
    }
    let bytes: u64 = removed.iter().map(|effect| effect.size).sum();
    if args.json {
        let all = |effects: &[Effect]| effects.iter().map(as_json).collect::<Vec<_>>();
        let name = if args.dry_run { "would_remove" } else { "removed" };
        return print_json(
            &json!({ "dry_run": args.dry_run, name: all(&removed), "kept": all(&reused), "size": bytes }),
        );
    }
    let mut text = String::new();
    for (effects, end) in [(&removed, ""), (&reused, "; not removed, because it has just come into use")] {
        effects.iter().for_each(|effect| text.push_str(&format!("{}{end}\n", line(effect, now, &location.path))));
    }
    let layers = removed.iter().filter(|effect| matches!(effect.what, What::Layer { .. })).count();
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

/// Removes the effects. Returns those that are removed, and those that have come into use meanwhile.
fn remove(store: &Store, effects: Vec<Effect>) -> Result<(Vec<Effect>, Vec<Effect>), Error> {
    for warning in leftovers::remove(store)? {
        warn(&warning);
    }
    let mut collection = Collection::new(store);
    let (mut removed, mut reused) = (Vec::new(), Vec::new());
    for effect in effects {
        if collection.remove(&effect).map_err(store_error)? { removed.push(effect) } else { reused.push(effect) }
    }
    Ok((removed, reused))
}

fn line(effect: &Effect, now: SystemTime, store: &Path) -> String {
    let what = match &effect.what {
        What::Layer { digest, step, .. } => {
            let step = step.as_ref().map(|step| format!(" of {}", sanitize(step))).unwrap_or_default();
            format!("layer {}{step}", short(digest))
        }
        What::Record { .. } => format!("record {}", path_in_store(effect, store)),
        What::Logs => path_in_store(effect, store),
        What::Failed => format!("session of a failed step {}", path_in_store(effect, store)),
        What::Damaged => format!("damaged layer {}", path_in_store(effect, store)),
        What::Listing => format!("listing {}", path_in_store(effect, store)),
        What::Parent => format!("parent {}", path_in_store(effect, store)),
        What::LastKey => format!("last key {}", path_in_store(effect, store)),
        What::Timings => path_in_store(effect, store),
        What::LeftOver => format!("leftover {}", path_in_store(effect, store)),
    };
    let why = match effect.why {
        Why::Unused(used) => format!("last used {}", ago(used, now)),
        Why::Room(used) => format!("to free space, last used {}", ago(used, now)),
        Why::NoLayer => "its layer no longer exists".to_owned(),
        Why::Unreadable => "it cannot be read".to_owned(),
        Why::Unnamed => "nothing refers to it any more".to_owned(),
        Why::LeftOver => "the runner that wrote it no longer runs".to_owned(),
    };
    format!("{what} ({}): {why}", size(effect.size))
}

fn path_in_store(effect: &Effect, store: &Path) -> String {
    effect.path.strip_prefix(store).unwrap_or(&effect.path).display().to_string()
}

fn as_json(effect: &Effect) -> Value {
    let kind = match effect.what {
        What::Layer { .. } => "layer",
        What::Record { .. } => "record",
        What::Logs => "logs",
        What::Failed => "failed",
        What::Damaged => "damaged",
        What::Listing => "listing",
        What::Parent => "parent",
        What::LastKey => "last_key",
        What::Timings => "timings",
        What::LeftOver => "left_over",
    };
    let (why, used) = match effect.why {
        Why::Unused(used) => ("unused", Some(used)),
        Why::Room(used) => ("room", Some(used)),
        Why::NoLayer => ("no_layer", None),
        Why::Unreadable => ("unreadable", None),
        Why::Unnamed => ("unnamed", None),
        Why::LeftOver => ("left_over", None),
    };
    let mut json = json!({
        "kind": kind,
        "path": effect.path.display().to_string(),
        "size": effect.size,
        "why": why,
        "used": used.map(time),
    });
    if let What::Layer { digest, step, .. } = &effect.what {
        json["digest"] = digest.to_string().into();
        json["step"] = step.clone().into();
    }
    json
}
