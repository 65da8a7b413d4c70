//! Tests of the removals of a collection, on real files.

use std::fs::File;
use std::time::Duration;

use super::super::super::inventory::fixture::{chained, days, id, recorded};
use super::*;
use crate::cache::key::Parents;
use crate::content::Listings;
use crate::store::Timings;

/// A store with layers 1 ← 2 and 3, built and used on days 1, 2 and 3.
fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    for (number, below) in [(1, &[][..]), (2, &[1]), (3, &[])] {
        let recorded = recorded(u32::from(number), Some(number), below, 10);
        fs::write(store.layer_path(&id(number)), "0123456789").unwrap();
        store.record(&recorded, &Parents::default(), Path::new("/b/build.yaml")).unwrap();
        for path in [store.layer_path(&id(number)), store.key_path(&recorded.fields.key())] {
            set_used(&path, u64::from(number));
        }
    }
    (directory, store)
}

fn set_used(path: &Path, day: u64) {
    File::open(path).unwrap().set_modified(days(day)).unwrap();
}

fn all() -> Policy {
    Policy { max_size: Some(0), ..Policy::default() }
}

fn layers_of(store: &Store) -> Vec<u8> {
    (1..=3).filter(|number| store.layer_path(&id(*number)).exists()).collect()
}

fn collect(store: &Store, removals: &[Removal]) -> Vec<bool> {
    let mut collection = Collection::new(store);
    removals.iter().map(|removal| collection.remove(removal).unwrap()).collect()
}

fn digests(removals: &[Removal]) -> Vec<Digest> {
    removals
        .iter()
        .filter_map(|e| if let RemovalTarget::Layer { digest, .. } = e.target { Some(digest) } else { None })
        .collect()
}

#[test]
fn layers_are_removed_with_their_records_when_the_removals_are_carried_out() {
    let (_directory, store) = store();
    let policy = Policy { max_size: Some(10), ..Policy::default() };
    let removals = store.collectable(&policy, days(0), SystemTime::now()).unwrap();
    assert_eq!(digests(&removals), [id(2), id(1)]);
    assert_eq!(removals.len(), 2);
    assert_eq!(removals[0].reason, RemovalReason::Room(days(2)));
    assert_eq!((layers_of(&store), store.keys().unwrap().len()), (vec![1, 2, 3], 3));
    assert_eq!(collect(&store, &removals), [true, true]);
    assert_eq!((layers_of(&store), store.keys().unwrap()), (vec![3], vec![recorded(3, None, &[], 0).fields.key()]));
    // Once more, as another collection at the same time would.
    assert_eq!(collect(&store, &removals), [true, true]);
    assert_eq!(store.collectable(&policy, days(0), SystemTime::now()).unwrap(), []);
}

#[test]
fn a_layer_that_comes_into_use_remains_with_those_below_it() {
    for way in 0..3 {
        let (directory, store) = store();
        let removals = store.collectable(&all(), days(0), SystemTime::now()).unwrap();
        assert_eq!(digests(&removals), [id(2), id(1), id(3)]);
        let mut pin = None;
        match way {
            0 => pin = store.pin_layer(&id(2)).unwrap(),
            1 => store.touch(&recorded(2, Some(2), &[1], 10)).unwrap(),
            _ => {
                let temp = directory.path().join("temp");
                fs::write(&temp, "0123456789").unwrap();
                drop(store.put_and_pin(&temp, &id(2)).unwrap());
            }
        }
        assert_eq!(collect(&store, &removals), [false, false, true], "way {way}");
        assert_eq!((layers_of(&store), store.keys().unwrap().len()), (vec![1, 2], 2));
        drop(pin);
    }
}

#[test]
fn records_that_are_unreadable_outdated_or_without_a_layer_are_removed() {
    let (_directory, store) = store();
    fs::remove_file(store.layer_path(&id(3))).unwrap();
    let unreadable = store.key_path(&id(9));
    fs::write(&unreadable, "{").unwrap();
    for (key, layer, day) in [(20, Some(2), 1), (21, None, 1), (22, None, 9)] {
        let recorded = recorded(key, layer, &[1], 10);
        store.record(&recorded, &Parents::default(), Path::new("/b/build.yaml")).unwrap();
        set_used(&store.key_path(&recorded.fields.key()), day);
    }
    let removals = store.collectable(&Policy::default(), days(5), SystemTime::now()).unwrap();
    let key = |key| recorded(key, None, &[], 0).fields.key();
    let mut reasons: Vec<(Digest, RemovalReason)> =
        removals.iter().flat_map(|e| e.keys().iter().map(|key| (*key, e.reason))).collect();
    let mut wanted = vec![
        (id(9), RemovalReason::Unreadable),
        (key(3), RemovalReason::NoLayer),
        (key(20), RemovalReason::Unused(days(1))),
        (key(21), RemovalReason::Unused(days(1))),
    ];
    reasons.sort_by_key(|(key, _)| *key);
    wanted.sort_by_key(|(key, _)| *key);
    assert_eq!(reasons, wanted);
    // A record whose layer is rebuilt before the removal remains.
    fs::write(store.layer_path(&id(3)), "0123456789").unwrap();
    collect(&store, &removals);
    assert!(store.recorded(&key(3)).is_some() && store.recorded(&key(20)).is_none() && !unreadable.exists());
}

#[test]
fn old_logs_are_removed_except_those_of_a_running_build() {
    let (_directory, store) = store();
    let builds = [1, 2, 3].map(|day| store.new_build(days(day)).unwrap());
    let names = builds.each_ref().map(ToString::to_string);
    for (build, day) in builds.iter().zip([1, 2, 9]) {
        let (_, path) = store.log_file(build, "step").unwrap();
        fs::write(&path, "log").unwrap();
        set_used(&path, day);
        set_used(path.parent().unwrap(), 1);
    }
    let [living, ended, recent] = builds;
    drop((ended, recent));
    let removals = store.collectable(&Policy::default(), days(5), SystemTime::now()).unwrap();
    let logs: Vec<&Removal> = removals.iter().filter(|removal| removal.target == RemovalTarget::Logs).collect();
    assert_eq!(logs.len(), 1, "{removals:?}");
    assert_eq!((logs[0].path.clone(), logs[0].size), (store.root().join("logs").join(&names[1]), 3));
    collect(&store, &removals);
    let remaining = names.map(|name| store.root().join("logs").join(name).exists());
    assert_eq!(remaining, [true, false, true]);
    drop(living);
}

#[test]
fn sessions_of_failed_steps_remain_as_long_as_logs() {
    let (_directory, store) = store();
    let failed = [1, 9].map(|day| {
        let path = store.root().join(format!("failed/build.{day}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("changes.squashfs"), "changes").unwrap();
        set_used(&path, day);
        path
    });
    let removals = store.collectable(&Policy::default(), days(5), SystemTime::now()).unwrap();
    let sessions: Vec<&Removal> = removals.iter().filter(|removal| removal.target == RemovalTarget::Failed).collect();
    assert_eq!(sessions.len(), 1, "{removals:?}");
    assert_eq!(
        (&sessions[0].path, sessions[0].size, sessions[0].reason),
        (&failed[0], 7, RemovalReason::Unused(days(1)))
    );
    assert_eq!(collect(&store, &removals), vec![true; removals.len()]);
    assert_eq!(failed.map(|path| path.exists()), [false, true]);
    // With `--keep-days 0` all are removed.
    let now = SystemTime::now();
    let removals = store.collectable(&Policy::default(), now, now).unwrap();
    assert!(removals.iter().any(|removal| removal.target == RemovalTarget::Failed), "{removals:?}");
}

#[test]
fn unnamed_listings_and_old_half_written_files_are_removed() {
    let (_directory, store) = store();
    let listings = Listings::open(&store.root().join("listings"));
    fs::create_dir(store.root().join("listings")).unwrap();
    let mut named = recorded(30, Some(3), &[], 10);
    let fields = serde_json::json!({ "content/src": id(40).to_string(), "below/00000": format!("dir {}", id(41)) });
    named.fields = serde_json::from_value(fields).unwrap();
    store.record(&named, &Parents::default(), Path::new("/b/build.yaml")).unwrap();
    let half = [store.root().join("keys/.new-old"), store.root().join("programs/.new-young")];
    let listed = [40, 41, 42].map(|number| listings.path(&id(number)));
    let damaged = store.root().join("damaged/x.squashfs");
    for path in listed.iter().chain(&half).chain([&damaged]) {
        fs::write(path, "").unwrap();
        set_used(path, 1);
    }
    fs::write(store.root().join("building/unlocked"), "").unwrap();
    let builds = store.try_lock_key(&id(1)).unwrap().unwrap();
    File::open(&half[1]).unwrap().set_modified(SystemTime::now()).unwrap();
    let removals = store.collectable(&Policy::default(), days(0), SystemTime::now()).unwrap();
    let mut paths: Vec<&Path> =
        removals.iter().map(|removal| removal.path.strip_prefix(store.root()).unwrap()).collect();
    paths.sort();
    let listing = listed[2].strip_prefix(store.root()).unwrap();
    assert_eq!(paths, [Path::new("building/unlocked"), Path::new("keys/.new-old"), listing]);
    assert!(collect(&store, &removals).iter().all(|removed| *removed));
    drop(builds);
    // A damaged layer remains as long as other files do, counted from the time at which it was set aside.
    let later = SystemTime::now() + Duration::from_secs(60);
    let removals = store.collectable(&Policy::default(), later, later).unwrap();
    assert!(removals.iter().any(|removal| removal.target == RemovalTarget::Damaged && removal.path == damaged));
}

#[test]
fn parents_that_no_record_and_no_last_key_needs_are_removed() {
    let (_directory, store) = store();
    let parents =
        |below: &[u8]| below.iter().fold(Parents::default(), |parents, number| parents.with_layer("", &id(*number)));
    let now = SystemTime::now() + Duration::from_secs(2 * 24 * 60 * 60);
    for (key, chain) in [(40, &[1, 2, 3][..]), (41, &[1, 3, 2])] {
        store.record(&chained(key, chain, 10), &parents(&chain[..2]), Path::new("/b/build.yaml")).unwrap();
    }
    let removable_parents = || {
        let removals = store.collectable(&Policy::default(), days(0), now).unwrap();
        removals
            .into_iter()
            .filter(|removal| removal.target == RemovalTarget::Parent)
            .map(|removal| removal.path)
            .collect::<Vec<_>>()
    };
    let path = |below: &[u8]| store.parents_path(&parents(below).digest().unwrap());
    assert!([&[1][..], &[1, 2], &[1, 3]].iter().all(|below| path(below).exists()));
    assert_eq!(removable_parents(), [] as [PathBuf; 0]);
    // The last key explains the record for a year.
    store.forget(&chained(41, &[1, 3, 2], 10).fields.key()).unwrap();
    assert_eq!(removable_parents(), [] as [PathBuf; 0]);
    fs::remove_file(store.last_path("b", "s41")).unwrap();
    assert_eq!(removable_parents(), [path(&[1, 3])]);
}

#[test]
fn a_last_key_is_removed_a_year_after_its_result() {
    let (_directory, store) = store();
    let last = |key: u32| store.last_path("b", &format!("s{key}"));
    let year = days(0) + Duration::from_secs(400 * 24 * 60 * 60);
    [1, 3].into_iter().for_each(|key| set_used(&last(key), 1));
    set_used(&last(2), 399);
    let policy = Policy { max_size: Some(20), locked: [id(3)].into(), ..Policy::default() };
    assert_eq!(store.collectable(&policy, days(0), year).unwrap().len(), 1);
    let removals = store.collectable(&Policy { max_size: Some(10), ..policy }, days(0), year).unwrap();
    assert_eq!(digests(&removals), [id(2), id(1)]);
    let paths: Vec<&Path> = removals[2..].iter().map(|removal| removal.path.as_path()).collect();
    assert_eq!(paths, [last(1)]);
    assert_eq!(removals[2].target, RemovalTarget::LastKey);
}

#[test]
fn timings_are_removed_a_year_after_the_last_run() {
    let (_directory, store) = store();
    for (build, day) in [("old", 1), ("young", 30)] {
        store.set_timings(build, Path::new("/work/build.yaml"), &Timings::default()).unwrap();
        set_used(&store.timings_path(build), day);
    }
    let year = days(0) + Duration::from_secs(370 * 24 * 60 * 60);
    let removals = store.collectable(&Policy::default(), days(0), year).unwrap();
    let paths: Vec<&Path> = removals.iter().map(|removal| removal.path.as_path()).collect();
    assert_eq!((paths, &removals[0].target), (vec![&*store.timings_path("old")], &RemovalTarget::Timings));
}
