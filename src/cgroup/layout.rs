//! Finds the mount points of this host's hierarchies, v1 and v2, and the group of a process in them, see cgroups(7).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mount::unescaped;

/// The mounts of hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layout {
    mounts: Vec<Mounted>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    /// The v1 controllers, `name=NAME` for a hierarchy without one; empty for v2.
    controllers: Vec<String>,
    /// The group that is visible at the mount point: `/` unless it shows only a part of the hierarchy, as in a container.
    root: PathBuf,
    point: PathBuf,
}

impl Layout {
    /// Reads the layout of this host, as this process sees it.
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn of_this_host() -> io::Result<Self> {
        // Any user of a host may mount a filesystem whose name is no text.
        Ok(Self::parse(&String::from_utf8_lossy(&fs::read("/proc/self/mountinfo")?)))
    }

    /// Reads the layout from the text of /proc/self/mountinfo, see proc(5).
    fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut filesystem = filesystem.split(' ');
            let kind = filesystem.next().unwrap_or_default();
            let (Some(root), Some(point)) = (mount.split(' ').nth(3), mount.split(' ').nth(4)) else { continue };
            let controllers = match kind {
                "cgroup2" => Vec::new(),
                "cgroup" => {
                    let options = filesystem.nth(1).unwrap_or_default().split(',');
                    let known = options.filter(|option| !matches!(*option, "rw" | "ro" | "xattr" | "none"));
                    known.map(str::to_owned).collect()
                }
                _ => continue,
            };
            // A v1 hierarchy without controllers and name cannot be distinguished from v2.
            if kind == "cgroup2" || !controllers.is_empty() {
                layout.mounts.push(Mounted {
                    controllers,
                    root: unescaped(root.as_bytes()),
                    point: unescaped(point.as_bytes()),
                });
            }
        }
        layout
    }

    /// Returns the mount point of a v1 controller; `name=NAME` for a hierarchy without one.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        self.whole().find(|mount| mount.has(controller)).map(|mount| mount.point.as_path())
    }

    /// Returns the mount point of the v2 hierarchy.
    pub fn v2(&self) -> Option<&Path> {
        self.whole().find(|mount| mount.controllers.is_empty()).map(|mount| mount.point.as_path())
    }

    /// Returns the mounts that show the root of their hierarchy: one hierarchy may be mounted several times.
    fn whole(&self) -> impl Iterator<Item = &Mounted> {
        self.mounts.iter().filter(|mount| mount.root == Path::new("/"))
    }

    /// Returns a mount point at which a group is visible, and the group's path from there. The group is at `path`, relative to the
    /// root of the v1 hierarchy with this controller, or of v2 for "".
    pub(super) fn locate<'a>(&'a self, controller: &str, path: &'a Path) -> Option<(&'a Path, &'a Path)> {
        self.mounts.iter().filter(|mount| mount.is_of(controller)).find_map(|mount| {
            let root = mount.root.strip_prefix("/").unwrap_or(&mount.root);
            Some((mount.point.as_path(), path.strip_prefix(root).ok()?))
        })
    }

    /// Returns all mounts, also those that show only a part of a hierarchy: the controllers, none for v2, and the mount point.
    pub(super) fn mounts(&self) -> impl Iterator<Item = (&[String], &Path)> {
        self.mounts.iter().map(|mount| (mount.controllers.as_slice(), mount.point.as_path()))
    }

    /// Returns whether the hierarchy with this v1 controller, or v2 for "", is mounted anywhere.
    pub(super) fn is_mounted(&self, controller: &str) -> bool {
        self.mounts.iter().any(|mount| mount.is_of(controller))
    }

    /// Returns the layout's name; `hybrid` is systemd's term for v1 together with v2.
    pub fn name(&self) -> &'static str {
        match (self.whole().any(|mount| !mount.controllers.is_empty()), self.v2()) {
            (true, None) => "v1",
            (true, Some(_)) => "hybrid v1",
            (false, Some(_)) => "v2",
            (false, None) => "none",
        }
    }
}

impl Mounted {
    fn is_of(&self, controller: &str) -> bool {
        if controller.is_empty() { self.controllers.is_empty() } else { self.has(controller) }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Returns the path of a process in the v1 hierarchy with this controller, or in v2 for "", from its /proc/PID/cgroup.
pub fn membership<'t>(text: &'t str, controller: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
24 1 0:22 / /proc rw - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
";
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hierarchies_are_found_by_their_controllers() {
        let layout = Layout::parse(V1);
        assert_eq!(layout.name(), "v1");
        assert_eq!(layout.v1("devices"), Some(Path::new("/sys/fs/cgroup/devices")));
        assert_eq!(layout.v1("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!((layout.v1("memory"), layout.v1("rw"), layout.v2()), (None, None, None));
        let mounts = ["cpu,cpuacct", "devices", "systemd"].map(|name| Path::new("/sys/fs/cgroup").join(name));
        assert!(layout.mounts().map(|(_, point)| point).eq(mounts.iter().map(PathBuf::as_path)));
    }

    #[test]
    fn each_layout_has_its_name() {
        assert_eq!(Layout::parse(V2).v2(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(Layout::parse(V2).name(), "v2");
        assert_eq!(Layout::parse(&format!("{V1}{V2}")).name(), "hybrid v1");
        assert_eq!(Layout::parse("").name(), "none");
        assert_eq!(Layout::parse("not a line\n - \n1 2 3 - cgroup"), Layout::default());
    }

    #[test]
    fn a_mount_of_a_part_of_a_hierarchy_does_not_count_as_the_root() {
        let bound = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let layout = Layout::parse(bound);
        assert_eq!((layout.name(), layout.mounts().count()), ("none", 1));
        let (point, mine) = (Path::new("/sys/fs/cgroup"), Path::new("mine"));
        assert_eq!(layout.locate("", Path::new("docker/abc/mine")), Some((point, mine)));
        assert_eq!(layout.locate("", Path::new("docker")), None);
        assert_eq!(layout.locate("memory", Path::new("docker/abc")), None);
    }

    #[test]
    fn a_process_is_found_in_each_hierarchy() {
        let text = "4:cpu,cpuacct:/a:b\n2:devices:/\n1:name=systemd:/s\n0::/c\n";
        assert_eq!(membership(text, "cpuacct"), Some("/a:b"));
        assert_eq!(membership(text, "name=systemd"), Some("/s"));
        assert_eq!((membership(text, ""), membership(text, "memory")), (Some("/c"), None));
    }
}
