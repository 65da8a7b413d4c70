//! Empties each tmpfs that a runtime mounts for one step alone, such as /dev/shm, when the step has ended: its mounts stay pinned,
//! see `pinned_mounts`, and its files would take memory as long.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

use crate::fs::dirfd;
use crate::fs::in_root;
use crate::fs::list::{Entry, entries};
use crate::fs::remove_tree::remove_tree_at;
use crate::mount::MountTable;

/// The step's own tmpfs mounts, open.
#[derive(Debug, Default)]
pub struct OwnTmpfs(Vec<Own>);

#[derive(Debug)]
struct Own {
    directory: OwnedFd,
    /// The names that are mount points themselves. To remove one would take its mount away, and reveal the files below.
    mounted_on: Vec<OsString>,
}

impl OwnTmpfs {
    /// Opens those of a container, by the number of its first process, before the step's program runs. A tmpfs that this process
    /// sees too is not the step's own.
    ///
    /// # Errors
    /// Those of reading the mounts of both.
    pub fn open(pid: i32, spec: &Spec) -> io::Result<Self> {
        let (inside, outside) = (MountTable::read_of(pid)?, MountTable::read()?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let mounts = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some("tmpfs"));
        let own = mounts.map(|mount| mount.destination().as_path()).filter_map(|target| {
            let device = inside.device_at(target).filter(|device| !outside.has_device(device))?;
            let mounted_on = names_mounted_on(&inside, target)?;
            let directory = in_root::open(&root, target, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).ok()?;
            let opened = rustix::fs::fstat(&directory).ok()?.st_dev;
            let opened = format!("{}:{}", rustix::fs::major(opened), rustix::fs::minor(opened));
            (opened == device).then_some(Own { directory, mounted_on })
        });
        Ok(Self(own.collect()))
    }

    /// Removes all files that are no mount points, after the step has ended. A file that cannot be removed still takes memory.
    pub fn empty(&self) {
        for Own { directory, mounted_on } in &self.0 {
            for name in names(directory).unwrap_or_default() {
                if !mounted_on.contains(&name) {
                    let _ = remove_tree_at(directory.as_fd(), Path::new(&name));
                }
            }
        }
    }
}

/// Returns the names of the mount points in a directory. Returns none where a mount point lies deeper, because a step may have
/// renamed the directories above it by the end.
fn names_mounted_on(table: &MountTable, target: &Path) -> Option<Vec<OsString>> {
    let below = table.points().filter_map(|point| point.strip_prefix(target).ok());
    let below: Vec<&Path> = below.filter(|path| !path.as_os_str().is_empty()).collect();
    let mut names = Vec::new();
    for path in &below {
        let name = path.components().next()?.as_os_str();
        if !below.contains(&Path::new(name)) {
            return None;
        }
        names.push(name.to_owned());
    }
    Some(names)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let open = dirfd::reopen(directory.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
    Ok(entries(open.as_fd())?.into_iter().map(Entry::into_name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_listed_and_a_directory_with_deeper_ones_is_refused() {
        let table = |points: &[&str]| {
            let line = |point: &&str| format!("2 1 0:3 / {point} rw - tmpfs t rw\n");
            MountTable::parse(points.iter().map(line).collect::<String>().as_bytes())
        };
        let usual = table(&["/", "/dev", "/dev/pts", "/dev/shm", "/dev/shm/a"]);
        assert_eq!(names_mounted_on(&usual, Path::new("/dev")).unwrap(), ["pts", "shm", "shm"]);
        assert_eq!(names_mounted_on(&usual, Path::new("/dev/shm")).unwrap(), ["a"]);
        assert_eq!(names_mounted_on(&table(&["/dev", "/dev/a/b"]), Path::new("/dev")), None);
    }
}
