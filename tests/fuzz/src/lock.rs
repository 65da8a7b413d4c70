//! Fuzzes the reading of lock files: a section that is read is the same after it is written and read again.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::lock::{find, read_all, write};
use runner::store::named_in_lock_file;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("cannot make a temporary directory"));

fuzz_target!(|bytes: &[u8]| {
    let [given, again] = ["runner.lock", "again.lock"].map(|name| DIRECTORY.path().join(name));
    fs::write(&given, bytes).expect("cannot write the lock file");
    let named = named_in_lock_file(&given);
    match read_all(&given) {
        Ok(sections) => {
            // The collection leaves exactly the layers that the lock names.
            let named = named.expect("a lock that was read names no layers");
            for section in sections {
                let file = find(&again).expect("cannot find a place for the lock");
                write(&file, &section).expect("a section that was read cannot be written");
                let written = read_all(&again).expect("a lock that was written cannot be read");
                assert_eq!(written, [section.clone()]);
                let digests = section.rootfs.iter().flat_map(|one| &one.digests);
                let digests = digests.chain(section.snapshot.iter().map(|one| &one.digest));
                assert!(digests.filter_map(|text| text.parse().ok()).all(|digest| named.contains(&digest)));
                fs::remove_file(&again).expect("cannot remove the lock file");
            }
        }
        // For any mistake in the text, the error has the fix.
        Err(error) => assert!(error.hint().is_some(), "{error}"),
    }
});
