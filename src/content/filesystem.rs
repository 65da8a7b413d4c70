//! Knows the filesystems with a reliable ctime, and those without content of their own.

use rustix::fs::{OFlags, fstatfs};
use rustix::io::Result;

use super::stat::FileLocation;

/// How far the times of a filesystem show that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The kernel of this host sets the ctime, by its own clock, at each change.
    Times,
    /// A server or a program sets the ctime by a clock of its own, or there is none: its files are read each time.
    Nothing,
    /// The kernel generates the content as it is read, and reports a size of 0: neither times nor content can be relied
    /// on.
    MadeUp(&'static str),
}

/// The numbers that statfs(2) returns, see linux/magic.h. An overlay has the times of its layers: those of an image
/// have no fractions, see [`read`](super::read).
const FILESYSTEMS: [(u32, Trust); 26] = [
    (0xef53, Trust::Times),      // ext2, ext3, ext4
    (0x5846_5342, Trust::Times), // xfs
    (0x9123_683e, Trust::Times), // btrfs
    (0x0102_1994, Trust::Times), // tmpfs
    (0x794c_7630, Trust::Times), // overlay
    (0xf2f5_2010, Trust::Times), // f2fs
    (0x2fc1_2fc1, Trust::Times), // zfs
    (0xca45_1a4e, Trust::Times), // bcachefs
    (0x9fa0, Trust::MadeUp("proc")),
    (0x6265_6572, Trust::MadeUp("sysfs")),
    (0x0027_e0eb, Trust::MadeUp("cgroup")),
    (0x6367_7270, Trust::MadeUp("cgroup2")),
    (0x6462_6720, Trust::MadeUp("debugfs")),
    (0x7472_6163, Trust::MadeUp("tracefs")),
    (0x7363_6673, Trust::MadeUp("securityfs")),
    (0x6265_6570, Trust::MadeUp("configfs")),
    (0xcafe_4a11, Trust::MadeUp("bpf")),
    (0xde5e_81e4, Trust::MadeUp("efivarfs")),
    (0x6165_676c, Trust::MadeUp("pstore")),
    (0xf97c_ff8c, Trust::MadeUp("selinuxfs")),
    (0x4341_5d53, Trust::MadeUp("smackfs")),
    (0x4249_4e4d, Trust::MadeUp("binfmt_misc")),
    (0x0765_5821, Trust::MadeUp("resctrl")),
    (0x6573_5543, Trust::MadeUp("fusectl")),
    (0x1980_0202, Trust::MadeUp("mqueue")),
    (0x6e73_6673, Trust::MadeUp("nsfs")),
];

/// Returns the trust in the filesystem of a file.
pub(super) fn trust(place: &FileLocation<'_>) -> Result<Trust> {
    let magic = fstatfs(place.open(OFlags::PATH)?)?.f_type as u32;
    Ok(FILESYSTEMS.iter().find(|(number, _)| *number == magic).map_or(Trust::Nothing, |(_, trust)| *trust))
}
