//! What a session's container has of its own, beside the root and the mounts of the manifest: `/dev`, and a network that its
//! steps may change. It is in no layer and no checkpoint, and goes when the container ends.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};

use super::{Session, SessionError};
use crate::build::{Capability, Network};
use crate::runtime::Runtime;

/// A `/dev` with more has been changed: it begins with some twenty, and with those that the manifest lists.
const MAX_ENTRIES: usize = 1000;

/// The container's `/dev`, and its entries as they were at the start; none where this host does not let runner look at it.
#[derive(Debug)]
pub struct OwnState(Option<(OwnedFd, Vec<Entry>)>);

/// No device lies deeper. A directory that a step makes is seen at the first level of its own, and each that is entered takes two
/// descriptors of runner's.
const MAX_DEPTH: usize = 8;

/// All of an entry that a step can change, with the time of its last change.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: Vec<OsString>,
    inode: u64,
    changed: (i64, i64),
}

/// A change by steps of what their container has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnChange {
    /// Files of `/dev` are others.
    Dev,
    /// The network may be another: they may change it.
    Network,
    /// This host does not let runner look at `/dev`.
    Unknown,
}

impl OwnState {
    /// As it is now, before the first step.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn of(dev: Option<OwnedFd>) -> io::Result<Self> {
        let known = |dev: OwnedFd| entries(dev.as_fd()).map(|entries| (dev, entries));
        Ok(Self(dev.map(known).transpose()?))
    }
}

impl Session<'_> {
    /// Returns a change since the session started of what its steps share and no layer holds. With an external runtime each
    /// step has a container of its own.
    ///
    /// # Errors
    /// Those of the system calls; where it has not been started.
    pub fn own_change(&self) -> Result<Option<OwnChange>, SessionError> {
        if *self.workspace.runtime() != Runtime::Embedded {
            return Ok(None);
        }
        let Some((dev, before)) = &self.live()?.own_state.0 else { return Ok(Some(OwnChange::Unknown)) };
        let has_own_network = self.container.network == Network::None;
        Ok(if entries(dev.as_fd())? != *before {
            Some(OwnChange::Dev)
        } else {
            let may_change_network = has_own_network && self.container.capabilities.contains(&Capability::NetAdmin);
            may_change_network.then_some(OwnChange::Network)
        })
    }
}

fn entries(dev: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let top = fstat(dev)?;
    let mut entries = vec![Entry::of(Vec::new(), &top)];
    add(dev, &top, &[], &mut entries)?;
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

/// Adds those in a directory, and in the directories below it on the same filesystem.
fn add(directory: BorrowedFd<'_>, top: &Stat, path: &[OsString], entries: &mut Vec<Entry>) -> io::Result<()> {
    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let listed = openat(directory, ".", FLAGS, Mode::empty())?;
    for entry in Dir::read_from(&listed)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." || entries.len() > MAX_ENTRIES {
            continue;
        }
        let name = OsString::from_vec(name);
        let found = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
        // Of a place where something else is mounted nothing is kept: each step has its own, or the manifest mounts it.
        if found.st_dev != top.st_dev {
            continue;
        }
        let path = [path, std::slice::from_ref(&name)].concat();
        entries.push(Entry::of(path.clone(), &found));
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory && path.len() < MAX_DEPTH {
            add(openat(directory, &name, FLAGS, Mode::empty())?.as_fd(), top, &path, entries)?;
        }
    }
    Ok(())
}

impl Entry {
    fn of(path: Vec<OsString>, found: &Stat) -> Self {
        let changed = (found.st_ctime, i64::try_from(found.st_ctime_nsec).unwrap_or_default());
        Self { path, inode: found.st_ino, changed }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn each_change_of_a_directory_is_seen() {
        type Change = fn(&std::path::Path);
        let changes: [Change; 7] = [
            |dev| fs::write(dev.join("new"), "").unwrap(),
            |dev| fs::remove_file(dev.join("null")).unwrap(),
            |dev| fs::rename(dev.join("null"), dev.join("net/null")).unwrap(),
            |dev| fs::set_permissions(dev.join("null"), fs::Permissions::from_mode(0o600)).unwrap(),
            |dev| fs::write(dev.join("null"), "content").unwrap(),
            |dev| fs::create_dir_all(dev.join("net/deep/er")).unwrap(),
            |dev| {
                fs::remove_file(dev.join("fd")).unwrap();
                symlink("/elsewhere", dev.join("fd")).unwrap();
            },
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            let dev = folder.path();
            fs::create_dir(dev.join("net")).unwrap();
            fs::write(dev.join("null"), "").unwrap();
            symlink("/proc/self/fd", dev.join("fd")).unwrap();
            // A filesystem's clock may have ticks of some milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(20));
            let fd = rustix::fs::open(dev, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            let before = entries(fd.as_fd()).unwrap();
            assert_eq!(entries(fd.as_fd()).unwrap(), before, "{n}");
            change(dev);
            assert_ne!(entries(fd.as_fd()).unwrap(), before, "{n}");
        }
    }

    #[test]
    fn a_tree_deeper_than_any_of_devices_takes_few_descriptors() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir_all(folder.path().join(["d"; 100].join("/"))).unwrap();
        let fd = rustix::fs::open(folder.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        assert_eq!(entries(fd.as_fd()).unwrap().len(), 1 + MAX_DEPTH);
    }
}
