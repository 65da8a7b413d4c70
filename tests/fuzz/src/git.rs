//! Fuzzes the reading of git repositories: for any content of one, its last commit has a time, or the error says why not.
//!
//! An input is the file HEAD in 40 bytes, the length of a pack's index in 4, the index, and the pack. Without an index, the
//! remaining bytes are the file of the object that HEAD names.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner::git::last_commit_time;
use tempfile::TempDir;

const HEAD: usize = 40;

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().expect("cannot make a temporary directory"));

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return };
    let Some((length, rest)) = rest.split_first_chunk() else { return };
    let Some((index, pack)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { return };
    let git = DIRECTORY.path().join(".git");
    let _ = fs::remove_dir_all(&git);
    fs::create_dir_all(git.join("objects/pack")).expect("cannot make a repository");
    let write = |name: &str, bytes: &[u8]| {
        let path = git.join(name);
        fs::create_dir_all(path.parent().expect("it has a directory")).expect("cannot make a directory");
        fs::write(path, bytes).expect("cannot write a file");
    };
    write("HEAD", head);
    match str::from_utf8(head) {
        Ok(name) if index.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            write(&format!("objects/{}/{}", &name[..2], &name[2..]), pack);
        }
        _ => {
            write("objects/pack/pack-1.idx", index);
            write("objects/pack/pack-1.pack", pack);
        }
    }
    if let Err(error) = last_commit_time(DIRECTORY.path()) {
        assert!(!error.is_empty());
    }
});
