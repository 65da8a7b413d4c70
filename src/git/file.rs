//! Opens the files of a git repository: regular ones, on a filesystem for files.
//!
//! A link may lead to a file of the kernel, of which some block readers, though stat(2) calls them regular files: /proc/kmsg, the
//! `trace_pipe` of tracefs, `revision` of AppArmor, the channels of `rpc_pipefs`, those of Xen.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatfs};

use crate::fs::regular;

/// The kernel's filesystems, by number, see statfs(2).
const KERNEL: [(u32, &str); 20] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x7472_6163, "tracefs"),
    (0x6462_6720, "debugfs"),
    (0x7363_6673, "securityfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x5a3c_69f0, "apparmorfs"),
    (0x6265_6570, "configfs"),
    (0x6367_7270, "cgroup2"),
    (0x0027_e0eb, "cgroup"),
    (0x0765_5821, "resctrl"),
    (0xcafe_4a11, "bpf"),
    (0x6573_5543, "fusectl"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6e73_6673, "nsfs"),
    (0x6e66_7364, "nfsd"),
    (0x6759_6969, "rpc_pipefs"),
    (0x1980_0202, "mqueue"),
    (0xabba_1974, "xenfs"),
];

/// Opens a file for reading, links followed.
///
/// # Errors
/// Those of open(2); in words where it is no regular file, or one of the kernel.
pub fn open(path: &Path) -> io::Result<File> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let number = fstatfs(&place)?.f_type as u32;
    if let Some((_, name)) = KERNEL.iter().find(|(kernel, _)| *kernel == number) {
        return Err(io::Error::other(format!("it is a file of the kernel ({name})")));
    }
    regular::reopen(place.as_fd())
}

/// Reads all of a file that has no more than `max_bytes` bytes.
///
/// # Errors
/// Those of [`open`] and [`regular::read_all`].
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    regular::read_all(open(path)?, max_bytes)
}
