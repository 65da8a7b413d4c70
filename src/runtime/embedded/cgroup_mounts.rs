//! Mounts `/sys/fs/cgroup` of a container: the hierarchies of this host, each with the container's own group as its root.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::Mount;
use rustix::fs::{Mode, OFlags, mkdirat, openat, symlinkat};
use rustix::io::Errno;

use crate::error::context;
use crate::runtime::attach::{self, AttachedMounts};
use crate::runtime::options::Options;
use crate::sys::{self, MountChange};

/// Mounts the hierarchies, with the options of `mount`. This process is already in the container's groups and cgroup namespace.
///
/// # Errors
/// Those of the kernel.
pub fn attach(attached: &mut AttachedMounts, root: BorrowedFd<'_>, mount: &Mount) -> io::Result<()> {
    let mount_all = || -> io::Result<OwnedFd> {
        let memberships = std::fs::read_to_string("/proc/self/cgroup").map_err(context("read /proc/self/cgroup"))?;
        let options = Options::of(mount);
        let place = attached.mount_point(root, mount.destination(), true)?;
        let hierarchies = if is_unified()? { Vec::new() } else { hierarchies(&memberships) };
        if hierarchies.is_empty() {
            let made = attach::filesystem("cgroup2", Some(Path::new("cgroup")), &[])?;
            attach::change(made.as_fd(), &options)?;
            attach::put(made.as_fd(), place.as_fd())?;
            return Ok(made);
        }
        let top = attach::filesystem("tmpfs", Some(Path::new("tmpfs")), &[("mode".into(), Some("755".into()))])?;
        let writable = Options { set: options.set & !libc::MOUNT_ATTR_RDONLY, ..options.clone() };
        attach::change(top.as_fd(), &writable)?;
        attach::put(top.as_fd(), place.as_fd())?;
        for hierarchy in &hierarchies {
            let made = attach::filesystem("cgroup", Some(Path::new("cgroup")), &hierarchy.data)?;
            attach::change(made.as_fd(), &options)?;
            mkdirat(&top, hierarchy.name, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            attach::put(made.as_fd(), openat(&top, hierarchy.name, flags, Mode::empty())?.as_fd())?;
            for controller in hierarchy.links() {
                match symlinkat(hierarchy.name, &top, controller) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let read_only = MountChange { set: options.set & libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };
        sys::change_mount(top.as_fd(), read_only, false)?;
        Ok(top)
    };
    let made = mount_all().map_err(context(format_args!("mount {}", mount.destination().display())))?;
    attached.add(mount.destination(), made);
    Ok(())
}

/// Returns whether this host has its v2 hierarchy at `/sys/fs/cgroup`: then it does not use v1 hierarchies.
fn is_unified() -> io::Result<bool> {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    match rustix::fs::statfs("/sys/fs/cgroup") {
        Ok(filesystem) => Ok(filesystem.f_type.cast_unsigned() == CGROUP2_SUPER_MAGIC),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(context("look at /sys/fs/cgroup")(error)),
    }
}

/// A v1 hierarchy, by its line of /proc/self/cgroup.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy<'t> {
    /// The name of its directory, as systemd and runc name it: its controllers, or its own name.
    name: &'t str,
    /// The options that select it in a mount.
    data: Vec<(String, Option<String>)>,
}

impl<'t> Hierarchy<'t> {
    /// Returns the names of its controllers, where it has several.
    fn links(&self) -> impl Iterator<Item = &'t str> {
        self.name.split(',').filter(|name| *name != self.name)
    }
}

fn hierarchies(memberships: &str) -> Vec<Hierarchy<'_>> {
    let controllers = memberships.lines().filter_map(|line| line.split(':').nth(1)).filter(|name| !name.is_empty());
    let hierarchy = |controllers| match controllers {
        named if str::starts_with(named, "name=") => {
            let name = &named["name=".len()..];
            Hierarchy { name, data: vec![("none".into(), None), ("name".into(), Some(name.into()))] }
        }
        name => Hierarchy { name, data: name.split(',').map(|controller| (controller.into(), None)).collect() },
    };
    controllers.map(hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_mounted_by_their_controllers_or_their_name() {
        let found = hierarchies("4:cpu,cpuacct:/a\n2:pids:/\n1:name=systemd:/s\n0::/c\n");
        let names: Vec<&str> = found.iter().map(|hierarchy| hierarchy.name).collect();
        assert_eq!(names, ["cpu,cpuacct", "pids", "systemd"]);
        assert_eq!(found[0].links().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(found[1].links().count(), 0);
        assert_eq!(found[2].data, [("none".into(), None), ("name".into(), Some("systemd".into()))]);
        assert_eq!(hierarchies("0::/\n"), []);
    }
}
