//! Images of whole trees, read by the kernel and by unsquashfs(1), beside those of mksquashfs(1).

mod found;
mod hard_cases;
mod random;
mod same_bytes;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{WriteError, WriteOptions, WriteProgress, write};
use crate::model::Compression;
use crate::mount::open_image;

pub(super) const ALL: [Compression; 5] =
    [Compression::Zstd, Compression::Gzip, Compression::Xz, Compression::Lz4, Compression::None];

/// In memory: other filesystems have less room for attributes.
pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

pub(super) fn options(compression: Compression) -> WriteOptions {
    WriteOptions {
        compression,
        level: None,
        time: 1_000_000_000,
        latest: u32::MAX,
        threads: 2,
        longest_path: usize::MAX,
    }
}

pub(super) fn try_image(root: &Path, image: &Path, options: WriteOptions) -> Result<(), WriteError> {
    let (never, _writer) = io::pipe().unwrap();
    write(root, image, options, never.as_fd(), &mut |_: WriteProgress| {})
}

/// Writes an image beside the tree.
pub(super) fn image(root: &Path, name: &str, options: WriteOptions) -> PathBuf {
    let image = root.with_file_name(name);
    try_image(root, &image, options).unwrap();
    image
}

/// The image as the kernel reads it: a descriptor of its root, and a path that leads there.
pub(super) struct Mount {
    _root: OwnedFd,
    pub path: PathBuf,
}

pub(super) fn mounted(image: &Path) -> Mount {
    let root = open_image(&File::open(image).unwrap()).unwrap();
    let path = crate::fs::dirfd::path_of(root.as_fd()).join(".");
    Mount { _root: root, path }
}

pub(super) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// The image as unsquashfs(1) unpacks it.
pub(super) fn unpacked(image: &Path) -> PathBuf {
    let folder = image.with_extension("unpacked");
    run("unsquashfs", &["-no-progress", "-quiet", "-d", folder.to_str().unwrap(), image.to_str().unwrap()]);
    folder
}
