//! The layer that a name on the command line stands for: a digest, the beginning of a digest, STEP, BUILD/STEP, or
//! BUILD/CONTAINER/STEP as `ls` shows it. Pure.

use std::collections::BTreeMap;

use crate::diagnostic::nearest;
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::report::listing::short;
use crate::store::{Inventory, RecordFile};

/// Returns the layer of this name.
///
/// # Errors
/// With [`Exit::Usage`], if no layer or more than one has the name.
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
            let steps: Vec<&str> = with_layer(inventory).map(RecordFile::step).collect();
            let hint = match nearest(name, steps) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`runner store ls` lists the layers".to_owned(),
            };
            let existed = inventory.records().any(|(_, record)| record.layer().is_some() && is_of(record, name));
            let no_longer = if existed { ": it was built, and is no longer there" } else { "" };
            usage(format!("cannot find the layer `{name}` in the store{no_longer}"), hint)
        }
        many => {
            let shown: Vec<String> = many.iter().take(5).map(|digest| short(digest)).collect();
            let more = if many.len() > 5 { ", …" } else { "" };
            let message = format!("the digests of {} layers begin with `{name}`", many.len());
            usage(message, format!("write more digits: {}{more}", shown.join(", ")))
        }
    }
}

/// Returns, for each build that has a step of this name, the newest record whose layer is in the store.
fn by_step<'a>(inventory: &'a Inventory, name: &str) -> Vec<(&'a str, &'a RecordFile)> {
    let mut newest: BTreeMap<&str, &RecordFile> = BTreeMap::new();
    for record in with_layer(inventory).filter(|record| is_of(record, name)) {
        let newest = newest.entry(&record.recorded.build).or_insert(record);
        // The recorded times are whole seconds, so the times of the files decide between equal ones.
        if (&newest.recorded.time, newest.modified) < (&record.recorded.time, record.modified) {
            *newest = record;
        }
    }
    newest.into_iter().collect()
}

fn is_of(record: &RecordFile, name: &str) -> bool {
    // The name of a build may have slashes, and that of an imported layer.
    let Some(before) = name.strip_suffix(record.step()) else { return false };
    let recorded = &record.recorded;
    let is_build = |name: &str| {
        let container = name.strip_suffix(&recorded.container).and_then(|name| name.strip_suffix('/'));
        name == recorded.build || container == Some(&recorded.build)
    };
    before.is_empty() || before.strip_suffix('/').is_some_and(is_build)
}

/// Returns the records whose layer is in the store.
fn with_layer(inventory: &Inventory) -> impl Iterator<Item = &RecordFile> {
    let records = inventory.records().map(|(_, record)| record);
    records.filter(|record| record.layer().is_some_and(|layer| inventory.layers.contains_key(layer)))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{CacheRecord, LayerFile, RecordedLayer};

    fn record(inventory: &mut Inventory, build: &str, step: &str, day: u8, layer: &Digest) {
        let fields = serde_json::from_value(serde_json::json!({ "x": format!("{build} {step} {day}") })).unwrap();
        let recorded = CacheRecord {
            fields,
            build: build.into(),
            container: "c".into(),
            steps: vec![step.into()],
            duration_ms: 1,
            time: format!("2026-01-0{day}T00:00:00Z"),
            layer: Some(RecordedLayer { digest: *layer, size: 1, below: Vec::new(), lower: None }),
            exports: Vec::new(),
            tmpfs_left: Vec::new(),
        };
        inventory.add(recorded.fields.key(), RecordFile { recorded, modified: SystemTime::UNIX_EPOCH });
    }

    fn inventory() -> (Inventory, [Digest; 3]) {
        let mut inventory = Inventory::default();
        let mut bytes = [[0xab; 32]; 3];
        (bytes[1][31], bytes[2][0]) = (0, 0xca);
        let digests = bytes.map(Digest::from);
        for digest in &digests {
            let modified = SystemTime::UNIX_EPOCH;
            inventory.layers.insert(*digest, LayerFile { size: 1, written: None, modified, is_in_use: false });
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
    fn a_layer_is_found_by_its_digest_a_prefix_or_its_step() {
        let (inventory, [first, second, third]) = inventory();
        let find = |name: &str| named(&inventory, name).unwrap();
        assert_eq!(find(&first.to_string()), first);
        assert_eq!(find(&first.hex()), first);
        assert_eq!((find("ca"), find("sha256:caab"), find("sdk"), find("two/sdk")), (third, third, third, third));
        // The name as `ls` shows it.
        assert_eq!((find("two/c/sdk"), find("one/c/base")), (third, second));
        // The newest record of a step whose layer is in the store.
        assert_eq!((find("one/base"), find("two/base")), (second, first));
    }

    #[test]
    fn an_imported_layer_is_found_by_its_name_with_slashes_as_it_is_listed() {
        let (mut inventory, [.., third]) = inventory();
        record(&mut inventory, "pull", "localhost:5000/hello:v1 layer 1", 3, &third);
        for name in ["pull/c/localhost:5000/hello:v1 layer 1", "localhost:5000/hello:v1 layer 1"] {
            assert_eq!(named(&inventory, name).unwrap(), third);
        }
    }

    #[test]
    fn an_unknown_or_ambiguous_name_is_refused_with_a_hint() {
        let (inventory, _) = inventory();
        let refusal = |name: &str| {
            let error = named(&inventory, name).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            format!("{error}; {}", error.hint().unwrap())
        };
        assert_eq!(refusal("base"), "the step `base` is in several builds; write one of `one/base`, `two/base`");
        assert_eq!(
            refusal("ab"),
            "the digests of 2 layers begin with `ab`; write more digits: abababababab, abababababab"
        );
        assert_eq!(refusal("skd"), "cannot find the layer `skd` in the store; did you mean `sdk`?");
        let list = "`runner store ls` lists the layers";
        assert_eq!(
            refusal("old"),
            format!("cannot find the layer `old` in the store: it was built, and is no longer there; {list}")
        );
        for name in ["sha256:", "three/base", "CA"] {
            assert!(refusal(name).ends_with(list), "{}", refusal(name));
        }
        for name in ["two/d/sdk", "c/sdk", "twoc/sdk"] {
            assert!(refusal(name).starts_with(&format!("cannot find the layer `{name}`")), "{}", refusal(name));
        }
    }
}
