//! The content of host paths, on real filesystems and mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use runner::content::{Changed, Content, ContentError, Contents};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::namespace::in_private_namespace;

/// Returns an image of one file, with the time that a reproducible build gives it.
fn image(directory: &Path, name: &str, text: &str) -> PathBuf {
    let (source, image) = (directory.join(name), directory.join(format!("{name}.squashfs")));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), text).unwrap();
    let options = ["-quiet", "-no-progress", "-all-time", "315532800", "-mkfs-time", "315532800"];
    let done = Command::new("mksquashfs").arg(&source).arg(&image).args(options).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    image
}

/// Unmounts. A process that another test starts has this one's descriptors until its execve(2), so that may take a moment.
fn take_down(path: &Path) {
    for _ in 0..5000 {
        match unmount(path, UnmountFlags::empty()) {
            Err(Errno::BUSY) => thread::sleep(Duration::from_millis(1)),
            result => return result.unwrap(),
        }
    }
    panic!("{} stays busy", path.display());
}

/// Returns the content that a command of its own reports.
fn of(store: &Path, path: &Path) -> Content {
    let contents = Contents::open(store);
    let found = contents.of(path).unwrap();
    contents.close().unwrap();
    found
}

#[test]
fn an_image_mounted_in_place_of_another_with_equal_times_and_inodes_is_another_input() {
    let directory = tempfile::tempdir().unwrap();
    let images = ["one", "two"].map(|text| image(directory.path(), text, text));
    in_private_namespace(|mounts| {
        let store = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        let mut reports = Vec::new();
        for image in &images {
            let image = mounts.image(image);
            mount_bind(&image, &target).unwrap();
            reports.push(of(store.path(), &target));
            take_down(&target);
            // So that the next one gets the same device number.
            take_down(&image);
        }
        assert_ne!(reports[0].digest, reports[1].digest);
    });
}

#[test]
fn an_overlay_of_other_images_is_another_input() {
    let directory = tempfile::tempdir().unwrap();
    let [low, one, two] = ["low", "one", "two"].map(|text| image(directory.path(), text, text));
    in_private_namespace(|mounts| {
        let store = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        let reports = [one, two].map(|top| {
            let chain = mounts.chain(&[low.clone(), top]);
            mount_bind(&chain, &target).unwrap();
            let reports = of(store.path(), &target);
            take_down(&target);
            take_down(&chain);
            reports
        });
        assert_ne!(reports[0].digest, reports[1].digest);
        assert_eq!(reports[0].read, 1);
    });
}

#[test]
fn a_mount_below_a_directory_is_part_of_its_content() {
    in_private_namespace(|_| {
        let (directory, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let below = directory.path().join("below");
        fs::create_dir(&below).unwrap();
        let before = of(store.path(), directory.path());
        mount("tmpfs", &below, "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        fs::write(below.join("file"), "on tmpfs").unwrap();
        let after = of(store.path(), directory.path());
        let changed = Changed::between(&before.listing, &after.listing);
        assert_eq!(
            changed.first.iter().map(|change| change.path.as_path()).collect::<Vec<_>>(),
            [Path::new("below/file")]
        );
        assert_eq!(of(store.path(), directory.path()).read, 0, "tmpfs keeps times that can be relied on");
        fs::write(below.join("file"), "ON TMPFS").unwrap();
        assert_ne!(of(store.path(), directory.path()).digest, after.digest);
        take_down(&below);
        assert_eq!(of(store.path(), directory.path()).digest, before.digest);
    });
}

#[test]
fn a_kernel_filesystem_below_a_directory_is_refused_unless_it_is_ignored() {
    in_private_namespace(|_| {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("below/proc");
        fs::create_dir_all(&below).unwrap();
        mount("proc", &below, "proc", MountFlags::empty(), None).unwrap();
        match Contents::without_cache().of(directory.path()).unwrap_err() {
            ContentError::MadeUp { path, filesystem } => assert_eq!((path, filesystem), (below.clone(), "proc")),
            other => panic!("{other}"),
        }
        fs::write(directory.path().join(".runnerignore"), "proc/\n").unwrap();
        assert_eq!(Contents::without_cache().of(directory.path()).unwrap().files, 1);
        take_down(&below);
    });
}
