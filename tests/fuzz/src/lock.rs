//! Fuzzes the reading of lock files: a lock that is read is the same after it is written and read again.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::lock::Lock;
use runner::store::named_in_lock_file;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("cannot make a temporary directory"));

fuzz_target!(|bytes: &[u8]| {
    let [given, again] = ["runner.lock", "again.lock"].map(|name| DIRECTORY.path().join(name));
    fs::write(&given, bytes).expect("cannot write the lock file");
    let named = named_in_lock_file(&given);
    match Lock::read(&given) {
        Ok(lock) => {
            let file = Lock::find(&again).expect("cannot find a place for the lock");
            lock.write(&file).expect("a lock that was read cannot be written");
            assert_eq!(Lock::read(&again).expect("a lock that was written cannot be read"), lock);
            // The collection keeps exactly the layers that the lock names.
            let named = named.expect("a lock that was read names no layers");
            let digests = lock.rootfs.iter().map(|one| &one.digest).chain(lock.snapshot.iter().map(|one| &one.digest));
            assert!(digests.filter_map(|text| text.parse().ok()).all(|digest| named.contains(&digest)));
        }
        // Whatever is wrong with the text, the error has the fix.
        Err(error) => assert!(error.hint().is_some(), "{error}"),
    }
});
