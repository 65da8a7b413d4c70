//! Repositories that were made to show files of the host, to be waited for, or to cost much.

use std::os::unix::fs::symlink;

use super::*;

/// The error of a repository, which is short.
#[track_caller]
fn refusal(top: &Path) -> String {
    let error = last_commit_time(top).unwrap_err();
    assert!(error.len() < 1000, "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error}");
    error
}

#[test]
fn a_file_of_the_kernel_in_the_place_of_any_file_of_a_repository_is_not_read() {
    for packed in [false, true] {
        let (_folder, top) = repository(3, &[]);
        if packed {
            git(&top, &["gc", "-q", "--prune=now"], 0);
        }
        let name = fs::read_to_string(top.join(".git/refs/heads/main")).unwrap_or_default();
        let used = if packed {
            let packs = files(&top.join(".git/objects/pack"));
            let packs =
                packs.into_iter().filter(|path| path.extension().is_some_and(|end| end == "idx" || end == "pack"));
            packs.chain([top.join(".git/packed-refs")]).collect()
        } else {
            let object = top.join(".git/objects").join(&name[..2]).join(name[2..].trim());
            vec![object, top.join(".git/refs/heads/main")]
        };
        let always = ["HEAD", "commondir"].map(|name| top.join(".git").join(name));
        for path in used.into_iter().chain(always).chain([top.join(".git")]) {
            let aside = path.with_extension("aside");
            let was_there = fs::rename(&path, &aside).is_ok();
            // Stand-ins for /proc/kmsg and a `trace_pipe`, which a reader waits at.
            for (file, filesystem) in [("/proc/version", "proc"), ("/sys/kernel/uevent_seqnum", "sysfs")] {
                symlink(file, &path).unwrap();
                let error = refusal(&top);
                let why = format!("it is a file of the kernel ({filesystem})");
                assert!(error.contains(&why), "{}: {error}", path.display());
                fs::remove_file(&path).unwrap();
            }
            if was_there {
                fs::rename(&aside, &path).unwrap();
            }
        }
        assert_eq!(last_commit_time(&top), Ok(1_700_000_000));
    }
}
