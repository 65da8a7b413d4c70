//! `/dev` of a container: the usual nodes and links, and the devices that config.json lists.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;

use crate::error::doing;
use crate::fs::in_root;

/// Character devices that every container has: name, major and minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links that every container has, as the OCI runtime specification and runc have them.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Makes them in the `/dev` that is mounted in `root`. A `/dev` that the manifest binds is left as it is.
///
/// # Errors
/// With the node.
pub fn make(root: BorrowedFd<'_>, spec: &Spec) -> io::Result<()> {
    let dev = spec.mounts().iter().flatten().rfind(|mount| mount.destination() == Path::new("/dev"));
    if dev.is_none_or(|mount| mount.typ().as_deref() == Some("bind")) {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let dev = in_root::open(root, Path::new("/dev"), flags).map_err(doing("open /dev of the container"))?;
    for (name, major, minor) in NODES {
        let node = Node { kind: FileType::CharacterDevice, major, minor, mode: 0o666, uid: 0, gid: 0 };
        node.make(dev.as_fd(), name).map_err(doing(format_args!("make the device node /dev/{name}")))?;
    }
    // The root is not entered yet: this is the host's, and so the kernel's.
    let has_core = Path::new("/proc/kcore").exists();
    for (name, target) in LINKS.into_iter().filter(|(name, _)| *name != "core" || has_core) {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(doing(format_args!("make the link /dev/{name}"))(error)),
        }
    }
    for device in spec.linux().as_ref().and_then(|linux| linux.devices().as_ref()).into_iter().flatten() {
        make_device(dev.as_fd(), device)
            .map_err(doing(format_args!("make the device node {}", device.path().display())))?;
    }
    Ok(())
}

fn make_device(dev: BorrowedFd<'_>, device: &LinuxDevice) -> io::Result<()> {
    let path = device.path().strip_prefix("/dev").map_err(io::Error::other)?;
    let mut names: Vec<&std::ffi::OsStr> = path.iter().collect();
    let name = names.pop().ok_or_else(|| io::Error::other("it has no name"))?;
    let mut at: OwnedFd = dev.try_clone_to_owned()?;
    for directory in names {
        match mkdirat(&at, directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        at = openat(&at, directory, flags, Mode::empty())?;
    }
    let number = |number: i64| u32::try_from(number).map_err(io::Error::other);
    let node = Node {
        kind: match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::P => FileType::Fifo,
            _ => FileType::CharacterDevice,
        },
        major: number(device.major())?,
        minor: number(device.minor())?,
        mode: device.file_mode().unwrap_or(0o666),
        uid: device.uid().unwrap_or_default(),
        gid: device.gid().unwrap_or_default(),
    };
    // In place of a usual one of that name, as with runc.
    match rustix::fs::unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    node.make(at.as_fd(), name)
}

struct Node {
    kind: FileType,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Node {
    fn make(&self, at: BorrowedFd<'_>, name: impl AsRef<Path>) -> io::Result<()> {
        let name = name.as_ref();
        mknodat(at, name, self.kind, Mode::empty(), makedev(self.major, self.minor))?;
        chownat(at, name, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(chmodat(at, name, Mode::from_raw_mode(self.mode), AtFlags::empty())?)
    }
}
