//! The mounts of a session and of a snapshot, tried once with almost no content.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};

use super::Check;
use super::trusted::distrust;
use crate::error::error_chain;
use crate::fs::xattr::XattrFile;
use crate::model::Compression;
use crate::mount::{
    FileNumbers, Mounted, enter_private_namespace, knows_erofs, mount_overlay, mount_squashfs, mount_tmpfs,
};
use crate::snapshot::{ImageOptions, find_mksquashfs, uses_mksquashfs, write_image};

/// The directory of all mounts: one that every Linux has, hidden in this thread's namespace only.
const WORK_DIR: &str = "/tmp";

const COMPRESSIONS: [(Compression, &str); 5] = [
    (Compression::Zstd, "zstd"),
    (Compression::Gzip, "gzip"),
    (Compression::Xz, "xz"),
    (Compression::Lz4, "lz4"),
    (Compression::None, "none"),
];

const IN_A_CONTAINER: &str = "in Docker: docker run --privileged";

/// Tries the mounts on a thread of its own, whose mount namespace ends with it, however it ends.
pub(super) fn checks() -> Vec<Check> {
    let failed = |detail: String| vec![Check::missing("mounts", detail, IN_A_CONTAINER)];
    match thread::Builder::new().name("doctor".into()).spawn(in_private) {
        Ok(trial) => trial.join().unwrap_or_else(|_| failed("the trial of them panicked".into())),
        Err(error) => failed(format!("cannot start a thread to try them on: {error}")),
    }
}

fn in_private() -> Vec<Check> {
    if let Err(error) = enter_private_namespace() {
        return vec![Check::missing("mounts", format!("no mount namespace of its own: {error}"), IN_A_CONTAINER)];
    }
    let directory = Path::new(WORK_DIR);
    let _tmpfs = match mount_tmpfs(directory, &["mode=0700".to_owned()]) {
        Ok(tmpfs) => tmpfs,
        Err(error) => return vec![Check::missing("mounts", format!("no tmpfs: {error}"), IN_A_CONTAINER)],
    };
    if let Err(error) = fill(directory) {
        return vec![Check::missing("mounts", format!("cannot write to a tmpfs: {error}"), "free some memory")];
    }
    let (images, lower) = squashfs(directory);
    let overlay = overlay(lower.as_ref().map_or(&directory.join("source"), Mounted::path), directory);
    vec![loop_devices(), images, erofs(), overlay, attributes(directory)]
}

fn fill(directory: &Path) -> io::Result<()> {
    for name in ["source", "mounted", "upper", "work", "merged"] {
        fs::create_dir(directory.join(name))?;
    }
    for name in ["source/kept", "source/removed"] {
        fs::write(directory.join(name), name)?;
    }
    Ok(())
}

fn loop_devices() -> Check {
    match fs::File::options().read(true).write(true).open("/dev/loop-control") {
        Ok(_) => Check::ok("loop devices", "/dev/loop-control opens"),
        Err(error) => {
            let fix = format!("modprobe loop; {IN_A_CONTAINER}");
            Check::missing("loop devices", format!("cannot open /dev/loop-control: {error}"), fix)
        }
    }
}

/// Writes and mounts an image in each compression; returns one of the mounts.
fn squashfs(directory: &Path) -> (Check, Option<Mounted>) {
    let (mut good, mut bad, mut default_is_good) = (Vec::new(), Vec::new(), false);
    let mut mounted = None;
    if let Some(check) = refused() {
        return (check, None);
    }
    for (compression, name) in COMPRESSIONS {
        match squashfs_once(directory, compression, name) {
            Ok(mount) => {
                good.push(name);
                default_is_good |= compression == Compression::Zstd;
                mounted = Some(mount);
            }
            Err(error) => bad.push(format!("{name} ({error})")),
        }
    }
    let name = "squashfs";
    let detail = format!("written and mounted: {}", if good.is_empty() { "none".into() } else { good.join(", ") });
    let check = if bad.is_empty() {
        Check::ok(name, detail)
    } else {
        let detail = format!("{detail}; failed: {}", bad.join(", "));
        let fix = "modprobe squashfs; a kernel with CONFIG_SQUASHFS_ZSTD and its like";
        if default_is_good { Check::warning(name, detail, fix) } else { Check::missing(name, detail, fix) }
    };
    (check, mounted)
}

/// Asks the kernel for EROFS, which loads its module. No image is mounted: mkfs.erofs(1) may be missing.
fn erofs() -> Check {
    let name = "erofs";
    let needed = "only containers and mounts with an EROFS image need it";
    match knows_erofs() {
        Ok(true) => Check::ok(name, "the kernel mounts it"),
        Ok(false) => {
            let fix = "modprobe erofs; a kernel with CONFIG_EROFS_FS";
            Check::warning(name, format!("the kernel does not mount it; {needed}"), fix)
        }
        Err(error) => Check::warning(name, format!("cannot ask the kernel: {error}; {needed}"), IN_A_CONTAINER),
    }
}

/// Returns the check for an mksquashfs(1) that is not run: one that a user other than root and the caller can have written.
fn refused() -> Option<Check> {
    if !uses_mksquashfs() {
        return None;
    }
    let name = "squashfs";
    let Some(program) = find_mksquashfs() else {
        let detail = "not tried: mksquashfs is not in PATH";
        return Some(Check::missing(name, detail, "unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools"));
    };
    let fix = "unset RUNNER_MKSQUASHFS, or take that directory out of PATH: a build runs that program as root";
    distrust(&program).map(|reason| Check::warning(name, format!("not tried: {reason}"), fix))
}

fn squashfs_once(directory: &Path, compression: Compression, name: &str) -> Result<Mounted, String> {
    let image = directory.join(name);
    let options = ImageOptions { compression, level: None, source_date_epoch: Some(0) };
    // Nothing is ever written to the pipe: the trial is too short to be interrupted.
    let (never, _writer) = io::pipe().map_err(|error| error.to_string())?;
    let written = write_image(&directory.join("source"), &image, options, never.as_fd(), &mut |_| {});
    written.map_err(|error| error_chain(&error))?;
    let mount = fs::File::open(&image).and_then(|image| mount_squashfs(&image, &directory.join("mounted")));
    let mount = mount.map_err(|error| format!("mount: {error}"))?;
    let read = fs::read_to_string(mount.path().join("kept")).map_err(|error| format!("read: {error}"))?;
    if read == "source/kept" {
        Ok(mount)
    } else {
        Err("the content that was read is not the content that was written".into())
    }
}

/// Stacks an overlay, writes to it and removes a file of its lower layer.
fn overlay(lower: &Path, directory: &Path) -> Check {
    let name = "overlayfs";
    let (upper, work, merged) = (directory.join("upper"), directory.join("work"), directory.join("merged"));
    let change = || -> io::Result<bool> {
        fs::write(merged.join("new"), "")?;
        fs::remove_file(merged.join("removed"))?;
        // An overlay marks a removed file so, see the kernel's Documentation/filesystems/overlayfs.
        Ok(fs::symlink_metadata(upper.join("removed"))?.file_type().is_char_device())
    };
    let fix = format!("modprobe overlay; {IN_A_CONTAINER}");
    let mounted = mount_overlay(&[lower], Some((&upper, &work)), &merged, FileNumbers::Stable);
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(error) => return Check::missing(name, error_chain(&error), fix),
    };
    match change() {
        Ok(true) => {
            Check::ok(name, format!("writable on {}", if lower.ends_with("source") { "tmpfs" } else { "squashfs" }))
        }
        Ok(false) => Check::missing(name, format!("{} does not mark removed files", mounted.path().display()), fix),
        Err(error) => Check::missing(name, format!("cannot be written to: {error}"), fix),
    }
}

fn attributes(directory: &Path) -> Check {
    let name = "attributes";
    let path = directory.join("source/kept");
    let set = |attribute: &str| -> io::Result<()> {
        let place = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(XattrFile::opened(place.as_fd()).set(attribute, b"x")?)
    };
    if let Err(error) = set("trusted.runner") {
        let fix = "boot a kernel with CONFIG_TMPFS_XATTR, or use `scratch: {disk: true}`";
        return Check::warning(name, format!("no trusted.* attributes on tmpfs: {error}"), fix);
    }
    match set("user.runner") {
        Ok(()) => Check::ok(name, "trusted.* and user.* on tmpfs"),
        Err(error) => Check::warning(
            name,
            format!("no user.* attributes on tmpfs: {error}"),
            "where a build needs them: `scratch: {disk: true}`, or a kernel of 6.6 or later",
        ),
    }
}
