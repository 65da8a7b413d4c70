//! The tmpfs that a runtime mounts for one step alone, such as /dev/shm, emptied when the step has ended: its mounts are
//! held on, see `held_mounts`, and its files would take memory as long.

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

/// Each of them, open.
#[derive(Debug, Default)]
pub struct OwnTmpfs(Vec<Own>);

#[derive(Debug)]
struct Own {
    directory: OwnedFd,
    /// The names on which something else is mounted. To remove one would take that mount away, and show what it hides.
    mounted_on: Vec<OsString>,
}

impl OwnTmpfs {
    /// Notes those of a container whose first process has that number, before anything of the step runs. One that this
    /// process sees too is not the step's own.
    ///
    /// # Errors
    /// Those of reading the mounts of both.
    pub fn note(pid: i32, spec: &Spec) -> io::Result<Self> {
        let (inside, outside) = (MountTable::read_of(pid)?, MountTable::read()?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
        let mounts = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some("tmpfs"));
        let own = mounts.map(|mount| mount.destination().as_path()).filter_map(|target| {
            let device = inside.device_at(target).filter(|device| !outside.has_device(device))?;
            let mounted_on = names_mounted_on(&inside, target)?;
            let directory = in_root::open(&root, target, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).ok()?;
            let found = rustix::fs::fstat(&directory).ok()?.st_dev;
            let found = format!("{}:{}", rustix::fs::major(found), rustix::fs::minor(found));
            (found == device).then_some(Own { directory, mounted_on })
        });
        Ok(Self(own.collect()))
    }

    /// Removes all that nothing is mounted on. The step has ended; what cannot be removed takes its memory on.
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

/// The names in a directory on which something is mounted; none where something is mounted deeper, which a step may have
/// given another name by the end.
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
    fn a_name_that_something_is_mounted_on_stays_and_deeper_mounts_leave_all_as_it_is() {
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
