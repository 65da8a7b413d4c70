//! A file of a tree, with the attributes that are compared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, StatxFlags, readlinkat, statx};
use schemars::JsonSchema;
use serde::Serialize;

use crate::fs::xattr::{XattrFile, XattrReader};

/// The attribute of a layer's directory that replaces the lower one, see the kernel's
/// Documentation/filesystems/overlayfs.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FileType")]
pub enum Kind {
    File,
    Directory,
    /// In a layer that is compared without the layers below it: a directory that replaces the lower one.
    ReplacingDirectory,
    Link,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
    /// In a layer that is compared without the layers below it: the removal of a lower file.
    Removal,
    /// A type that runner does not know.
    Unknown,
}

impl Kind {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::ReplacingDirectory => "directory that replaces the lower one",
            Self::Link => "link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::Removal => "removal of the lower file",
            Self::Unknown => "file of an unknown type",
        }
    }
}

/// An extended attribute that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// It exists in the second tree alone.
    Added(OsString),
    /// It exists in the first tree alone.
    Removed(OsString),
    /// Its value differs.
    Changed(OsString),
}

/// The attributes of a file that are compared without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The kind.
    pub kind: Kind,
    /// The size in bytes, holes included.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// The time of modification: seconds since 1970, and nanoseconds.
    pub time: (i64, u32),
    /// The number of names.
    pub links: u32,
    /// The device of a node: major and minor number.
    pub device: (u32, u32),
    /// The filesystem and the number of the file in it, which all names of a file share.
    pub id: ((u32, u32), u64),
    /// The target of a link.
    pub target: PathBuf,
    /// The extended attributes.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
}

impl Kind {
    /// Returns whether it is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Directory | Self::ReplacingDirectory)
    }

    /// Returns whether the other kind is the same type, so that the other aspects are compared.
    pub(super) fn is_same_type(self, other: Self) -> bool {
        self == other || (self.is_directory() && other.is_directory())
    }
}

impl Node {
    /// Reads the file of that name in a directory; without a name, the directory itself. A link is not followed.
    ///
    /// # Errors
    /// Those of statx(2) and xattr(7).
    pub fn read(reader: &mut XattrReader, directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let stat = statx(directory, name, flags, StatxFlags::BASIC_STATS)?;
        let file = if name.is_empty() { XattrFile::open(directory) } else { XattrFile::entry(directory, name)? };
        let attributes = reader.read(&file, |_| true)?;
        let mut attributes: BTreeMap<_, _> =
            attributes.into_iter().map(|(name, value)| (OsString::from_vec(name), value)).collect();
        let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile => Kind::File,
            FileType::Directory if attributes.remove(OsStr::new(OPAQUE)).is_some() => Kind::ReplacingDirectory,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::CharacterDevice if device == (0, 0) => Kind::Removal,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => Kind::Unknown,
        };
        let target = match kind {
            Kind::Link => PathBuf::from(OsString::from_vec(readlinkat(directory, name, Vec::new())?.into_bytes())),
            _ => PathBuf::new(),
        };
        Ok(Self {
            kind,
            size: stat.stx_size,
            mode: u32::from(stat.stx_mode) & 0o7777,
            owner: (stat.stx_uid, stat.stx_gid),
            time: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            links: stat.stx_nlink,
            device,
            id: ((stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
            target,
            attributes,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "folder",
            Self::ReplacingDirectory => "folder that replaces the one below",
            Self::Link => "link",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Removal => "removal of what is below",
            Self::Unknown => "file of an unknown type",
        })
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, name) = match self {
            Self::Added(name) => ("+", name),
            Self::Removed(name) => ("-", name),
            Self::Changed(name) => ("", name),
        };
        write!(f, "{sign}{}", name.display())
    }
}
