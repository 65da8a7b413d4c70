//! Fuzzes the records of a store: a damaged record counts as none, and an accepted one is written as it was read.
#![no_main]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use runner::cache::key::Parents;
use runner::digest::Digest;
use runner::store::{CacheRecord, FailedStep, Policy, Store};
use tempfile::TempDir;

static STORE: LazyLock<(TempDir, Store)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("cannot make a temporary directory");
    let store = Store::open(&directory.path().join("store")).expect("cannot make a store");
    fs::create_dir(store.root().join("failed/build.0")).expect("cannot make a failed session");
    (directory, store)
});

fn put(directory: &str, name: &str, bytes: &[u8]) {
    fs::write(STORE.1.root().join(directory).join(name), bytes).expect("cannot write a record");
}

fn layers(recorded: Option<&CacheRecord>) -> BTreeSet<PathBuf> {
    let layers = recorded.and_then(|recorded| recorded.layer.as_ref());
    let digests = layers.into_iter().flat_map(|layer| layer.below.iter().chain([&layer.digest]));
    digests.map(|digest| STORE.1.layer_path(digest)).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let store = &STORE.1;
    let written: Option<CacheRecord> = serde_json::from_slice(bytes).ok();
    let key = written.as_ref().map_or_else(|| Digest::of_bytes(b"key"), |recorded| recorded.fields.key());
    put("keys", &format!("{}.json", key.hex()), bytes);
    put("last", &format!("{}.json", Digest::of_bytes(b"build\0step").hex()), bytes);
    put("last", &format!("{}.json", Digest::of_bytes(b"build\0step\0checkpoint").hex()), bytes);
    put("timings", &format!("{}.json", Digest::of_bytes(b"build").hex()), bytes);
    put("lock-files", &key.hex(), bytes);
    put("failed/build.0", "state.json", bytes);

    let recorded = store.recorded(&key);
    assert_eq!(recorded, written);
    if let Some(recorded) = &recorded {
        store
            .record(recorded, &Parents::default(), Path::new("/b/build.yaml"))
            .expect("a record that was read cannot be written");
        assert_eq!(store.recorded(&key).as_ref(), Some(recorded));
        if let Some(step) = recorded.steps.last() {
            assert_eq!(
                store.last_key(&recorded.build, Path::new("/b/build.yaml"), step).as_ref(),
                Some(&recorded.fields)
            );
        }
    }
    let project = Path::new("/b/build.yaml");
    let timings = store.timings("build", project);
    if !timings.is_empty() {
        store.set_timings("build", project, &timings).expect("timings that were read cannot be written");
        assert_eq!(store.timings("build", project), timings);
    }
    store.last_key("build", Path::new("/b/build.yaml"), "step");
    store.has_checkpoint("build", "step");

    // A collection reads every record, and the layers that it names.
    let layers = layers(recorded.as_ref());
    for layer in &layers {
        fs::write(layer, b"").expect("cannot write a layer");
    }
    let inventory = store.inventory().expect("cannot take the inventory");
    assert_eq!(inventory.records().count() + inventory.unreadable.len(), 1);
    let now = SystemTime::now();
    let policy = Policy { unused_since: Some(now), max_size: Some(0), ..Policy::default() };
    let effects = store.collectable(&policy, now - Duration::from_secs(1), now).expect("cannot choose what to collect");
    assert!(effects.len() >= layers.len());
    // A path with a NUL or one that is too long is an error with words.
    let _ = store.lock_files();

    if let Ok(step) = serde_json::from_slice::<FailedStep>(bytes) {
        let failed = store.failed(&step.manifest, &step.step).expect("cannot look for a failed session");
        assert_eq!(failed.expect("a failed session is not found").step, step);
    } else {
        assert!(store.failed(Path::new("/build.yaml"), "step").expect("cannot look for a failed session").is_none());
    }
    for layer in &layers {
        fs::remove_file(layer).expect("cannot remove the layer");
    }
    fs::remove_dir_all(store.root().join("last")).expect("cannot remove the last keys");
    fs::create_dir(store.root().join("last")).expect("cannot make the last keys again");
    fs::remove_file(store.root().join(format!("keys/{}.json", key.hex()))).expect("cannot remove the record");
    fs::remove_file(store.root().join("lock-files").join(key.hex())).expect("cannot remove the lock file's name");
});
