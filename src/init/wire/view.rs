//! The plan of a step's own view, with the numbers that stand for its kinds of mounts and its flags.

use super::{Reader, Texts};

/// A flag: see [`View::filter_first`](View::filter_first).
pub const FILTER_FIRST: u8 = 1;
/// A flag: see [`View::confined`](View::confined).
pub const CONFINED: u8 = 2;
/// A flag: see [`View::fine_times`](View::fine_times).
pub const FINE_TIMES: u8 = 4;
/// A flag: see [`View::reuses_dev`](View::reuses_dev).
pub const REUSES_DEV: u8 = 8;
/// A filesystem of the kernel, mounted anew: attributes, type, target, and pairs of a key and a value.
pub const FRESH: u8 = 1;
/// A path that becomes read-only with all below it.
pub const READ_ONLY: u8 = 2;
/// A path that is hidden.
pub const MASKED: u8 = 3;
/// As [`FRESH`], over an empty directory of runner's own.
pub const FRESH_OVER_EMPTY: u8 = 4;
/// A mount of the container at a path below one of a filesystem that is mounted anew.
pub const BELOW: u8 = 5;
/// A mount of the container whose place others can remove or rename, which takes the mount away.
pub const WATCHED: u8 = 6;
/// A directory in the filesystem that the last [`FRESH`] mounts, as all of the next three: its path from there.
pub const DIRECTORY: u8 = 7;
/// A node: its mode with its type, major and minor number, user, group, path.
pub const NODE: u8 = 8;
/// A symbolic link: its target and its path.
pub const LINK: u8 = 9;

/// One mount of a step's own, over the container's, or a file in one.
#[derive(Debug, Clone, Copy)]
pub enum ViewMount<'a> {
    /// See [`FRESH`].
    Fresh {
        /// See [`FRESH_OVER_EMPTY`].
        over_empty: bool,
        /// `MOUNT_ATTR_*`.
        attributes: u64,
        /// The filesystem.
        kind: &'a [u8],
        /// Where.
        target: &'a [u8],
        /// Keys and values in turn; an empty value for a key that takes none.
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
        /// Of the device.
        major: u32,
        /// Of the device.
        minor: u32,
        /// The owner.
        uid: u32,
        /// The owning group.
        gid: u32,
        /// Where.
        path: &'a [u8],
    },
    /// See [`LINK`].
    Link {
        /// Where it leads.
        target: &'a [u8],
        /// Where it is.
        path: &'a [u8],
    },
}

/// The plan of every step's view, made once for a session: the mounts, and the seccomp program.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    count: u32,
    mounts: Reader<'a>,
    /// How many of the first entries make a `/dev`.
    pub dev_entries: usize,
    /// Whether a later step may have the `/dev` of one that has ended.
    pub reuses_dev: bool,
    /// The filter that init loads and all that it starts inherits, eight bytes an instruction; empty for none.
    pub inherited_filter: &'a [u8],
    /// The filter that each step loads: it answers the calls that set a step up. Empty for none.
    pub own_filter: &'a [u8],
    /// Whether a step's own filter permits everything that sets a step up, so that it is loaded before the request comes.
    pub filter_first: bool,
    /// Whether a step is kept from files that are not below its root, whatever descriptors it is sent.
    pub confined: bool,
    /// Whether a file of a tmpfs that was looked at has another time after each change, also within a tick of the clock.
    pub fine_times: bool,
    /// The capabilities that any step of the container may have, a bit each.
    pub bounding: u64,
}

impl<'a> View<'a> {
    /// Reads a view; none where it is damaged in any way.
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

    /// The mounts, in order.
    pub fn mounts(&self) -> impl Iterator<Item = ViewMount<'a>> + use<'a> {
        let mut reader = self.mounts;
        (0..self.count).map_while(move |_| next_mount(&mut reader))
    }
}

fn program<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.u32()?).ok()?;
    reader.take(length).filter(|program| program.len() % 8 == 0)
}

fn next_mount<'a>(reader: &mut Reader<'a>) -> Option<ViewMount<'a>> {
    match reader.u8()? {
        tag @ (FRESH | FRESH_OVER_EMPTY) => Some(ViewMount::Fresh {
            over_empty: tag == FRESH_OVER_EMPTY,
            attributes: reader.u64()?,
            kind: reader.text()?,
            target: reader.text()?,
            options: reader.texts().filter(|options| options.count_left() % 2 == 0)?,
        }),
        READ_ONLY => Some(ViewMount::ReadOnly(reader.text()?)),
        MASKED => Some(ViewMount::Masked(reader.text()?)),
        BELOW => Some(ViewMount::Below(reader.text()?)),
        WATCHED => Some(ViewMount::Watched(reader.text()?)),
        DIRECTORY => Some(ViewMount::Directory(reader.text()?)),
        NODE => Some(ViewMount::Node {
            mode: reader.u32()?,
            major: reader.u32()?,
            minor: reader.u32()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            path: reader.text()?,
        }),
        LINK => Some(ViewMount::Link { target: reader.text()?, path: reader.text()? }),
        _ => None,
    }
}
