//! A tree is the same wherever a build can find it: in the session that made it, one resumed from its checkpoint, the frozen
//! directory, the layer, a full image, and a build that takes nothing from the store.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr, mkdirat, mknodat,
    utimensat,
};

use crate::built::{Built, compile, project};
use crate::numbers::Numbers;
use crate::project::Project;

const LIST: &str = include_str!("list_tree.c");

const MANIFEST: &str = r#"
source_date_epoch: EPOCH
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
containers:
  made:
    rootfs: { programs: [/bin/sh, /bin/cp, /bin/cat, /bin/sleep, /bin/mkdir] }
    mounts: [src]
    checkpoint: 200ms
    scratch: SCRATCH
    capabilities: { add: [SYS_ADMIN] }
  layered: { rootfs: { snapshot: layer }, mounts: [src], capabilities: { add: [SYS_ADMIN] } }
  whole: { rootfs: { snapshot: full }, mounts: [src], capabilities: { add: [SYS_ADMIN] } }
steps:
  - { name: copy, container: made, run: cp -a /src/trees /; sleep 0.3 }
  - { name: before, container: made, run: /src/list /trees; cat /src/good }
  - { name: layer, container: made, snapshot: {} }
  - { name: frozen, container: made, exec: [/src/list, /trees] }
  - { name: listed, container: layered, exec: [/src/list, /trees] }
  - { name: full, container: layered, snapshot: { mode: full } }
  - { name: image, container: whole, exec: [/src/list, /trees] }
"#;

/// The number of trees of a build; `RUNNER_TEST_TREES` sets how many are tried in all.
const TREES_OF_A_BUILD: u64 = 50;

fn one_in(numbers: &mut Numbers, count: u64) -> bool {
    numbers.below(count) == 0
}

fn bytes(numbers: &mut Numbers, most: u64) -> Vec<u8> {
    (0..numbers.below(most)).map(|_| numbers.next().to_le_bytes()[0]).collect()
}

/// Makes a tree in `top`, which does not exist yet.
fn make(top: &Path, numbers: &mut Numbers) {
    fs::create_dir(top).unwrap();
    let (mut directories, mut others) = (vec![top.to_owned()], Vec::<PathBuf>::new());
    let mut all = directories.clone();
    for index in 0..numbers.below(12) {
        let place = numbers.below(directories.len() as u64);
        let above = directories[usize::try_from(place).unwrap()].clone();
        let odd: [&[u8]; 5] = [b"plain", b"with space", b"line\nbreak", b"\xff\xfe", "größe".as_bytes()];
        let name = [numbers.of(&odd), index.to_string().as_bytes()].concat();
        let path = above.join(OsStr::from_bytes(&name));
        match numbers.below(9) {
            0..3 => file(&path, numbers),
            3 | 4 => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            5 => symlink(numbers.of(&["nowhere", "../up", "/etc/passwd", "."]), &path).unwrap(),
            6 if !others.is_empty() => {
                let first = numbers.below(others.len() as u64);
                fs::hard_link(&others[usize::try_from(first).unwrap()], &path).unwrap();
                // The first name of an entry says what it is and has.
                continue;
            }
            _ => {
                // Zero and zero would be overlayfs' mark of a removed name.
                let kinds = [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice];
                let device = rustix::fs::makedev(1 + numbers.next() as u32 % 200, numbers.next() as u32 % 70_000);
                mknodat(CWD, &path, numbers.of(&kinds), Mode::empty(), device).unwrap();
            }
        }
        if !path.is_dir() || path.is_symlink() {
            others.push(path.clone());
        }
        all.push(path);
    }
    // The deepest first, so that no later change alters a directory's time.
    for path in all.iter().rev() {
        attributes(path, numbers);
    }
}

fn file(path: &Path, numbers: &mut Numbers) {
    let file = File::create(path).unwrap();
    match numbers.below(6) {
        0 => {}
        1 => {
            file.set_len(3 << 20).unwrap();
            file.write_all_at(b"after a hole", numbers.below(20) << 17).unwrap();
        }
        2 => {
            let around = (128 << 10) + numbers.below(3) - 1;
            file.write_all_at(&vec![b'x'; usize::try_from(around).unwrap()], 0).unwrap();
        }
        _ => file.write_all_at(&bytes(numbers, 5000), 0).unwrap(),
    }
}

fn attributes(path: &Path, numbers: &mut Numbers) {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    let owners = [0, 0, 1, 1000, 65534, 4_294_967_294];
    let (uid, gid) = (numbers.of(&owners), numbers.of(&owners));
    chownat(CWD, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !kind.is_symlink() {
        let mode = Mode::from_raw_mode(numbers.next() as u32 & 0o7777);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).unwrap();
    }
    let set = |name: &str, value: &[u8]| {
        lsetxattr(path, CString::new(name).unwrap(), value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
    };
    if kind.is_file() || kind.is_dir() {
        if one_in(numbers, 3) {
            set("user.a", &bytes(numbers, 300));
        }
        if one_in(numbers, 4) {
            set("user.b", b"of several");
        }
        if one_in(numbers, 5) {
            set("system.posix_acl_access", &list(numbers));
        }
    }
    if kind.is_dir() && one_in(numbers, 4) {
        set("system.posix_acl_default", &list(numbers));
    }
    if kind.is_file() && one_in(numbers, 4) {
        // Version 2 of capabilities(7): CAP_NET_RAW, permitted and effective.
        set("security.capability", &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    if one_in(numbers, 4) {
        set("trusted.t", &bytes(numbers, 40));
    }
    // From 1901 to 2200.
    let seconds = i64::try_from(numbers.below(9_435_571_200)).unwrap() - 2_177_452_800;
    let time = Timespec { tv_sec: seconds, tv_nsec: (numbers.below(1_000_000_000)).cast_signed() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Returns an access control list as the kernel takes it, see acl(5): of one user, the owner, the group and others.
fn list(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, of) in [(1u16, u32::MAX), (2, 1000), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend((numbers.below(8) as u16).to_le_bytes());
        bytes.extend(of.to_le_bytes());
    }
    bytes
}

/// Returns each line as a snapshot must have it: a time in whole seconds that an image can store, and no access control lists.
/// The mode of an entry with one then gives the group no more than the list did: it showed the list's mask there.
fn as_in_a_snapshot(lines: &[String], epoch: Option<i64>) -> Vec<String> {
    let latest = epoch.unwrap_or(i64::from(u32::MAX));
    let line = |line: &String| -> String {
        let group = line.split(' ').find_map(|part| part.strip_prefix("system.posix_acl_access=")).map(group_of);
        let part = |part: &str| match part.split_once('=') {
            Some(("time", time)) => {
                let seconds: i64 = time.split_once('.').unwrap().0.parse().unwrap();
                Some(format!("time={}.000000000", seconds.clamp(0, latest)))
            }
            Some(("mode", mode)) => {
                let mode = u32::from_str_radix(mode, 8).unwrap();
                Some(format!("mode={:o}", group.map_or(mode, |group| mode & !0o070 | group << 3)))
            }
            _ => (!part.starts_with("system.posix_acl_")).then(|| part.to_owned()),
        };
        line.split(' ').filter_map(part).collect::<Vec<_>>().join(" ")
    };
    lines.iter().map(line).collect()
}

/// Returns the permissions of the owning group by an access control list in hexadecimal: its entry, within the mask.
fn group_of(list: &str) -> u32 {
    let number = |at: usize| u32::from_str_radix(&list[2 * at..2 * at + 2], 16).unwrap();
    let of_tag =
        |tag: u32| (4..list.len() / 2).step_by(8).find(|at| number(*at) == tag).map(|at| number(at + 2)).unwrap();
    of_tag(4) & of_tag(0x10)
}

#[track_caller]
fn assert_same(project: &Project, what: &str, found: &[String], expected: &[String]) {
    let unlike = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{what}, in {}: {} lines and {}; first\n{unlike:#?}",
        project.path("src").display(),
        found.len(),
        expected.len()
    );
}

fn try_trees(seeds: std::ops::Range<u64>, epoch: Option<i64>, scratch: &str) {
    let text = epoch.map_or("none".to_owned(), |epoch| epoch.to_string());
    let project = project(&MANIFEST.replace("EPOCH", &text).replace("SCRATCH", scratch));
    fs::create_dir_all(project.path("src/trees")).unwrap();
    compile(&project, "src/list", LIST, &["-O1", "-static"]);
    for seed in seeds {
        make(&project.path(&format!("src/trees/{seed}")), &mut Numbers(seed));
    }
    mkdirat(CWD, project.path("src/trees/last"), Mode::empty()).unwrap();

    let failed = Built::of(&project, &[]);
    assert_eq!((failed.status("copy"), failed.status("before")), ("ran", "failed"), "{}", failed.run);
    let mut made = failed.lines("before");
    let error = made.pop().unwrap();
    assert!(error.contains("/src/good"), "{error}");
    project.write("src/good", "");
    let resumed = Built::succeed(&project);
    assert_eq!((resumed.status("copy"), resumed.status("before")), ("cached", "ran"), "{}", resumed.run);
    assert_same(&project, "the resumed session", &resumed.lines("before"), &made);
    let again = Built::of(&project, &["--no-cache"]);
    assert_eq!((again.run.code, again.status("copy")), (0, "ran"), "{}", again.run);
    assert_same(&project, "the second build's session", &again.lines("before"), &made);
    let expected = as_in_a_snapshot(&made, epoch);
    for (built, of) in [(&resumed, "the resumed build"), (&again, "the second build")] {
        for (step, what) in [("frozen", "the frozen directory"), ("listed", "the layer"), ("image", "the full image")] {
            assert_same(&project, &format!("{what} of {of}"), &built.lines(step), &expected);
        }
    }
    let digests = |built: &Built| -> Vec<String> {
        built.all("snapshot_written").iter().map(|event| event["digest"].to_string()).collect()
    };
    // Without an epoch the root directory has the time of the build.
    assert!(epoch.is_none() || digests(&resumed) == digests(&again), "{}\n{}", resumed.run, again.run);
}

#[test]
fn a_tree_is_the_same_in_session_checkpoint_frozen_directory_layer_and_full_image() {
    let count = std::env::var("RUNNER_TEST_TREES").map_or(TREES_OF_A_BUILD, |count| count.parse().unwrap());
    let kinds = [(Some(315_532_800), "{ tmpfs: 1GiB }"), (None, "{ disk: true }"), (None, "{ tmpfs: 1GiB }")];
    for (index, first) in (0..count).step_by(usize::try_from(TREES_OF_A_BUILD).unwrap()).enumerate() {
        let (epoch, scratch) = kinds[index % kinds.len()];
        try_trees(first..(first + TREES_OF_A_BUILD).min(count), epoch, scratch);
    }
}

also_with_runc! {
    a_tree_is_the_same_in_session_checkpoint_frozen_directory_layer_and_full_image,
}
