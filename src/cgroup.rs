//! Control groups of this host: where the hierarchies are, v1 and v2, and where in them a process is, see cgroups(7).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where hierarchies are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// On v1: a controller and where it is.
    v1: Vec<(String, PathBuf)>,
    v2: Option<PathBuf>,
    /// All mount points, also those that show a part of a hierarchy, as in a container.
    mounts: Vec<PathBuf>,
}

impl Layout {
    /// Of this host, as this process sees it.
    ///
    /// # Errors
    /// Where there is no /proc.
    pub fn of_this_host() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// From the text of /proc/self/mountinfo, see proc(5).
    fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let mut filesystem = filesystem.split(' ');
            let kind = filesystem.next().unwrap_or_default();
            let (Some(root), Some(path)) = (mount.split(' ').nth(3), mount.split(' ').nth(4)) else { continue };
            if !matches!(kind, "cgroup" | "cgroup2") {
                continue;
            }
            layout.mounts.push(path.into());
            // Mounted more than once, the root of the hierarchy is wanted.
            match kind {
                _ if root != "/" => {}
                "cgroup2" if layout.v2.is_none() => layout.v2 = Some(path.into()),
                "cgroup" => {
                    let options = filesystem.nth(1).unwrap_or_default();
                    let controllers = options.split(',').filter(|o| !matches!(*o, "rw" | "ro" | "xattr"));
                    layout.v1.extend(controllers.map(|controller| (controller.to_owned(), path.into())));
                }
                _ => {}
            }
        }
        layout
    }

    /// The mount point of a v1 controller; `name=NAME` for a hierarchy without one.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path())
    }

    /// The mount point of the v2 hierarchy.
    pub fn v2(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// All mount points, also those that show a part of a hierarchy only.
    pub fn mounts(&self) -> &[PathBuf] {
        &self.mounts
    }

    /// The layout's name; `hybrid` is systemd's word for v1 with v2 beside it.
    pub fn name(&self) -> &'static str {
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => "none",
            (true, Some(_)) => "v2",
            (false, None) => "v1",
            (false, Some(_)) => "hybrid v1",
        }
    }
}

/// The path of a process in the v1 hierarchy with that controller, in the v2 one for "", from its /proc/PID/cgroup.
pub fn membership<'t>(text: &'t str, controller: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|name| name == controller).then_some(path)
    })
}

/// Begins what the kernel does before the first move of a process between cgroups: it waits, some 5 to 20 ms, until
/// every processor has seen that forks must look out (`cgroup_threadgroup_rwsem`). A move soon after finds that done.
///
/// Moves this process to where it is already, which changes nothing. To be called on a thread that nobody waits for; a
/// failure costs nothing but the time.
pub fn warm_up() {
    let Ok(layout) = Layout::of_this_host() else { return };
    let Ok(memberships) = fs::read_to_string("/proc/self/cgroup") else { return };
    let known = layout.v1.iter().map(|(name, path)| (name.as_str(), path.as_path()));
    for (controller, root) in known.chain(layout.v2().map(|path| ("", path))) {
        if let Some(path) = membership(&memberships, controller) {
            let file = root.join(path.trim_start_matches('/')).join("cgroup.procs");
            // 0 is the process that writes.
            if fs::write(file, "0").is_ok() {
                return;
            }
        }
    }
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
        assert_eq!(layout.mounts(), mounts);
    }

    #[test]
    fn layouts_are_told_apart() {
        assert_eq!(
            Layout::parse(V2),
            Layout { v1: Vec::new(), v2: Some("/sys/fs/cgroup".into()), mounts: vec!["/sys/fs/cgroup".into()] }
        );
        assert_eq!(Layout::parse(V2).name(), "v2");
        assert_eq!(Layout::parse(&format!("{V1}{V2}")).name(), "hybrid v1");
        assert_eq!(Layout::parse("").name(), "none");
        assert_eq!(Layout::parse("not a line\n - \n1 2 3 - cgroup"), Layout::default());
    }

    #[test]
    fn a_part_of_a_hierarchy_is_not_taken_for_the_whole() {
        let bound = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let layout = Layout::parse(bound);
        assert_eq!((layout.name(), layout.mounts().len()), ("none", 1));
    }

    #[test]
    fn a_process_is_found_in_each_hierarchy() {
        let text = "4:cpu,cpuacct:/a:b\n2:devices:/\n1:name=systemd:/s\n0::/c\n";
        assert_eq!(membership(text, "cpuacct"), Some("/a:b"));
        assert_eq!(membership(text, "name=systemd"), Some("/s"));
        assert_eq!((membership(text, ""), membership(text, "memory")), (Some("/c"), None));
    }

    #[test]
    fn a_warm_up_leaves_this_process_where_it_is() {
        let before = fs::read_to_string("/proc/self/cgroup").unwrap();
        warm_up();
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), before);
    }
}
