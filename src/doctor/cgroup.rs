//! Control groups: which hierarchies there are, whether device rules can be set, and which limits.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::Check;
use crate::sys;

/// What the manifest's limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// `r0 = 1; exit`: allows everything, see bpf(2).
const ALLOW: [u64; 2] = [0xb7 | 1 << 32, 0x95];

/// Where hierarchies are mounted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    /// On v1: a controller and where it is.
    v1: Vec<(String, PathBuf)>,
    v2: Option<PathBuf>,
}

impl Layout {
    /// From the text of /proc/self/mountinfo, see proc(5).
    fn parse(mountinfo: &str) -> Self {
        let mut layout = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            // Mounted more than once, the root of the hierarchy is wanted.
            let (Some("/"), Some(path)) = (mount.split(' ').nth(3), mount.split(' ').nth(4)) else { continue };
            let mut filesystem = filesystem.split(' ');
            match filesystem.next() {
                Some("cgroup2") if layout.v2.is_none() => layout.v2 = Some(path.into()),
                Some("cgroup") => {
                    let options = filesystem.nth(1).unwrap_or_default();
                    let controllers = options.split(',').filter(|o| !matches!(*o, "rw" | "ro") && !o.contains('='));
                    layout.v1.extend(controllers.map(|controller| (controller.to_owned(), path.into())));
                }
                _ => {}
            }
        }
        layout
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1.iter().find(|(name, _)| name == controller).map(|(_, path)| path.as_path())
    }

    /// The layout's name; `hybrid` is systemd's word for v1 with v2 beside it.
    fn name(&self) -> &'static str {
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => "none",
            (true, Some(_)) => "v2",
            (false, None) => "v1",
            (false, Some(_)) => "hybrid v1",
        }
    }
}

/// The name of this host's layout, as people call it.
pub(super) fn layout_name() -> &'static str {
    Layout::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()).name()
}

pub(super) fn checks() -> Vec<Check> {
    let layout = Layout::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    if layout == Layout::default() {
        let mend = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        return vec![Check::missing("cgroups", "none is mounted", mend)];
    }
    vec![devices(&layout), limits(&layout)]
}

/// Sets a device rule, in the way in which a session's are set: with the v1 controller where there is one.
fn devices(layout: &Layout) -> Check {
    let name = "device rules";
    let tried = match (layout.v1("devices"), &layout.v2) {
        (Some(root), _) => in_a_group(root, |group| {
            fs::write(group.join("devices.deny"), "a").map_err(|error| format!("write devices.deny: {error}"))
        }),
        (None, Some(root)) => in_a_group(root, |group| {
            let folder = File::open(group).map_err(|error| error.to_string())?;
            sys::attach_device_program(folder.as_fd(), &ALLOW).map_err(|error| format!("load a BPF program: {error}"))
        }),
        (None, None) => Err("neither the v1 device controller nor cgroup2 is mounted".to_owned()),
    };
    match tried {
        Ok(()) => Check::ok(name, format!("can be set, cgroup {}", layout.name())),
        Err(error) => {
            let mend = "in Docker: docker run --privileged; else boot a kernel with CONFIG_CGROUP_BPF";
            Check::missing(name, format!("cannot be set, cgroup {}: {error}", layout.name()), mend)
        }
    }
}

/// Makes a group, tries something in it, and removes it.
fn in_a_group(root: &Path, attempt: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    let group = root.join(format!("runner-doctor-{}", std::process::id()));
    fs::create_dir(&group).map_err(|error| format!("create {}: {error}", group.display()))?;
    let tried = attempt(&group);
    let removed = fs::remove_dir(&group).map_err(|error| format!("remove {}: {error}", group.display()));
    tried.and(removed)
}

fn limits(layout: &Layout) -> Check {
    let on_v2 = layout.v2.as_ref().and_then(|root| fs::read_to_string(root.join("cgroup.controllers")).ok());
    let lacking = lacking(layout, &on_v2.unwrap_or_default());
    if lacking.is_empty() {
        return Check::ok("limits", CONTROLLERS.join(", "));
    }
    let mend = "boot with `cgroup_enable=` and their names, where a build has such limits";
    Check::warning("limits", format!("no controller for {}", lacking.join(", ")), mend)
}

fn lacking(layout: &Layout, on_v2: &str) -> Vec<&'static str> {
    let there =
        |controller: &str| layout.v1(controller).is_some() || on_v2.split_whitespace().any(|known| known == controller);
    CONTROLLERS.into_iter().filter(|controller| !there(controller)).collect()
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
        assert_eq!((layout.v1("memory"), layout.v1("rw"), &layout.v2), (None, None, &None));
    }

    #[test]
    fn layouts_are_told_apart() {
        assert_eq!(Layout::parse(V2), Layout { v1: Vec::new(), v2: Some("/sys/fs/cgroup".into()) });
        assert_eq!(Layout::parse(V2).name(), "v2");
        assert_eq!(Layout::parse(&format!("{V1}{V2}")).name(), "hybrid v1");
        assert_eq!(Layout::parse("").name(), "none");
        assert_eq!(Layout::parse("not a line\n - \n1 2 3 / - cgroup"), Layout::default());
    }

    #[test]
    fn a_part_of_a_hierarchy_is_not_taken_for_the_whole() {
        let bound = "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(Layout::parse(bound), Layout::default());
    }

    #[test]
    fn a_limit_needs_its_controller_on_either() {
        assert_eq!(lacking(&Layout::parse(V1), "pids"), ["memory"]);
        assert_eq!(lacking(&Layout::parse(V2), "cpuset cpu io memory pids\n"), [""; 0]);
    }
}
