//! Repositories that were made to show files of the host, to be waited for, or to cost much.

use std::os::unix::fs::symlink;

use super::*;

const HEX: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

/// The error of a repository, which must name neither of these secrets, and is short.
#[track_caller]
fn refusal(top: &Path) -> String {
    let error = last_commit_time(top).unwrap_err();
    assert!(!error.contains("5ec2") && !error.contains("password") && error.len() < 1000, "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error}");
    error
}

#[test]
fn a_reference_leads_to_no_file_outside_of_the_references() {
    let (folder, top) = repository(1, &[]);
    let key = folder.path().join("key.hex");
    let head = top.join(".git/HEAD");
    fs::write(top.join(".git/inside"), "password").unwrap();
    for secret in [HEX, &HEX[..40], &HEX[..41], "password of nobody", "ref: password\n", "gitdir: password\n"] {
        fs::write(&key, secret).unwrap();
        for name in [
            key.display().to_string(),
            format!("refs/{}", key.display()),
            "refs/../../../key.hex".to_owned(),
            "refs/heads/./main".to_owned(),
            "refs//heads/main".to_owned(),
            "inside".to_owned(),
            "HEAD".to_owned(),
            String::new(),
            "refs/heads/\u{1b}[31m".to_owned(),
        ] {
            fs::write(&head, format!("ref: {name}\n")).unwrap();
            let error = refusal(&top);
            assert!(error.contains("HEAD") && error.contains("names no commit"), "{name:?}: {error}");
        }
    }
    fs::write(&head, format!("ref: refs/heads/{}end\n", "\u{202e}n/".repeat(300))).unwrap();
    let error = refusal(&top);
    assert!(error.contains("has no commit yet (refs/heads/\u{fffd}n") && error.contains('…'), "{error}");
}

#[test]
fn no_file_that_a_link_in_a_repository_leads_to_is_shown() {
    for secret in [HEX, &HEX[..40], &HEX[..41], "password of nobody", "ref: password\n", "pass\0password"] {
        for name in ["HEAD", "refs/heads/main", "commondir", "packed-refs", "objects/info/alternates"] {
            let (folder, top) = repository(1, &[]);
            let key = folder.path().join("key.hex");
            fs::write(&key, secret).unwrap();
            let place = top.join(".git").join(name);
            let _ = fs::remove_file(&place);
            symlink(&key, &place).unwrap();
            if name == "packed-refs" {
                fs::remove_file(top.join(".git/refs/heads/main")).unwrap();
            }
            if name != "objects/info/alternates" {
                refusal(&top);
            }
            fs::remove_dir_all(top.join(".git/objects")).unwrap();
            refusal(&top);
            fs::remove_dir_all(top.join(".git")).unwrap();
            symlink(&key, top.join(".git")).unwrap();
            refusal(&top);
        }
    }
}

#[test]
fn a_reference_and_a_name_of_a_directory_have_four_kibibytes_at_most() {
    for name in ["HEAD", "refs/heads/main", "commondir"] {
        let (_folder, top) = repository(1, &[]);
        let place = top.join(".git").join(name);
        let text = fs::read_to_string(&place).unwrap_or("../.git".to_owned());
        fs::write(&place, format!("{text}{}", " ".repeat(4096))).unwrap();
        let error = refusal(&top);
        assert!(error.contains(name) && error.contains("it is over 4096 bytes"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".git"), format!("gitdir: {}", "a/".repeat(3000))).unwrap();
    assert!(refusal(folder.path()).contains("it is over 4096 bytes"));
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
