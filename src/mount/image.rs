//! Mounts images of filesystems, squashfs and EROFS, read-only through loop devices that end with the mounts.
//!
//! The kernel reads a hostile image. So an image is mounted only by the filesystem whose mark it has, and never by one that the image
//! could choose by other content.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::{Mounted, erofs, squashfs};
use crate::loopdev::LoopDevice;

/// The filesystem of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// Squashfs.
    Squashfs,
    /// EROFS.
    Erofs,
}

impl ImageFormat {
    /// Returns the format of an image, by its mark; none for another file.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn of(image: &File) -> io::Result<Option<Self>> {
        for format in [Self::Squashfs, Self::Erofs] {
            let (mark, at) = format.mark();
            let mut found = [0; 4];
            match image.read_exact_at(&mut found, at) {
                Ok(()) if found == mark => return Ok(Some(format)),
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns the name of the filesystem: the kernel's, and that of the key of the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }

    /// Returns the mark of the superblock, and its place in the image.
    fn mark(self) -> ([u8; 4], u64) {
        match self {
            Self::Squashfs => (squashfs::MAGIC, 0),
            Self::Erofs => (erofs::MAGIC, erofs::SUPERBLOCK_AT),
        }
    }

    /// Refuses an image that the kernel would mount and that is not whole, or is of another format.
    fn check(self, image: &File) -> io::Result<()> {
        match self {
            // The kernel looks at the length itself, and `squashfs::not_mounted` explains its answer.
            Self::Squashfs => Ok(()),
            Self::Erofs => erofs::check(image),
        }
    }

    fn not_mounted(self, image: &File, errno: Errno) -> io::Error {
        match self {
            Self::Squashfs => squashfs::not_mounted(image, errno),
            Self::Erofs => erofs::not_mounted(errno),
        }
    }

    fn mount(self, image: &File, target: &Path) -> io::Result<Mounted> {
        self.check(image)?;
        let device = LoopDevice::attach(image)?;
        rustix::mount::mount(device.path(), target, self.name(), MountFlags::RDONLY, None)
            .map_err(|errno| self.not_mounted(image, errno))?;
        Ok(Mounted::new(target))
    }

    fn open(self, image: &File) -> io::Result<OwnedFd> {
        self.check(image)?;
        let device = LoopDevice::attach(image)?;
        let context =
            fsopen(self.name(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| self.not_mounted(image, errno))?;
        fsconfig_set_string(context.as_fd(), "source", device.path())?;
        fsconfig_set_flag(context.as_fd(), "ro")?;
        fsconfig_create(context.as_fd()).map_err(|errno| self.not_mounted(image, errno))?;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
    }
}

/// Mounts a squashfs image read-only through a loop device that ends with the mount.
///
/// # Errors
/// The file is not a squashfs image (`InvalidData`), has a compression that the kernel lacks, or cannot be read.
pub fn mount_squashfs(image: &File, target: &Path) -> io::Result<Mounted> {
    ImageFormat::Squashfs.mount(image, target)
}

/// Mounts an EROFS image read-only through a loop device that ends with the mount.
///
/// # Errors
/// The file is not an EROFS image, is cut off, or is one that this kernel cannot read (`InvalidData`); `Unsupported` for a kernel
/// without EROFS.
pub fn mount_erofs(image: &File, target: &Path) -> io::Result<Mounted> {
    ImageFormat::Erofs.mount(image, target)
}

/// Mounts an image read-only by the format that it has.
///
/// # Errors
/// Those of [`mount_squashfs`] and [`mount_erofs`].
pub fn mount_image(image: &File, target: &Path) -> io::Result<Mounted> {
    format_of(image)?.mount(image, target)
}

/// Mounts an image read-only without a mount point, by the format that it has: it is visible through the descriptor of its root
/// alone, and is unmounted when the last descriptor of a file in it is closed.
///
/// # Errors
/// Those of [`mount_image`].
pub fn open_image(image: &File) -> io::Result<OwnedFd> {
    format_of(image)?.open(image)
}

/// Returns the format of an image. A file of none is mounted as squashfs, whose errors describe it.
fn format_of(image: &File) -> io::Result<ImageFormat> {
    Ok(ImageFormat::of(image)?.unwrap_or(ImageFormat::Squashfs))
}

/// Returns whether the kernel mounts EROFS images; loads the module if there is one. Needs `CAP_SYS_ADMIN`.
///
/// # Errors
/// Those of fsopen(2), except for an unknown filesystem.
pub fn knows_erofs() -> io::Result<bool> {
    match fsopen(ImageFormat::Erofs.name(), FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Ok(true),
        Err(Errno::NODEV) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
