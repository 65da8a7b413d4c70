//! The mounts of a build: all are in a mount namespace of runner's own, so that the kernel removes them however runner
//! ends.

mod bind;
mod erofs;
mod filesystem_paths;
mod image;
mod overlay;
mod squashfs;
mod table;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bind::{BindOptions, bind, cover, keep_out_of_binds, make_mount_point};
pub use filesystem_paths::{needs_device, paths_in_options, with_paths};
pub use image::{ImageFormat, knows_erofs, mount_erofs, mount_image, mount_squashfs, open_image};
pub use overlay::{FileNumbers, OverlayError, is_on_overlay, mount_overlay};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
pub use table::{Location, MountTable, unescaped};

use crate::sys::{self, MountChange};

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
