//! Tests of opening a store.

use std::thread;

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn a_missing_store_is_created_and_can_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b");
    let store = Store::open(&root).unwrap();
    assert_eq!(mode(&root), 0o700);
    assert_eq!(fs::read_to_string(root.join("format")).unwrap(), "1\n");
    assert_eq!(fs::read_dir(store.mnt()).unwrap().count(), 0);
    assert_eq!(Store::open(&root).unwrap().root(), root.canonicalize().unwrap());
}

#[test]
fn a_link_as_the_store_is_refused_and_a_link_above_it_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(&directory.path().join("real/store")).unwrap();
    for (target, link) in [("real", "above"), ("real/store", "link")] {
        std::os::unix::fs::symlink(target, directory.path().join(link)).unwrap();
    }
    assert!(Store::open(&directory.path().join("above/store")).is_ok());
    for link in ["link", "link/", "link/."] {
        for opened in
            [Store::open(&directory.path().join(link)).err(), Store::open_existing(&directory.path().join(link)).err()]
        {
            assert!(matches!(opened, Some(StoreError::Link { .. })), "{link}");
        }
    }
}

#[test]
fn opening_a_missing_store_to_read_it_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    assert!(Store::open_if_any(&root).unwrap().is_none() && !root.exists());
    assert!(Store::open_if_any(directory.path()).unwrap().is_none());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    Store::open(&root).unwrap();
    assert!(Store::open_if_any(&root).unwrap().is_some());
    assert!(matches!(Store::open_if_any(directory.path()), Err(StoreError::NotAStore { .. })));
}

#[test]
fn an_empty_directory_becomes_a_store_that_others_cannot_enter() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    Store::open(directory.path()).unwrap();
    assert_eq!(mode(directory.path()), 0o700);
}

#[test]
fn another_format_is_refused_with_a_hint() {
    for found in ["2", "", "\u{fffd}"] {
        let directory = tempfile::tempdir().unwrap();
        let bytes = if found == "\u{fffd}" { b"\xff\n".to_vec() } else { format!("{found}\n").into_bytes() };
        fs::write(directory.path().join("format"), bytes).unwrap();
        let error = Store::open(directory.path()).unwrap_err();
        assert!(matches!(&error, StoreError::Format { found: f, .. } if f == found), "{error}");
        assert!(error.hint().unwrap().contains("--store"));
        assert!(!directory.path().join("layers").exists());
    }
}

#[test]
fn a_directory_with_other_files_is_refused_and_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("thesis.tex"), "").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(mode(directory.path()), 0o755);
}

#[test]
fn another_users_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(12345), None).unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::Owner { owner: 12345, .. }), "{error}");
}

#[test]
fn runners_that_create_a_store_at_the_same_time_create_one() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("store");
        thread::scope(|scope| {
            for opened in [0; 4].map(|_| scope.spawn(|| Store::open(&root))) {
                opened.join().unwrap().unwrap();
            }
        });
        let hidden = fs::read_dir(&root)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."));
        assert_eq!(hidden.count(), 0);
    }
}

#[test]
fn a_path_is_refused_as_a_file_name() {
    for name in ["", ".", "..", "a/b", "/", "a/", "../x"] {
        assert!(file_name(name).is_err(), "{name}");
    }
    for name in ["a", "...", ".a", "a b"] {
        assert_eq!(file_name(name).unwrap(), name);
    }
}
