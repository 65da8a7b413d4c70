//! The layer that a word on the command line names: a digest, the beginning of one, STEP, BUILD/STEP, or
//! BUILD/CONTAINER/STEP as `ls` shows it. Pure.

use std::collections::BTreeMap;

use crate::diagnostic::nearest;
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::report::listing::short;
use crate::store::{Inventory, RecordFile};

/// The layer of that name.
///
/// # Errors
/// With [`Exit::Usage`] where there is none or more than one.
pub fn named(inventory: &Inventory, name: &str) -> Result<Digest, Error> {
    let usage = |message: String, hint: String| Err(Error::new(Exit::Usage, message).with_hint(Some(hint)));
    if let Ok(digest) = name.parse::<Digest>()
        && inventory.layers.contains_key(&digest)
    {
        return Ok(digest);
    }
    let by_step = by_step(inventory, name);
    if let [(_, newest)] = by_step.as_slice()
        && let Some(digest) = newest.layer()
    {
        return Ok(*digest);
    }
    if !by_step.is_empty() {
        let builds: Vec<String> = by_step.iter().map(|(build, _)| format!("`{build}/{name}`")).collect();
        return usage(format!("the step `{name}` is in several builds"), format!("write one of {}", builds.join(", ")));
    }
    let start = name.strip_prefix("sha256:").unwrap_or(name);
    let begins = |digest: &&Digest| !start.is_empty() && digest.hex().starts_with(start);
    let by_digest: Vec<&Digest> = inventory.layers.keys().filter(begins).collect();
    match by_digest.as_slice() {
        [digest] => Ok(**digest),
        [] => {
            let steps: Vec<&str> = there(inventory).map(RecordFile::step).collect();
            let hint = match nearest(name, steps) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`runner store ls` lists the layers".to_owned(),
            };
            let was_there = inventory.records.values().any(|record| record.layer().is_some() && is_of(record, name));
            let gone = if was_there { ": it was built, and is no longer there" } else { "" };
            usage(format!("cannot find the layer `{name}` in the store{gone}"), hint)
        }
        many => {
            let shown: Vec<String> = many.iter().take(5).map(|digest| short(digest)).collect();
            let more = if many.len() > 5 { ", …" } else { "" };
            let message = format!("`{name}` is the beginning of {} layers", many.len());
            usage(message, format!("write more of it: {}{more}", shown.join(", ")))
        }
    }
}

/// Of each build that has a step of that name, the record that was built last and whose layer is there.
fn by_step<'a>(inventory: &'a Inventory, name: &str) -> Vec<(&'a str, &'a RecordFile)> {
    let mut newest: BTreeMap<&str, &RecordFile> = BTreeMap::new();
    for record in there(inventory).filter(|record| is_of(record, name)) {
        let newest = newest.entry(&record.recorded.build).or_insert(record);
        // The times are whole seconds.
        if (&newest.recorded.time, newest.modified) < (&record.recorded.time, record.modified) {
            *newest = record;
        }
    }
    newest.into_iter().collect()
}

fn is_of(record: &RecordFile, name: &str) -> bool {
    // A build may have a slash in its name, a step has none.
    let (build, step) = name.rsplit_once('/').map_or((None, name), |(build, step)| (Some(build), step));
    let recorded = &record.recorded;
    let container = |name: &str| name.strip_suffix(&recorded.container)?.strip_suffix('/').map(str::to_owned);
    let is_build = |name: &str| name == recorded.build || container(name).is_some_and(|name| name == recorded.build);
    record.step() == step && build.is_none_or(is_build)
}

/// The records whose layer is in the store.
fn there(inventory: &Inventory) -> impl Iterator<Item = &RecordFile> {
    inventory.records.values().filter(|record| record.layer().is_some_and(|layer| inventory.layers.contains_key(layer)))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{LayerFile, Recorded, RecordedLayer};

    fn record(inventory: &mut Inventory, build: &str, step: &str, day: u8, layer: &Digest) {
        let fields = serde_json::from_value(serde_json::json!({ "x": format!("{build} {step} {day}") })).unwrap();
        let recorded = Recorded {
            fields,
            build: build.into(),
            container: "c".into(),
            steps: vec![step.into()],
            duration_ms: 1,
            time: format!("2026-01-0{day}T00:00:00Z"),
            layer: Some(RecordedLayer { digest: *layer, size: 1, below: Vec::new() }),
            tmpfs_left: Vec::new(),
        };
        inventory.records.insert(recorded.fields.key(), RecordFile { recorded, modified: SystemTime::UNIX_EPOCH });
    }

    fn inventory() -> (Inventory, [Digest; 3]) {
        let mut inventory = Inventory::default();
        let mut bytes = [[0xab; 32]; 3];
        (bytes[1][31], bytes[2][0]) = (0, 0xca);
        let digests = bytes.map(Digest::from);
        for digest in &digests {
            let modified = SystemTime::UNIX_EPOCH;
            inventory.layers.insert(*digest, LayerFile { size: 1, written: None, modified, is_held: false });
        }
        record(&mut inventory, "one", "base", 1, &digests[0]);
        record(&mut inventory, "one", "base", 2, &digests[1]);
        record(&mut inventory, "one", "base", 3, &Digest::of_bytes(b"gone"));
        record(&mut inventory, "two", "base", 1, &digests[0]);
        record(&mut inventory, "two", "sdk", 1, &digests[2]);
        record(&mut inventory, "two", "old", 1, &Digest::of_bytes(b"gone"));
        (inventory, digests)
    }

    #[test]
    fn a_layer_is_named_by_its_digest_the_beginning_of_it_or_its_step() {
        let (inventory, [first, second, third]) = inventory();
        let find = |name: &str| named(&inventory, name).unwrap();
        assert_eq!(find(&first.to_string()), first);
        assert_eq!(find(&first.hex()), first);
        assert_eq!((find("ca"), find("sha256:caab"), find("sdk"), find("two/sdk")), (third, third, third, third));
        // As `ls` shows it.
        assert_eq!((find("two/c/sdk"), find("one/c/base")), (third, second));
        // Of several builds of a step the last whose layer is there.
        assert_eq!((find("one/base"), find("two/base")), (second, first));
    }

    #[test]
    fn what_names_none_or_several_is_refused_with_what_to_write() {
        let (inventory, _) = inventory();
        let told = |name: &str| {
            let error = named(&inventory, name).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            format!("{error}; {}", error.hint().unwrap())
        };
        assert_eq!(told("base"), "the step `base` is in several builds; write one of `one/base`, `two/base`");
        assert_eq!(told("ab"), "`ab` is the beginning of 2 layers; write more of it: abababababab, abababababab");
        assert_eq!(told("skd"), "cannot find the layer `skd` in the store; did you mean `sdk`?");
        let list = "`runner store ls` lists the layers";
        assert_eq!(
            told("old"),
            format!("cannot find the layer `old` in the store: it was built, and is no longer there; {list}")
        );
        for name in ["sha256:", "three/base", "CA"] {
            assert!(told(name).ends_with(list), "{}", told(name));
        }
        for name in ["two/d/sdk", "c/sdk", "twoc/sdk"] {
            assert!(told(name).starts_with(&format!("cannot find the layer `{name}`")), "{}", told(name));
        }
    }
}
