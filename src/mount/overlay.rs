//! overlayfs: stacked directories, with or without a writable one above; see the kernel's
//! Documentation/filesystems/overlayfs.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use thiserror::Error;

use super::Mounted;

/// `OVL_MAX_STACK` of the kernel.
const MAX_LOWERS: usize = 500;

/// The data of mount(2) ends at a page.
const MAX_MOUNT_DATA: usize = 4095;

/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAY_MAGIC: u64 = 0x794c_7630;

/// The options with which each layer is complete without the others, so that it can be mounted elsewhere: no layer
/// refers to another one. Kernels know these from 4.13, 4.16, 4.19 and 4.10 on, `xino` from 4.17, and runner needs
/// 5.12.
const INDEPENDENT: [(&str, &str); 4] =
    [("index", "off"), ("nfs_export", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// The reason why an overlay could not be mounted.
#[derive(Debug, Error)]
pub enum OverlayError {
    #[error("cannot stack {layers} layers: overlayfs takes at most {MAX_LOWERS}")]
    TooManyLayers { layers: usize },
    #[error("cannot stack {layers} layers: this kernel takes their paths in one page, which is full")]
    OptionsFull { layers: usize },
    #[error("cannot stack {layers} layers: {}, where changes are to live, is itself on an overlay, which overlayfs does not write to", upper.display())]
    UpperOnOverlay { layers: usize, upper: PathBuf },
    #[error("cannot stack {layers} layers with overlayfs{messages}")]
    Mount { layers: usize, messages: String, source: io::Error },
}

impl OverlayError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooManyLayers { .. } => Some("write a `mode: full` snapshot in between, which is one layer".into()),
            Self::OptionsFull { .. } => {
                Some("boot Linux 6.7 or later, or write a `mode: full` snapshot in between, which is one layer".into())
            }
            Self::UpperOnOverlay { .. } => Some(
                "leave `scratch: {disk: true}` out, or write `scratch: {tmpfs: SIZE}`; or choose a store on a disk with \
                 `--store DIRECTORY`, which in Docker is a volume (`-v runner:/var/cache/runner`)"
                    .into(),
            ),
            Self::Mount { source, .. } if source.raw_os_error() == Some(libc::ENODEV) => {
                Some("modprobe overlay".into())
            }
            Self::Mount { messages, .. } if messages.contains("upperdir") => Some(
                "choose a store on another filesystem with `--store DIRECTORY`, or leave `scratch: {disk: true}` out"
                    .into(),
            ),
            Self::Mount { .. } => None,
        }
    }
}

/// The inode numbers in an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileNumbers {
    /// Numbers of 64 bits that stay the same as long as the layers do, and are unique in the whole overlay
    /// (`xino=on`). If a layer's number is too large for that, its file gets the next best one.
    Stable,
    /// The numbers of the layers, which fit 32 bits. The number of a directory changes when the kernel drops its inode.
    OfLayers,
}

impl FileNumbers {
    fn option(self) -> (&'static str, &'static str) {
        match self {
            Self::Stable => ("xino", "on"),
            Self::OfLayers => ("xino", "off"),
        }
    }
}

/// Mounts `lowers` (the topmost first), below `upper` and its `work` directory if there are any, at `target`.
/// Without `upper` the overlay is read-only.
///
/// # Errors
/// See [`OverlayError`]; without an `upper`, the kernel requires at least two lowers.
pub fn mount_overlay(
    lowers: &[&Path],
    upper: Option<(&Path, &Path)>,
    target: &Path,
    numbers: FileNumbers,
) -> Result<Mounted, OverlayError> {
    let layers = lowers.len();
    if layers > MAX_LOWERS {
        return Err(OverlayError::TooManyLayers { layers });
    }
    // Linux before 6.7 does not know `lowerdir+`, and overlayfs before 6.5 does not know the new mount API. The kernel
    // logs an error for each attempt, so there is only one.
    static IS_OLD: AtomicBool = AtomicBool::new(false);
    let attempt = match IS_OLD.load(Ordering::Relaxed) {
        true => Err((rustix::io::Errno::INVAL, String::new())),
        false => by_descriptor(lowers, upper, target, numbers),
    };
    let mounted = match attempt {
        Ok(()) => Ok(Mounted::new(target)),
        Err((error, _)) if error == rustix::io::Errno::INVAL || error == rustix::io::Errno::NODEV => {
            let mounted = by_options(lowers, upper, target, numbers);
            // The older call worked, so the kernel is the cause, and not the layers.
            IS_OLD.fetch_or(mounted.is_ok(), Ordering::Relaxed);
            mounted
        }
        Err((error, messages)) => Err(OverlayError::Mount { layers, messages, source: error.into() }),
    };
    mounted.map_err(|error| match upper {
        Some((upper, _)) if matches!(error, OverlayError::Mount { .. }) && is_on_overlay(upper) => {
            OverlayError::UpperOnOverlay { layers, upper: upper.to_owned() }
        }
        _ => error,
    })
}

/// Returns whether a path is on an overlay, which no other overlay writes to.
pub fn is_on_overlay(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == OVERLAY_MAGIC)
}

fn by_descriptor(
    lowers: &[&Path],
    upper: Option<(&Path, &Path)>,
    target: &Path,
    numbers: FileNumbers,
) -> Result<(), (rustix::io::Errno, String)> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| (error, String::new()))?;
    let configure = || -> rustix::io::Result<OwnedFd> {
        fsconfig_set_string(context.as_fd(), "source", "runner")?;
        for lower in lowers {
            set_path(&context, "lowerdir+", lower)?;
        }
        for (key, value) in INDEPENDENT.into_iter().chain([numbers.option()]) {
            fsconfig_set_string(context.as_fd(), key, value)?;
        }
        let mut attributes = MountAttrFlags::empty();
        match upper {
            Some((upper, work)) => {
                set_path(&context, "upperdir", upper)?;
                set_path(&context, "workdir", work)?;
                // Files outside of snapshots are discarded, and a snapshot syncs its own files.
                fsconfig_set_flag(context.as_fd(), "volatile")?;
            }
            None => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    let mount = configure().map_err(|error| (error, kernel_messages(&context)))?;
    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| (error, String::new()))
}

/// Sets a path of overlayfs, which removes a backslash from some of these paths and not from others: a path with
/// backslashes is passed by its descriptor.
fn set_path(context: &OwnedFd, key: &str, path: &Path) -> rustix::io::Result<()> {
    if !path.as_os_str().as_bytes().contains(&b'\\') {
        return fsconfig_set_string(context.as_fd(), key, path);
    }
    let directory = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    fsconfig_set_string(context.as_fd(), key, named(&directory))
}

/// Returns the path of a directory by its descriptor: short, and without characters that overlayfs interprets.
fn named(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

/// Reads the messages of a filesystem context, each with a letter for its kind at the beginning.
fn kernel_messages(context: &OwnedFd) -> String {
    let Ok(mut log) = context.try_clone().map(File::from) else { return String::new() };
    let mut messages = String::new();
    let mut line = [0; 1024];
    while let Ok(length @ 1..) = log.read(&mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        messages.push_str(": ");
        messages.push_str(text.trim_end().trim_start_matches("e ").trim_start_matches("w "));
    }
    messages
}

/// Mounts with mount(2), for Linux before 6.7.
fn by_options(
    lowers: &[&Path],
    upper: Option<(&Path, &Path)>,
    target: &Path,
    numbers: FileNumbers,
) -> Result<Mounted, OverlayError> {
    let layers = lowers.len();
    let failed = |error: io::Error| OverlayError::Mount { layers, messages: String::new(), source: error };
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))
    };
    let open_lowers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut data = format!("lowerdir={}", open_lowers.iter().map(named).collect::<Vec<_>>().join(":"));
    for (key, value) in INDEPENDENT.into_iter().chain([numbers.option()]) {
        data.push_str(&format!(",{key}={value}"));
    }
    let mut flags = MountFlags::empty();
    let above = upper.map(|(upper, work)| Ok::<_, OverlayError>((open(upper)?, open(work)?))).transpose()?;
    match &above {
        Some((upper, work)) => {
            data.push_str(&format!(",upperdir={},workdir={},volatile", named(upper), named(work)));
        }
        None => flags |= MountFlags::RDONLY,
    }
    if data.len() > MAX_MOUNT_DATA {
        return Err(OverlayError::OptionsFull { layers });
    }
    let data = CString::new(data.as_bytes()).map_err(|error| failed(io::Error::other(error)))?;
    rustix::mount::mount("runner", target, "overlay", flags, Some(data.as_c_str()))
        .map_err(|error| failed(error.into()))?;
    Ok(Mounted::new(target))
}
