//! The facts about a file that a reviewer reads.

use std::ffi::OsStr;

use schemars::JsonSchema;
use serde::Serialize;

use super::capabilities;
use crate::difference::{Kind, Node};
use crate::fs::file_capabilities::ATTRIBUTE;

/// The bits of setuid and setgid.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileFacts {
    /// The type.
    #[serde(rename = "type")]
    pub kind: Kind,
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
        let capability = node.attributes.get(OsStr::new(ATTRIBUTE));
        let is_device = matches!(node.kind, Kind::CharacterDevice | Kind::BlockDevice);
        Self {
            kind: node.kind,
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

    /// Returns whether a program has more rights than its caller.
    pub fn is_privileged(&self) -> bool {
        self.set_uid || self.set_gid || self.capabilities.is_some()
    }
}
