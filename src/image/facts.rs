//! The facts about a file that a reviewer reads.

use schemars::JsonSchema;
use serde::Serialize;

use super::capabilities;
use crate::difference::{Kind, Node};

/// The bits of setuid and setgid.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileType {
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
    Unknown,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileFacts {
    /// The type.
    #[serde(rename = "type")]
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky, in octal: `0755`.
    pub mode: String,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The size in bytes, holes included; only of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The target of a link. Bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The numbers of a device node: `1:3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The program runs as its owner.
    pub set_uid: bool,
    /// The program runs with its group.
    pub set_gid: bool,
    /// The capabilities that the program gets, in the form of getcap(8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
}

impl FileFacts {
    /// Returns the facts about a file.
    pub(super) fn of(node: &Node) -> Self {
        let is_file = node.kind == Kind::File;
        let capability = node.attributes.get(std::ffi::OsStr::new(capabilities::ATTRIBUTE));
        let is_device = matches!(node.kind, Kind::CharacterDevice | Kind::BlockDevice);
        Self {
            kind: kind(node.kind),
            mode: format!("{:04o}", node.mode),
            uid: node.owner.0,
            gid: node.owner.1,
            size: is_file.then_some(node.size),
            target: (node.kind == Kind::Link).then(|| node.target.to_string_lossy().into_owned()),
            device: is_device.then(|| format!("{}:{}", node.device.0, node.device.1)),
            set_uid: is_file && node.mode & SET_UID != 0,
            set_gid: is_file && node.mode & SET_GID != 0,
            capabilities: capability.map(|value| capabilities::text(value)),
        }
    }

    /// Returns whether a program has more rights than who starts it.
    pub fn is_privileged(&self) -> bool {
        self.set_uid || self.set_gid || self.capabilities.is_some()
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::File,
        Kind::Directory => FileType::Directory,
        Kind::ReplacingDirectory => FileType::ReplacingDirectory,
        Kind::Link => FileType::Link,
        Kind::CharacterDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::Removal => FileType::Removal,
        Kind::Unknown => FileType::Unknown,
    }
}

impl FileType {
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
