//! Tests of copies between two roots.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::*;

struct Roots {
    from: tempfile::TempDir,
    to: tempfile::TempDir,
}

fn rules() -> Rules<'static> {
    Rules { owner: None, mode: None, has_attribute: |_| true, is_wanted: &|_| true, check: &|| Ok(()) }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

impl Roots {
    fn new() -> Self {
        Self { from: tempfile::tempdir().unwrap(), to: tempfile::tempdir().unwrap() }
    }

    fn source(&self, path: &str) -> PathBuf {
        self.from.path().join(path.trim_start_matches('/'))
    }

    fn target(&self, path: &str) -> PathBuf {
        self.to.path().join(path.trim_start_matches('/'))
    }

    fn copy_by(&self, rules: Rules<'_>, source: &str, place: &str, mounts: &[&str]) -> Result<Copied, CopyError> {
        let (from, to) = (open(self.from.path()), open(self.to.path()));
        let mounts: Vec<PathBuf> = mounts.iter().map(PathBuf::from).collect();
        let target = Target { root: to.as_fd(), mount_points: &mounts, kernels_own: &["/proc"] };
        let mut copier = Copier::new(target, rules);
        copier.copy(&Source::in_root(from.as_fd(), Path::new(source), "sdk")?, Path::new(place))?;
        copier.finish()
    }

    fn copy(&self, source: &str, place: &str) -> Result<Copied, CopyError> {
        self.copy_by(rules(), source, place, &[])
    }
}

#[test]
fn a_directory_comes_with_owners_modes_times_links_holes_nodes_and_attributes() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("sdk/bin")).unwrap();
    let file = roots.source("sdk/bin/tool");
    fs::write(&file, "tool").unwrap();
    chownat(CWD, &file, Some(Uid::from_raw(7)), Some(Gid::from_raw(8)), AtFlags::empty()).unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(&file, "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6751)).unwrap();
    fs::hard_link(&file, roots.source("sdk/other")).unwrap();
    symlink("/etc/passwd", roots.source("sdk/link")).unwrap();
    File::create(roots.source("sdk/hole")).unwrap().set_len(1 << 30).unwrap();
    mknodat(CWD, roots.source("sdk/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::set_permissions(roots.source("sdk/bin"), fs::Permissions::from_mode(0o1700)).unwrap();
    for path in ["sdk/bin/tool", "sdk/bin"] {
        let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(86400));
        File::open(roots.source(path)).unwrap().set_times(time).unwrap();
    }
    let copied = roots.copy("/sdk", "/opt/sdk").unwrap();
    assert_eq!(copied.files, 5);
    let tool = fs::metadata(roots.target("opt/sdk/bin/tool")).unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o7777, tool.mtime()), (7, 8, 0o6751, 86400));
    assert_eq!(tool.ino(), fs::metadata(roots.target("opt/sdk/other")).unwrap().ino());
    let found =
        XattrFile::opened(open(&roots.target("opt/sdk/bin/tool")).as_fd()).value("security.capability").unwrap();
    assert_eq!(found.as_deref(), Some(&capability[..]));
    assert_eq!(fs::read_link(roots.target("opt/sdk/link")).unwrap(), Path::new("/etc/passwd"));
    let hole = fs::metadata(roots.target("opt/sdk/hole")).unwrap();
    assert!((hole.len(), hole.blocks() < 64) == (1 << 30, true), "{hole:?}");
    let bin = fs::metadata(roots.target("opt/sdk/bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime()), (0o1700, 86400));
    assert_eq!(fs::metadata(roots.target("opt")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_directory_is_merged_and_files_are_replaced_without_being_written_to() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("a/d")).unwrap();
    fs::write(roots.source("a/f"), "new").unwrap();
    fs::write(roots.source("a/d/x"), "x").unwrap();
    fs::create_dir_all(roots.target("t/d")).unwrap();
    fs::set_permissions(roots.target("t/d"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(roots.target("kept"), "old").unwrap();
    fs::hard_link(roots.target("kept"), roots.target("t/f")).unwrap();
    fs::write(roots.target("t/d/y"), "y").unwrap();
    roots.copy("/a", "/t").unwrap();
    let read = |path| fs::read_to_string(roots.target(path)).unwrap();
    assert_eq!(
        (read("t/f"), read("kept"), read("t/d/x"), read("t/d/y")),
        ("new".into(), "old".into(), "x".into(), "y".into())
    );
    assert_eq!(
        fs::metadata(roots.target("t/d")).unwrap().mode() & 0o7777,
        0o700,
        "an existing directory stays as it is"
    );
}

#[test]
fn links_on_the_way_are_followed_inside_each_root_alone() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("usr/lib")).unwrap();
    fs::write(roots.source("usr/lib/so.1"), "so").unwrap();
    symlink("so.1", roots.source("usr/lib/so")).unwrap();
    symlink("../../../../usr/lib", roots.source("lib")).unwrap();
    fs::create_dir_all(roots.target("usr/lib")).unwrap();
    symlink("/usr/lib", roots.target("lib")).unwrap();
    roots.copy("/lib/so", "/lib/so").unwrap();
    assert_eq!(fs::read_to_string(roots.target("usr/lib/so")).unwrap(), "so");
    symlink("/../../../../tmp/of-the-host", roots.target("out")).unwrap();
    roots.copy("/usr", "/out/deep").unwrap();
    assert!(roots.target("tmp/of-the-host/deep/lib/so").symlink_metadata().is_ok());
    assert!(!Path::new("/tmp/of-the-host").exists());
    symlink("/nowhere", roots.source("etc")).unwrap();
    assert!(matches!(roots.copy("/etc/passwd", "/p"), Err(CopyError::NoSource { .. })));
}

#[test]
fn a_link_in_the_target_is_replaced_by_a_file_and_refused_for_a_directory() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("a/lib")).unwrap();
    fs::write(roots.source("a/f"), "new").unwrap();
    fs::create_dir_all(roots.target("usr/lib")).unwrap();
    fs::write(roots.target("passwd"), "old").unwrap();
    symlink("passwd", roots.target("f")).unwrap();
    roots.copy("/a/f", "/f").unwrap();
    assert!(roots.target("f").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(roots.target("passwd")).unwrap(), "old");
    symlink("usr/lib", roots.target("lib")).unwrap();
    let error = roots.copy("/a", "/").unwrap_err();
    assert!(matches!(&error, CopyError::Link { path, .. } if path == Path::new("/lib")), "{error}");
}

#[test]
fn a_file_in_the_place_of_a_directory_and_the_reverse_are_refused_with_the_path() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("a/x")).unwrap();
    fs::write(roots.source("f"), "").unwrap();
    fs::create_dir(roots.target("d")).unwrap();
    fs::create_dir(roots.target("t")).unwrap();
    fs::write(roots.target("t/x"), "").unwrap();
    for (source, place, words) in [
        ("/f", "/d", "/d is a directory, and the copy has a file there"),
        ("/a", "/t", "/t/x is not a directory, and the copy needs one there"),
        ("/a", "/t/x", "/t/x is not a directory, and the copy needs one there"),
        ("/f", "/t/x/y", "/t/x is not a directory, and the copy needs one there"),
        ("/no/such/file", "/x", "there is no /no/such/file in the root at sdk: / is the last part of it that exists"),
        ("/a/x/y", "/x", "there is no /a/x/y in the root at sdk: /a/x is the last part of it that exists"),
        ("/f/y", "/x", "there is no /f/y in the root at sdk: /f is not a directory"),
    ] {
        assert_eq!(roots.copy(source, place).unwrap_err().to_string(), words, "{source} {place}");
    }
}

#[test]
fn mount_points_get_no_file_and_the_kernels_own_are_left_out() {
    let roots = Roots::new();
    for directory in ["proc/1", "src", "tmp"] {
        fs::create_dir_all(roots.source(directory)).unwrap();
        fs::create_dir_all(roots.target(directory.split('/').next().unwrap())).unwrap();
    }
    let mounts = ["/proc", "/src", "/tmp"];
    roots.copy_by(rules(), "/", "/", &mounts).unwrap();
    assert!(!roots.target("proc/1").exists());
    fs::write(roots.source("src/f"), "").unwrap();
    for (source, place) in [("/", "/"), ("/src/f", "/src/f"), ("/src", "/tmp/deep")] {
        let error = roots.copy_by(rules(), source, place, &mounts).unwrap_err();
        assert!(matches!(error, CopyError::InMount { .. }), "{error}");
    }
}

#[test]
fn an_owner_and_a_mode_are_given_to_all_copies_and_directories_can_be_searched() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("a/d")).unwrap();
    fs::write(roots.source("a/d/f"), "").unwrap();
    symlink("f", roots.source("a/d/l")).unwrap();
    roots.copy_by(Rules { owner: Some((5, 6)), mode: Some(0o640), ..rules() }, "/a", "/new/a", &[]).unwrap();
    for (path, mode) in
        [("new", 0o755), ("new/a", 0o750), ("new/a/d", 0o750), ("new/a/d/f", 0o640), ("new/a/d/l", 0o777)]
    {
        let found = roots.target(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (5, 6, mode), "{path}");
    }
}

#[test]
fn unwanted_files_are_left_out_and_a_check_ends_the_copy() {
    let roots = Roots::new();
    fs::create_dir_all(roots.source("a/d")).unwrap();
    fs::write(roots.source("a/d/f"), "").unwrap();
    fs::write(roots.source("a/g"), "").unwrap();
    roots.copy_by(Rules { is_wanted: &|path| path != Path::new("d"), ..rules() }, "/a", "/t", &[]).unwrap();
    assert!(roots.target("t/g").exists() && !roots.target("t/d").exists());
    let stop = || Err(io::Error::other("stop"));
    let error = roots.copy_by(Rules { check: &stop, ..rules() }, "/a", "/u", &[]).unwrap_err();
    assert!(matches!(error, CopyError::Stopped(_)) && !roots.target("u/g").exists(), "{error}");
}

#[test]
fn a_tree_deeper_than_a_path_can_be_long_is_copied() {
    let roots = Roots::new();
    let name = "n".repeat(250);
    let mut at = open(self::Path::new(roots.from.path()));
    for _ in 0..40 {
        mkdirat(&at, &*name, Mode::RWXU).unwrap();
        at = openat(&at, &*name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&at, "leaf", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR).unwrap();
    assert_eq!(roots.copy("/", "/copy").unwrap().files, 1);
}
