//! Random trees: the image as the kernel and unsquashfs(1) read it is the tree, and is what mksquashfs(1) makes of it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lsetxattr, mknodat, utimensat,
};

use super::super::BLOCK_SIZE;
use super::{ALL, folder, found, image, mounted, options, run, unpacked};

/// An entry to be made.
#[derive(Debug, Clone)]
struct Item {
    parent: Index,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    time: i64,
    attributes: Vec<(u8, String, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Directory,
    /// Of parts, each a byte and how often, and nothing for a hole.
    File(Vec<(Option<u8>, usize)>),
    /// The content of an earlier file.
    Copy(Index),
    HardLink(Index),
    Symlink(Vec<u8>),
    Node(FileType, u32, u32),
}

/// 1901 and 2200.
const TIMES: std::ops::Range<i64> = -2_177_452_800..7_258_118_400;

fn text(lengths: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(b'a'), Just(b'.'), b'A'..=b'z', 1..=255_u8], lengths)
        .prop_map(|bytes| bytes.into_iter().map(|byte| if byte == b'/' { b'|' } else { byte }).collect())
}

fn content() -> impl Strategy<Value = Vec<(Option<u8>, usize)>> {
    let length = prop_oneof![
        4 => 0..300_usize,
        1 => Just(BLOCK_SIZE),
        1 => BLOCK_SIZE - 1..BLOCK_SIZE + 2,
        1 => 0..4 * BLOCK_SIZE,
    ];
    let byte = prop_oneof![Just(None), Just(Some(0)), any::<u8>().prop_map(Some)];
    prop::collection::vec((byte, length), 0..4)
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Directory),
        5 => content().prop_map(Kind::File),
        1 => any::<Index>().prop_map(Kind::Copy),
        2 => any::<Index>().prop_map(Kind::HardLink),
        1 => text(1..=80).prop_map(Kind::Symlink),
        1 => (0..4095_u32, 0..1_048_575_u32, any::<bool>()).prop_map(|(major, minor, is_block)| {
            let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
            Kind::Node(kind, major, minor)
        }),
        1 => Just(Kind::Node(FileType::CharacterDevice, 0, 0)),
        1 => Just(Kind::Node(FileType::Fifo, 0, 0)),
        1 => Just(Kind::Node(FileType::Socket, 0, 0)),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<(u8, String, Vec<u8>)>> {
    let value = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..20),
        1 => Just(vec![7; 100]),
        1 => (0..9000_usize).prop_map(|length| vec![9; length]),
    ];
    prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec((0..3_u8, "[a-c]{1,3}", value), 1..4),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let id = || prop_oneof![Just(0), 0..5_u32, 0..u32::MAX];
    let time = prop_oneof![TIMES, Just(0), Just(-1), Just(i64::from(u32::MAX)), Just(i64::from(u32::MAX) + 1)];
    let name = prop_oneof![5 => text(1..=12), 1 => text(200..=255)];
    let meta = (0..0o10000_u32, (id(), id()), time, attributes());
    (any::<Index>(), name, kind(), meta).prop_map(|(parent, name, kind, (mode, owner, time, attributes))| Item {
        parent,
        name,
        kind,
        mode,
        owner,
        time,
        attributes,
    })
}

/// Makes the tree in an empty directory.
fn make(root: &Path, items: &[Item]) {
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made = BTreeMap::new();
    for item in items {
        let path = item.parent.get(&directories).join(OsStr::from_bytes(&item.name));
        let is_dots = item.name == b"." || item.name == b"..";
        // A path for unsquashfs and mksquashfs, which know no descriptors.
        if is_dots || path.as_os_str().len() > 2000 || path.symlink_metadata().is_ok() {
            continue;
        }
        match &item.kind {
            Kind::Directory => {
                fs::create_dir(&path).unwrap();
                directories.push(path.clone());
            }
            Kind::File(parts) => fill(&path, parts),
            Kind::Copy(_) | Kind::HardLink(_) if files.is_empty() => continue,
            Kind::Copy(other) => drop(fs::copy(other.get(&files), &path)),
            Kind::HardLink(other) => fs::hard_link(other.get(&files), &path).unwrap(),
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Kind::Node(kind, major, minor) => {
                mknodat(CWD, &path, *kind, Mode::RUSR, rustix::fs::makedev(*major, *minor)).unwrap();
            }
        }
        if path.symlink_metadata().unwrap().is_file() {
            files.push(path.clone());
        }
        if !matches!(item.kind, Kind::HardLink(_)) {
            made.insert(path, item);
        }
    }
    // The content of a directory first: a file made later would change the directory's time.
    for (path, item) in made.iter().rev() {
        dress(path, item);
    }
}

fn fill(path: &Path, parts: &[(Option<u8>, usize)]) {
    let file = File::create(path).unwrap();
    let mut at = 0;
    for (n, (byte, length)) in parts.iter().enumerate() {
        if let Some(byte) = byte {
            let bytes: Vec<u8> =
                (0..*length).map(|at| if at % 97 == 96 { (at / 97 + n) as u8 } else { *byte }).collect();
            let bytes = if *byte == 0 { vec![0; *length] } else { bytes };
            file.write_all_at(&bytes, at).unwrap();
        }
        at += *length as u64;
    }
    file.set_len(at).unwrap();
}

fn dress(path: &Path, item: &Item) {
    let (user, group) = (Uid::from_raw(item.owner.0), Gid::from_raw(item.owner.1));
    chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let metadata = path.symlink_metadata().unwrap();
    if !metadata.is_symlink() {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(item.mode)).unwrap();
    }
    for (prefix, name, value) in &item.attributes {
        // Only files and directories have those of users, see xattr(7).
        let has_users = metadata.is_file() || metadata.is_dir();
        let prefix = match prefix {
            0 if has_users => "user",
            1 => "trusted",
            _ => "security",
        };
        lsetxattr(path, format!("{prefix}.{name}"), value, XattrFlags::empty()).unwrap();
    }
    let time = Timespec { tv_sec: item.time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

proptest! {
    // `PROPTEST_CASES=2000 cargo test` tries more.
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
    ))]

    #[test]
    fn an_image_of_any_tree_is_read_as_that_tree(
        items in prop::collection::vec(item(), 0..60), compression in prop::sample::select(&ALL[..]),
    ) {
        let folder = folder();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        make(&root, &items);
        let tree = found::clamped(found::tree(&root));
        let ours = image(&root, "ours", options(compression));
        let by_kernel = found::tree(&mounted(&ours).path);
        found::assert_same(&tree, &by_kernel, "the kernel reads");
        found::assert_same(&tree, &found::tree(&unpacked(&ours)), "unsquashfs reads");
        let theirs = folder.path().join("theirs");
        let paths = [root.to_str().unwrap(), theirs.to_str().unwrap()];
        run("mksquashfs", &[&paths[..], &["-noappend", "-quiet", "-no-progress", "-xattrs", "-comp", "lz4"]].concat());
        let mut theirs = found::tree(&mounted(&theirs).path);
        // mksquashfs wraps times around.
        for (path, entry) in &mut theirs {
            entry.time = tree.get(path).map_or(entry.time, |ours| ours.time);
        }
        found::assert_same(&theirs, &by_kernel, "mksquashfs makes the same");
    }
}
