//! The parents of a key in the store: they name the layer that changed, and those of a former runner are understood.

use std::fs;
use std::path::{Path, PathBuf};

use runner::cache::key::KeyFields;
use serde_json::{Value, json};

use super::{apply, count, digests, edit, planned, reasons, statuses};
use crate::built::project;
use crate::project::Project;

const CHAIN: &str = r#"
containers:
  base: { rootfs: $TOOLS }
  next: { rootfs: { snapshot: second } }
steps:
  - { name: a, container: base, run: echo a > /a }
  - { name: first, container: base, snapshot: {} }
  - { name: b, container: base, run: echo b > /b }
  - { name: second, container: base, snapshot: {} }
  - { name: c, container: next, run: cat /a /b > /c }
  - { name: third, container: next, snapshot: {} }
  - { name: d, container: next, run: cat /c > /d }
  - { name: image, container: next, snapshot: { mode: full } }
"#;

fn below_changed(what: &str) -> Value {
    json!([{ "kind": "below_changed", "what": what }])
}

#[test]
fn the_lowest_layer_that_changed_is_named_also_after_a_collection() {
    let project = project(CHAIN);
    apply(&project, &[]);
    edit(&project, "echo a >", "echo new >");
    let built = apply(&project, &[]);
    for step in ["b", "c", "d"] {
        assert_eq!(reasons(&built, step), below_changed("first"), "{step}");
    }
    edit(&project, "echo b >", "echo new >");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=cached b=ran c=ran d=ran first=cached image=ran second=ran third=ran");
    assert_eq!((reasons(&built, "c"), reasons(&built, "d")), (below_changed("second"), below_changed("second")));

    let collected = project.runner(&["store", "gc", "--max-size", "0"]);
    assert!(collected.code == 0 && collected.stdout.contains("layers"), "{collected}");
    assert_eq!(fs::read_dir(project.store().join("keys")).unwrap().count(), 0);
    edit(&project, "echo new > /a", "echo newer > /a");
    let built = apply(&project, &[]);
    assert_eq!((reasons(&built, "c"), reasons(&built, "d")), (below_changed("first"), below_changed("first")));
}

#[test]
fn without_stored_parents_the_layer_directly_below_is_named() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    fs::remove_dir_all(project.store().join("parents")).unwrap();
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    let below = |step: &str| json(&project, &["store", "inspect", step, "--json"])["built"][0]["below"].clone();
    // The records have it, too.
    assert_eq!(below("third"), json!(of(&digests(&first), &["first", "second"])));
    edit(&project, "echo a >", "echo new >");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=ran b=ran c=ran d=ran first=ran image=ran second=ran third=ran");
    let named = ["b", "c", "d"].map(|step| reasons(&built, step));
    assert_eq!(named, ["first", "second", "third"].map(below_changed));
    assert_eq!(below("third"), json!(of(&digests(&built), &["first", "second"])));
}

#[test]
fn a_store_of_a_former_runner_is_listed_and_its_layers_are_built_again() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    let list = |step: &str| json(&project, &["store", "inspect", step, "--json"])["built"][0]["below"].clone();
    let below = ["first", "second", "third", "image"].map(list);
    assert_eq!(below[2], json!(of(&digests(&first), &["first", "second"])));
    // Without the ages, which grow.
    let listing = || -> Vec<String> {
        let is_age =
            |word: &&str| *word == "ago" || word.strip_suffix('s').is_some_and(|age| age.parse::<u32>().is_ok());
        let listed = project.runner(&["store", "ls"]).stdout;
        listed.split_whitespace().filter(|word| !is_age(word)).map(str::to_owned).collect()
    };
    let listed = listing();
    write_as_a_former_runner(&project.store());
    assert_eq!(["first", "second", "third", "image"].map(list), below);
    assert_eq!(listing(), listed);
    assert_eq!(project.runner(&["store", "verify"]).code, 0);
    let collection = project.runner(&["store", "gc"]);
    assert_eq!(collection.stdout, "nothing to remove\n", "{collection}");

    let format = json!([{ "kind": "setting_changed", "field": "format", "old": "5", "new": "6" }]);
    assert!(planned(&project).iter().any(|(step, _, reasons)| step == "a" && *reasons == format));
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=ran b=ran c=ran d=ran first=ran image=ran second=ran third=ran");
    assert_eq!(digests(&built), digests(&first));
    assert_eq!(reasons(&built, "a"), format);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
}

fn json(project: &Project, arguments: &[&str]) -> Value {
    let run = project.runner(arguments);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

/// Returns the digests of these snapshots.
fn of(digests: &[(String, String)], steps: &[&str]) -> Vec<String> {
    let digest = |step: &&str| digests.iter().find(|(name, _)| name == step).unwrap().1.clone();
    steps.iter().map(digest).collect()
}

/// Writes the records and the last keys in the format of keys of version 5: each lists all layers that it is built on.
fn write_as_a_former_runner(store: &Path) {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let parents = |below: Option<&str>| {
        let (mut ids, mut next) = (Vec::new(), below.map(str::to_owned));
        while let Some(digest) = next {
            let parent = read(&store.join(format!("parents/{}.json", digest.strip_prefix("sha256:").unwrap())));
            ids.push(parent["id"].as_str().unwrap().to_owned());
            next = parent["below"].as_str().map(str::to_owned);
        }
        ids.reverse();
        ids
    };
    let rewrite = |fields: &mut Value| {
        let below = fields.as_object_mut().unwrap().remove("below").unwrap_or_default();
        let ids = parents(below.as_str());
        for (n, id) in ids.iter().enumerate() {
            fields[format!("below/{n:05}")] = json!(id);
        }
        if below.is_string() {
            fields["format"] = json!("5");
        }
        ids
    };
    for path in files(&store.join("keys")) {
        let mut record = read(&path);
        let ids = rewrite(&mut record["fields"]);
        let layer = record["layer"].as_object_mut().unwrap();
        layer.remove("lower");
        if layer["below"] != json!([]) {
            let layers: Vec<&str> = ids.iter().filter_map(|id| id.strip_prefix("layer ")).collect();
            layer.insert("below".to_owned(), json!(layers));
        }
        let fields: KeyFields = serde_json::from_value(record["fields"].clone()).unwrap();
        let time = path.metadata().unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        let path = store.join(format!("keys/{}.json", fields.key().hex()));
        fs::write(&path, record.to_string()).unwrap();
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    for path in files(&store.join("last")) {
        let mut last = read(&path);
        for key in last["keys"].as_array_mut().into_iter().flatten() {
            rewrite(&mut key["fields"]);
        }
        fs::write(&path, last.to_string()).unwrap();
    }
    fs::remove_dir_all(store.join("parents")).unwrap();
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}
