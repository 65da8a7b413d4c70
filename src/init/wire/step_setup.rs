//! Reads the description of every step's own mounts; defines the numbers of its kinds of entries and its flags.

use super::{Reader, Texts};

/// A flag: see [`StepSetup::filter_first`](StepSetup::filter_first).
pub const FILTER_FIRST: u8 = 1;
/// A flag: see [`StepSetup::confined`](StepSetup::confined).
pub const CONFINED: u8 = 2;
/// A flag: see [`StepSetup::fine_times`](StepSetup::fine_times).
pub const FINE_TIMES: u8 = 4;
/// A flag: see [`StepSetup::reuses_dev`](StepSetup::reuses_dev).
pub const REUSES_DEV: u8 = 8;
/// A new mount of a kernel filesystem: attributes, type, target, and pairs of a key and a value.
pub const FRESH: u8 = 1;
/// A path that becomes read-only with all below it.
pub const READ_ONLY: u8 = 2;
/// A path that is masked.
pub const MASKED: u8 = 3;
/// The same as [`FRESH`], over an empty directory that runner has made.
pub const FRESH_OVER_EMPTY: u8 = 4;
/// A mount of the container at a path below a new mount.
pub const BELOW: u8 = 5;
/// A mount of the container whose mount point others can remove or rename, which takes the mount away.
pub const WATCHED: u8 = 6;
/// A directory in the filesystem of the last [`FRESH`] entry, by its path from there; nodes and links lie there too.
pub const DIRECTORY: u8 = 7;
/// A node: its mode with the type, major and minor number, user, group, path.
pub const NODE: u8 = 8;
/// A symbolic link: its target and its path.
pub const LINK: u8 = 9;

/// One of a step's own mounts over the container's, or a file in one.
#[derive(Debug, Clone, Copy)]
pub enum MountEntry<'a> {
    /// See [`FRESH`].
    Fresh {
        /// See [`FRESH_OVER_EMPTY`].
        over_empty: bool,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
        /// The filesystem.
        kind: &'a [u8],
        /// The path of the mount point.
        target: &'a [u8],
        /// Keys and values in turn; an empty value for a key that has none.
        options: Texts<'a>,
    },
    /// See [`READ_ONLY`].
    ReadOnly(&'a [u8]),
    /// See [`MASKED`].
    Masked(&'a [u8]),
    /// See [`BELOW`].
    Below(&'a [u8]),
    /// See [`WATCHED`].
    Watched(&'a [u8]),
    /// See [`DIRECTORY`].
    Directory(&'a [u8]),
    /// See [`NODE`].
    Node {
        /// The permissions and the type.
        mode: u32,
        /// The major number of the device.
        major: u32,
        /// The minor number of the device.
        minor: u32,
        /// The owner.
        uid: u32,
        /// The owning group.
        gid: u32,
        /// The path of the node.
        path: &'a [u8],
    },
    /// See [`LINK`].
    Link {
        /// The text of the link.
        target: &'a [u8],
        /// The path of the link.
        path: &'a [u8],
    },
}

/// The description of every step's own mounts, seccomp filter and capabilities, made once for a session.
#[derive(Debug, Clone, Copy)]
pub struct StepSetup<'a> {
    count: u32,
    mounts: Reader<'a>,
    /// The number of the first entries, which make a `/dev`.
    pub dev_entries: usize,
    /// Whether a later step may reuse the `/dev` of one that has ended.
    pub reuses_dev: bool,
    /// The filter that init loads and all its descendants inherit, eight bytes an instruction; empty for none.
    pub inherited_filter: &'a [u8],
    /// The filter that each step loads: it decides about the calls that set a step up. Empty for none.
    pub own_filter: &'a [u8],
    /// Whether a step's own filter permits all calls that set a step up, so that it is loaded before the request arrives.
    pub filter_first: bool,
    /// Whether a step cannot reach files that are not below its root, even with descriptors that another process sends to it.
    pub confined: bool,
    /// Whether a file of a tmpfs whose time was read has another time after each change, also within a tick of the clock.
    pub fine_times: bool,
    /// The capabilities that any step of the container may have, a bit each.
    pub bounding: u64,
}

impl<'a> StepSetup<'a> {
    /// Reads a description; none where it is damaged in any way.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        let [filter_first, confined, fine_times, reuses_dev] =
            [FILTER_FIRST, CONFINED, FINE_TIMES, REUSES_DEV].map(|flag| flags & flag != 0);
        let bounding = reader.u64()?;
        let (inherited_filter, own_filter) = (program(&mut reader)?, program(&mut reader)?);
        let dev_entries = usize::try_from(reader.u32()?).ok()?;
        let count = reader.u32()?;
        let mounts = reader;
        for _ in 0..count {
            next_mount(&mut reader)?;
        }
        reader.is_empty().then_some(Self {
            count,
            mounts,
            dev_entries,
            reuses_dev,
            inherited_filter,
            own_filter,
            filter_first,
            confined,
            fine_times,
            bounding,
        })
    }

    /// Returns the mounts, in order.
    pub fn mounts(&self) -> impl Iterator<Item = MountEntry<'a>> + use<'a> {
        let mut reader = self.mounts;
        (0..self.count).map_while(move |_| next_mount(&mut reader))
    }
}

fn program<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.u32()?).ok()?;
    reader.take(length).filter(|program| program.len() % 8 == 0)
}

fn next_mount<'a>(reader: &mut Reader<'a>) -> Option<MountEntry<'a>> {
    match reader.u8()? {
        tag @ (FRESH | FRESH_OVER_EMPTY) => Some(MountEntry::Fresh {
            over_empty: tag == FRESH_OVER_EMPTY,
            attributes: reader.u64()?,
            kind: reader.text()?,
            target: reader.text()?,
            options: reader.texts().filter(|options| options.remaining() % 2 == 0)?,
        }),
        READ_ONLY => Some(MountEntry::ReadOnly(reader.text()?)),
        MASKED => Some(MountEntry::Masked(reader.text()?)),
        BELOW => Some(MountEntry::Below(reader.text()?)),
        WATCHED => Some(MountEntry::Watched(reader.text()?)),
        DIRECTORY => Some(MountEntry::Directory(reader.text()?)),
        NODE => Some(MountEntry::Node {
            mode: reader.u32()?,
            major: reader.u32()?,
            minor: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            path: reader.text()?,
        }),
        LINK => Some(MountEntry::Link { target: reader.text()?, path: reader.text()? }),
        _ => None,
    }
}
