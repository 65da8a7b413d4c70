//! The mounts of a build: all are in a mount namespace of runner's own, so that the kernel removes them however runner
//! ends.

mod bind;
mod filesystem_paths;
mod overlay;
mod table;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bind::{BindOptions, bind, cover, keep_out_of_binds, make_mount_point};
pub use filesystem_paths::{needs_device, paths_in_options, with_paths};
pub use overlay::{FileNumbers, OverlayError, is_on_overlay, mount_overlay};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
pub use table::{Location, MountTable, unescaped};

use crate::loopdev::LoopDevice;
use crate::sys::{self, MountChange};

/// The first bytes of a squashfs image.
pub const SQUASHFS_MAGIC: [u8; 4] = *b"hsqs";

/// The first bytes of the superblock of an EROFS image, and their place.
const EROFS_MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();
const EROFS_MAGIC_AT: u64 = 1024;

/// The number of attempts to unmount a busy mount, with a pause between them: a second in all.
const BUSY_TRIES: u32 = 1000;
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// Puts this process into a mount namespace of its own, see mount_namespaces(7).
///
/// Later mounts and unmounts of the host stay visible; mounts made here never reach the host. It must be called before
/// any thread starts: the namespace belongs to a thread and those that it starts.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn enter_private_namespace() -> io::Result<()> {
    // `nix` and not `rustix`: rustix marks the call unsafe because of CLONE_FILES, which is not used here.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(())
}

/// A mount, unmounted at the latest when it is dropped.
#[derive(Debug)]
pub struct Mounted {
    path: Option<PathBuf>,
}

impl Mounted {
    fn new(path: &Path) -> Self {
        Self { path: Some(path.to_owned()) }
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Prevents every process from opening a device node in it from now on.
    ///
    /// # Errors
    /// Those of mount_setattr(2).
    pub fn refuse_devices(&self) -> io::Result<()> {
        let root = rustix::fs::open(self.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let no_devices = MountChange { set: libc::MOUNT_ATTR_NODEV, clear: 0, propagation: 0 };
        sys::change_mount(root.as_fd(), no_devices, false)
    }

    /// Makes it read-only from now on.
    ///
    /// # Errors
    /// Those of mount_setattr(2): `EBUSY` while a file in it is open for writing.
    pub fn make_read_only(&self) -> io::Result<()> {
        let root = rustix::fs::open(self.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::change_mount(root.as_fd(), MountChange { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 }, false)
    }

    /// Unmounts it.
    ///
    /// A process that another thread is just starting has a copy of every descriptor until its execve(2), so an unused
    /// mount may be busy for a moment: this function waits for that.
    ///
    /// # Errors
    /// `EBUSY` while a process uses it: then it stays mounted, and dropping it detaches it.
    pub fn close(mut self) -> io::Result<()> {
        let mut tries = 0;
        while let Err(error) = rustix::mount::unmount(self.path(), UnmountFlags::NOFOLLOW) {
            tries += 1;
            if error != Errno::BUSY || tries == BUSY_TRIES {
                return Err(error.into());
            }
            std::thread::sleep(BUSY_PAUSE);
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A failure has no effect: the namespace ends with the process.
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

/// Mounts a tmpfs with options in the form of mount(8): flags and tmpfs(5) data mixed.
///
/// # Errors
/// Those of mount(2): `EINVAL` for an option that tmpfs does not know.
pub fn mount_tmpfs(target: &Path, options: &[String]) -> io::Result<Mounted> {
    mount_kernel("tmpfs", Path::new("tmpfs"), target, options)
}

/// Mounts a filesystem of the kernel, with options in the form of mount(8).
///
/// # Errors
/// Those of mount(2): `ENODEV` for a filesystem that the kernel does not know, `EINVAL` for an option.
pub fn mount_kernel(kind: &str, source: &Path, target: &Path, options: &[String]) -> io::Result<Mounted> {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match flag(option) {
            Some(Flag::Set(bits)) => flags |= bits,
            Some(Flag::Clear(bits)) => flags -= bits,
            None => data.push(option.as_str()),
        }
    }
    let data = std::ffi::CString::new(data.join(",")).map_err(io::Error::other)?;
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str()))?;
    Ok(Mounted::new(target))
}

/// Mounts a squashfs image read-only through a loop device that ends with the mount.
///
/// # Errors
/// The file is not a squashfs image (`EINVAL`), has a compression that the kernel lacks, or cannot be read.
pub fn mount_squashfs(image: &File, target: &Path) -> io::Result<Mounted> {
    let device = LoopDevice::attach(image)?;
    rustix::mount::mount(device.path(), target, "squashfs", MountFlags::RDONLY, None)
        .map_err(|error| not_mounted(image, error))?;
    Ok(Mounted::new(target))
}

/// Mounts an image read-only, squashfs or EROFS, by its first bytes.
///
/// # Errors
/// Those of [`mount_squashfs`]; `Unsupported` for a kernel without EROFS.
pub fn mount_image(image: &File, target: &Path) -> io::Result<Mounted> {
    let mut magic = [0; 4];
    if image.read_exact_at(&mut magic, EROFS_MAGIC_AT).is_err() || magic != EROFS_MAGIC {
        return mount_squashfs(image, target);
    }
    let device = LoopDevice::attach(image)?;
    rustix::mount::mount(device.path(), target, "erofs", MountFlags::RDONLY, None).map_err(|errno| match errno {
        Errno::NODEV => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not mount EROFS; `modprobe erofs` adds it where the kernel has the module",
        ),
        Errno::INVAL | Errno::IO | Errno::OPNOTSUPP => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is a damaged EROFS image, or one that this kernel cannot read: {}", io::Error::from(errno)),
        ),
        errno => errno.into(),
    })?;
    Ok(Mounted::new(target))
}

/// Mounts a squashfs image read-only without a mount point: it is visible through the descriptor of its root alone,
/// and is unmounted when the last descriptor of a file in it is closed.
///
/// # Errors
/// Those of [`mount_squashfs`].
pub fn open_squashfs(image: &File) -> io::Result<OwnedFd> {
    let device = LoopDevice::attach(image)?;
    let context = fsopen("squashfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device.path())?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd()).map_err(|error| not_mounted(image, error))?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Returns the reason why an image was not mounted: the kernel has the same few errors for very different causes, such
/// as an invalid argument. The caller names the image. `InvalidData` if the image is the cause, and not this host.
fn not_mounted(image: &File, errno: Errno) -> io::Error {
    let wrong = |words: String| io::Error::new(io::ErrorKind::InvalidData, words);
    let error = io::Error::from(errno);
    match Superblock::read(image) {
        Err(short) if short.kind() == io::ErrorKind::UnexpectedEof => {
            return wrong("it is not a squashfs image".to_owned());
        }
        Ok(found) if found.magic != SQUASHFS_MAGIC => return wrong("it is not a squashfs image".to_owned()),
        Ok(Superblock { version: Some(version), .. }) if version != SQUASHFS_VERSION => {
            return wrong(format!(
                "it is a damaged squashfs image, or one of version {version}, which Linux does not read"
            ));
        }
        Ok(Superblock { image_bytes: None, .. }) => {
            return wrong("it is a squashfs image cut off at its start".to_owned());
        }
        Ok(Superblock { image_bytes: Some(all), file_bytes, .. }) if all > file_bytes => {
            return wrong(format!("it is a squashfs image cut off: {file_bytes} of its {all} bytes are there"));
        }
        // A loop device has whole sectors, and the image's last tables may be in the incomplete one.
        Ok(Superblock { file_bytes, .. }) if !file_bytes.is_multiple_of(SECTOR) => {
            return wrong(format!(
                "its length of {file_bytes} bytes is no multiple of {SECTOR}, as that of an image made with `-nopad`; \
                 `truncate -s %4096 FILE` pads it"
            ));
        }
        Ok(found) if errno == Errno::IO || errno == Errno::INVAL && found.compression == GZIP => {
            return wrong(format!("it is a damaged squashfs image: {error}; `dmesg | tail` may say where"));
        }
        _ => {}
    }
    match errno {
        Errno::NODEV => io::Error::new(error.kind(), "this kernel has no squashfs; `modprobe squashfs` may load it"),
        Errno::INVAL => {
            let message = format!(
                "it is a damaged squashfs image, or one whose compression this kernel lacks: {error}; `dmesg | tail` \
                 may say which"
            );
            io::Error::new(error.kind(), message)
        }
        _ => error,
    }
}

/// The compression that every kernel with squashfs has.
const GZIP: u16 = 1;

/// The smallest unit of a loop device, in bytes: loop(4).
const SECTOR: u64 = 512;

/// The version of the format since Linux 2.6.29.
const SQUASHFS_VERSION: u16 = 4;

/// The fields of a squashfs superblock that explain why it is not mounted.
struct Superblock {
    magic: [u8; 4],
    /// `None` if the file ends inside the superblock.
    version: Option<u16>,
    compression: u16,
    /// `None` if the file ends inside the superblock.
    image_bytes: Option<u64>,
    file_bytes: u64,
}

impl Superblock {
    fn read(image: &File) -> io::Result<Self> {
        let mut bytes = [0; 48];
        image.read_exact_at(&mut bytes[..4], 0)?;
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let file_bytes = image.metadata()?.len();
        match image.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Self { magic, version: None, compression: 0, image_bytes: None, file_bytes });
            }
            read => read?,
        }
        let image_bytes = bytes[40..48].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let compression = u16::from_le_bytes([bytes[20], bytes[21]]);
        let version = Some(u16::from_le_bytes([bytes[28], bytes[29]]));
        Ok(Self { magic, version, compression, image_bytes: Some(image_bytes), file_bytes })
    }
}

/// Binds a directory to another path, read-only.
///
/// # Errors
/// Those of mount(2).
pub fn bind_read_only(source: &Path, target: &Path) -> io::Result<Mounted> {
    rustix::mount::mount_bind(source, target)?;
    let mounted = Mounted::new(target);
    rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")?;
    Ok(mounted)
}

/// Binds a directory to another path, where reading changes no access time.
///
/// # Errors
/// Those of mount(2).
pub fn bind_without_access_times(source: &Path, target: &Path) -> io::Result<Mounted> {
    rustix::mount::mount_bind(source, target)?;
    let mounted = Mounted::new(target);
    rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::NOATIME, "")?;
    Ok(mounted)
}

enum Flag {
    Set(MountFlags),
    Clear(MountFlags),
}

/// Returns the flag of mount(2) for a mount(8) option, if it is not data of the filesystem.
fn flag(option: &str) -> Option<Flag> {
    Some(match option {
        "ro" => Flag::Set(MountFlags::RDONLY),
        "rw" => Flag::Clear(MountFlags::RDONLY),
        "nodev" => Flag::Set(MountFlags::NODEV),
        "dev" => Flag::Clear(MountFlags::NODEV),
        "nosuid" => Flag::Set(MountFlags::NOSUID),
        "suid" => Flag::Clear(MountFlags::NOSUID),
        "noexec" => Flag::Set(MountFlags::NOEXEC),
        "exec" => Flag::Clear(MountFlags::NOEXEC),
        "noatime" => Flag::Set(MountFlags::NOATIME),
        "nodiratime" => Flag::Set(MountFlags::NODIRATIME),
        "relatime" => Flag::Set(MountFlags::RELATIME),
        _ => return None,
    })
}
