//! Repositories that were made to reveal files of the host, to block a reader, or to cost much.

use std::os::unix::fs::symlink;

use super::*;

const HEX: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

/// Returns the error of a repository, which must name neither of these secrets, and is short.
#[track_caller]
fn refusal(top: &Path) -> String {
    let error = last_commit_time(top).unwrap_err();
    assert!(!error.contains("5ec2") && !error.contains("password") && error.len() < 1000, "{error}");
    assert!(!error.contains(|c: char| c.is_control()), "{error}");
    error
}

#[test]
fn a_reference_leads_to_no_file_outside_of_the_references() {
    let (directory, top) = repository(1, &[]);
    let key = directory.path().join("key.hex");
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
fn no_target_of_a_link_in_a_repository_is_shown() {
    for secret in [HEX, &HEX[..40], &HEX[..41], "password of nobody", "ref: password\n", "pass\0password"] {
        for name in ["HEAD", "refs/heads/main", "commondir", "packed-refs", "objects/info/alternates"] {
            let (directory, top) = repository(1, &[]);
            let key = directory.path().join("key.hex");
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
fn a_reference_or_directory_name_over_four_kibibytes_is_refused() {
    for name in ["HEAD", "refs/heads/main", "commondir"] {
        let (_directory, top) = repository(1, &[]);
        let place = top.join(".git").join(name);
        let text = fs::read_to_string(&place).unwrap_or("../.git".to_owned());
        fs::write(&place, format!("{text}{}", " ".repeat(4096))).unwrap();
        let error = refusal(&top);
        assert!(error.contains(name) && error.contains("it is over 4096 bytes"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".git"), format!("gitdir: {}", "a/".repeat(3000))).unwrap();
    assert!(refusal(directory.path()).contains("it is over 4096 bytes"));
}

#[test]
fn a_file_of_the_kernel_in_the_place_of_any_file_of_a_repository_is_not_read() {
    for packed in [false, true] {
        let (_directory, top) = repository(3, &[]);
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
        let alternates = packed.then(|| top.join(".git/objects/info/alternates"));
        for path in used.into_iter().chain(always).chain(alternates).chain([top.join(".git")]) {
            let aside = path.with_extension("aside");
            let was_there = fs::rename(&path, &aside).is_ok();
            // Substitutes for /proc/kmsg and a `trace_pipe`, at which a reader waits.
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

/// Returns a repository whose HEAD is the object `11…`.
fn empty_repository() -> (tempfile::TempDir, PathBuf) {
    let (directory, top) = repository(0, &[]);
    fs::write(top.join(".git/HEAD"), "1".repeat(40)).unwrap();
    (directory, top)
}

/// Writes a pack, with its index, of one object that claims to be a difference from the object of this name.
fn pack(top: &Path, file: &str, object: u8, base: u8) {
    const PLACE: u32 = 12;
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255 {
        index.extend(u32::from(first >= object).to_be_bytes());
    }
    index.extend([object; 20]);
    index.extend([0; 4]);
    index.extend(PLACE.to_be_bytes());
    let mut pack = b"PACK\0\0\0\x02\0\0\0\x01".to_vec();
    pack.push(7 << 4);
    pack.extend([base; 20]);
    let packs = top.join(".git/objects/pack");
    fs::write(packs.join(format!("{file}.idx")), index).unwrap();
    fs::write(packs.join(format!("{file}.pack")), pack).unwrap();
}

#[test]
fn empty_blocks_of_an_object_are_read_up_to_a_limit() {
    let (_directory, top) = empty_repository();
    let object = top.join(".git/objects/11").join("1".repeat(38));
    fs::create_dir(object.parent().unwrap()).unwrap();
    // The head of a zlib stream, and stored blocks of no bytes, of which none is the last one.
    let blocks = [0, 0, 0, 0xff, 0xff].repeat(4 << 20);
    fs::write(object, [&[0x78, 0x01], blocks.as_slice()].concat()).unwrap();
    let error = refusal(&top);
    assert!(error.ends_with("it is stored in too many bytes"), "{error}");
}

#[test]
fn too_many_packs_are_refused() {
    let (_directory, top) = empty_repository();
    pack(&top, "a", 0x22, 0x22);
    let packs = top.join(".git/objects/pack");
    let link = |n: usize, end: &str| fs::hard_link(packs.join("a.idx"), packs.join(format!("{n}.{end}"))).unwrap();
    for n in 1..10_000 {
        link(n, "idx");
    }
    assert!(refusal(&top).contains("is not in the repository"));
    link(0, "idx");
    let error = refusal(&top);
    assert!(error.ends_with("there are more than 10000 packs (`git gc` makes one of them)"), "{error}");
}

#[test]
fn differences_that_lead_from_pack_to_pack_are_followed_up_to_a_limit() {
    let (_directory, top) = empty_repository();
    for (file, object, base) in [("y", 0x11, 0x22), ("z", 0x22, 0x11)] {
        pack(&top, file, object, base);
    }
    let error = refusal(&top);
    assert!(error.ends_with("too many differences are built on one another"), "{error}");
    pack(&top, "a", 0x33, 0x33);
    let packs = top.join(".git/objects/pack");
    for n in 0..500 {
        fs::hard_link(packs.join("a.idx"), packs.join(format!("a{n}.idx"))).unwrap();
    }
    let error = refusal(&top);
    assert!(error.ends_with("it takes too much work"), "{error}");
}

#[test]
fn repositories_that_lend_objects_are_followed_up_to_a_limit() {
    let (directory, top) = empty_repository();
    let list = top.join(".git/objects/info/alternates");
    let lenders = |count: usize| (0..count).map(|n| directory.path().join(n.to_string()));
    lenders(61).for_each(|lender| fs::create_dir(lender).unwrap());
    let write = |lines: &mut dyn Iterator<Item = PathBuf>| {
        fs::write(&list, lines.map(|line| format!("{}\n", line.display())).collect::<String>()).unwrap();
    };
    // A repository that lends to itself, and a missing one, count for nothing.
    write(&mut lenders(60).chain([top.join(".git/objects"), directory.path().join("missing")]));
    assert!(refusal(&top).contains("is not in the repository"));
    write(&mut lenders(61));
    assert!(refusal(&top).ends_with("more than 60 repositories lend it their objects"));
    write(&mut (0..1001).map(|_| top.join(".git/objects")));
    assert!(refusal(&top).ends_with("more than 1000 lines name repositories that lend it their objects"));
    fs::write(&list, "\n".repeat(1 << 20)).unwrap();
    assert!(refusal(&top).contains("objects/info/alternates: it is over 262144 bytes"));
}
