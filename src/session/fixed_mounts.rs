//! Mounts whose content no step changes: paths of snapshots, and images.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};

use crate::error::context;
use crate::fs::regular;
use crate::model::StepId;
use crate::mount::{BindOptions, Mounted, bind, make_mount_point, mount_image};
use crate::named_paths::NamedPaths;

/// The sources of mounts that are not files of the manifest.
#[derive(Clone, Copy)]
pub struct MountSources<'s> {
    /// Returns the directory of a cache.
    pub cache: &'s dyn Fn(&str) -> io::Result<PathBuf>,
    /// Returns the file at a path of the root of a snapshot, open as `O_PATH`.
    pub snapshot: &'s dyn Fn(StepId, &Path) -> io::Result<OwnedFd>,
}

impl MountSources<'static> {
    /// Returns those of a container that has no such mount.
    pub fn none() -> Self {
        Self {
            cache: &|_| Err(io::Error::other("there is no cache")),
            snapshot: &|_, _| Err(io::Error::other("there is no snapshot")),
        }
    }
}

/// Makes the mount point `place`, and binds an open file or directory of a snapshot there, read-only.
pub(super) fn bind_fixed(file: &OwnedFd, place: &Path, options: &[String]) -> io::Result<Mounted> {
    let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is neither a file nor a directory"));
    }
    make_mount_point(place, kind == FileType::Directory)?;
    let is_on = |on: &str, off: &str| options.iter().rev().find(|o| *o == on || *o == off).is_some_and(|o| o == on);
    let options = BindOptions {
        recursive: false,
        read_only: true,
        suid: is_on("suid", "nosuid"),
        dev: is_on("dev", "nodev"),
        propagates: false,
    };
    bind(file.as_fd(), place, options, None)
}

/// Makes the mount point `place`, and mounts an image of the manifest there, by the descriptor that was opened when the build began.
pub(super) fn attach_image(source: &Path, place: &Path, paths: &NamedPaths) -> io::Result<Mounted> {
    let attach = || -> io::Result<Mounted> {
        let image = regular::reopen(paths.get(source)?.as_fd())?;
        make_mount_point(place, true)?;
        mount_image(&image, place)
    };
    attach().map_err(context(format_args!("mount the image {}", source.display())))
}
