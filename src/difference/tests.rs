//! Tests of the comparison, on directories and on images of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::*;

struct TwoTrees(tempfile::TempDir);

impl TwoTrees {
    /// Returns two equal directories.
    fn new() -> Self {
        let two = Self(tempfile::tempdir().unwrap());
        for side in ["a", "b"] {
            let at = |name: &str| two.0.path().join(side).join(name);
            fs::create_dir_all(at("directory/inner")).unwrap();
            for name in ["content", "directory/file", "directory.txt", "mode", "owner", "time", "type", "zz"] {
                fs::write(at(name), "text").unwrap();
            }
            symlink("content", at("link")).unwrap();
            node(&at("device"), FileType::CharacterDevice, (1, 3));
            node(&at("gone"), FileType::CharacterDevice, (0, 0));
            setxattr(at("zz"), "user.a", b"1", XattrFlags::empty()).unwrap();
        }
        two.set_equal_times();
        two
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Sets the times of all files to the same value.
    fn set_equal_times(&self) {
        let all = Command::new("find").arg(self.0.path()).args(["-exec", "touch", "-hd", "@1000", "{}", "+"]).status();
        assert!(all.unwrap().success());
    }

    fn differences(&self) -> Vec<String> {
        words(&between_directories(&self.at("a"), &self.at("b")).unwrap())
    }
}

fn node(path: &Path, kind: FileType, device: (u32, u32)) {
    mknodat(CWD, path, kind, Mode::RUSR, makedev(device.0, device.1)).unwrap();
}

fn words(differences: &[Difference]) -> Vec<String> {
    let how = |how: &DifferenceKind| match how {
        DifferenceKind::Added(kind) => format!("added {kind}"),
        DifferenceKind::Removed(kind) => format!("removed {kind}"),
        DifferenceKind::Changed(aspects) => aspects.iter().map(Aspect::to_string).collect::<Vec<_>>().join("; "),
    };
    differences.iter().map(|differs| format!("{}: {}", differs.path.display(), how(&differs.how))).collect()
}

#[test]
fn equal_directories_do_not_differ() {
    assert_eq!(TwoTrees::new().differences(), [""; 0]);
}

#[test]
fn each_kind_of_difference_is_reported_in_the_order_of_a_walk() {
    let two = TwoTrees::new();
    fs::write(two.at("b/content"), "tent and more").unwrap();
    fs::write(two.at("b/added"), "").unwrap();
    fs::remove_file(two.at("b/directory/file")).unwrap();
    fs::create_dir(two.at("b/directory/new")).unwrap();
    fs::write(two.at("b/directory/new/file"), "").unwrap();
    fs::write(two.at("b/directory.txt"), "teXt").unwrap();
    fs::set_permissions(two.at("b/mode"), fs::Permissions::from_mode(0o4755)).unwrap();
    chown(two.at("b/owner"), Some(70_000), Some(1)).unwrap();
    fs::remove_file(two.at("b/link")).unwrap();
    symlink("time", two.at("b/link")).unwrap();
    fs::remove_file(two.at("b/device")).unwrap();
    node(&two.at("b/device"), FileType::CharacterDevice, (1, 5));
    fs::remove_file(two.at("b/type")).unwrap();
    fs::create_dir(two.at("b/type")).unwrap();
    fs::write(two.at("b/type/in it"), "").unwrap();
    setxattr(two.at("b/zz"), "user.a", b"2", XattrFlags::empty()).unwrap();
    setxattr(two.at("b/zz"), "user.b", b"", XattrFlags::empty()).unwrap();
    fs::hard_link(two.at("b/zz"), two.at("b/zzz")).unwrap();
    two.set_equal_times();
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_001_500);
    fs::File::open(two.at("b/time")).unwrap().set_modified(time).unwrap();
    let expected = [
        "added: added file",
        "content: content: from byte 2 on, 4 → 13 bytes",
        "device: device: 1:3 → 1:5",
        "directory/file: removed file",
        "directory/new: added folder",
        "directory/new/file: added file",
        "directory.txt: content: from byte 2 on",
        "link: target: content → time",
        "mode: mode: 0644 → 4755",
        "owner: owner: 0:0 → 70000:1",
        "time: time: 1970-01-01T00:16:40Z → 1970-01-01T00:16:41.500000000Z",
        "type: type: file → folder",
        "type/in it: added file",
        "zz: hard links: 1 → 2; attributes: user.a, +user.b",
        "zzz: added file",
    ];
    assert_eq!(two.differences(), expected);
}

#[test]
fn marks_of_a_layer_are_reported_by_their_meaning() {
    let two = TwoTrees::new();
    fs::remove_file(two.at("a/gone")).unwrap();
    fs::write(two.at("a/gone"), "").unwrap();
    node(&two.at("b/more"), FileType::CharacterDevice, (0, 0));
    setxattr(two.at("b/directory"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    setxattr(two.at("a/directory/inner"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    two.set_equal_times();
    let expected = [
        "directory: now replaces the folder below",
        "directory/inner: no longer replaces the folder below",
        "gone: type: file → removal of what is below",
        "more: added removal of what is below",
    ];
    assert_eq!(two.differences(), expected);
}

#[test]
fn the_root_is_compared_and_large_files_are_read_to_their_end() {
    let two = TwoTrees::new();
    let mut bytes = vec![7; 1_000_000];
    fs::write(two.at("a/large"), &bytes).unwrap();
    bytes[999_999] = 8;
    fs::write(two.at("b/large"), &bytes).unwrap();
    fs::set_permissions(two.at("b"), fs::Permissions::from_mode(0o700)).unwrap();
    two.set_equal_times();
    assert_eq!(two.differences(), [": mode: 0755 → 0700", "large: content: from byte 999999 on"]);
}

#[test]
fn more_content_than_the_bound_is_refused_with_the_file() {
    let two = TwoTrees::new();
    for side in ["a", "b"] {
        fs::File::create(two.at(side).join("holes")).unwrap().set_len(1 << 20).unwrap();
    }
    let open = |side: &str| fs::File::open(two.at(side)).unwrap();
    let (one, other) = (open("a"), open("b"));
    let compare = |max_bytes| {
        let sides = [(one.as_fd(), Path::new("a")), (other.as_fd(), Path::new("b"))];
        compare::compare(sides, max_bytes, &mut |_, _, _| {})
    };
    assert!(compare(2 << 20).is_ok());
    let error = compare(1 << 20).unwrap_err();
    assert!(matches!(&error, DifferenceError::TooMuch { path } if path == Path::new("a/holes")), "{error}");
}

#[test]
fn a_tree_deeper_than_there_are_descriptors_is_compared() {
    let two = TwoTrees::new();
    let deep = ["d"; 1500].join("/");
    fs::create_dir_all(two.at("a").join(&deep)).unwrap();
    fs::create_dir_all(two.at("b").join(&deep)).unwrap();
    fs::write(two.at("b").join(&deep).join("file"), "").unwrap();
    for side in ["a", "b"] {
        let all = Command::new("find").arg(two.at(side)).args(["-exec", "touch", "-hd", "@1000", "{}", "+"]).status();
        assert!(all.unwrap().success());
    }
    assert_eq!(two.differences(), [format!("{deep}/file: added file")]);
}

#[test]
fn images_are_mounted_where_no_other_process_sees_them() {
    let two = TwoTrees::new();
    fs::write(two.at("b/content"), "other").unwrap();
    setxattr(two.at("b/directory"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    two.set_equal_times();
    let images = ["a", "b"].map(|side| two.at(&format!("{side}.squashfs")));
    for (side, image) in ["a", "b"].iter().zip(&images) {
        let made = Command::new("mksquashfs").arg(two.at(side)).arg(image).args(["-quiet", "-no-progress"]).status();
        assert!(made.unwrap().success());
    }
    let before = mounts();
    let differences = words(&between_images(&images[0], &images[1]).unwrap());
    assert_eq!(
        differences,
        ["content: content: from byte 0 on, 4 → 5 bytes", "directory: now replaces the folder below"]
    );
    assert_eq!(words(&between_images(&images[1], &images[1]).unwrap()), [""; 0]);
    assert_eq!(mounts(), before);
    for none in ["a/content", "a", "nothing"] {
        let error = between_images(&two.at(none), &images[0]).unwrap_err();
        assert_eq!(matches!(error, DifferenceError::NotAnImage { .. }), none == "a/content", "{error}");
    }
    // The beginning of an image is not an image.
    fs::File::options().write(true).open(&images[0]).unwrap().set_len(200).unwrap();
    let error = between_images(&images[0], &images[1]).unwrap_err();
    assert!(matches!(error, DifferenceError::Mount { .. }), "{error}");
}

/// Returns the mounts of loop devices that this process sees.
fn mounts() -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains("squashfs")).map(str::to_owned).collect()
}
