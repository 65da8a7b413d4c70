//! Control groups: which hierarchies there are, whether device rules can be set, and which limits.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use super::Check;
use crate::cgroup::Layout;
use crate::sys;

/// What the manifest's limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// `r0 = 1; exit`: allows everything, see bpf(2).
const ALLOW: [u64; 2] = [0xb7 | 1 << 32, 0x95];

/// The name of this host's layout, as people call it.
pub(super) fn layout_name() -> &'static str {
    Layout::of_this_host().unwrap_or_default().name()
}

pub(super) fn checks() -> Vec<Check> {
    let layout = Layout::of_this_host().unwrap_or_default();
    if layout == Layout::default() {
        let mend = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        return vec![Check::missing("cgroups", "none is mounted", mend)];
    }
    vec![devices(&layout), limits(&layout)]
}

/// Sets a device rule, in the way in which a session's are set: with the v1 controller where there is one.
fn devices(layout: &Layout) -> Check {
    let name = "device rules";
    let tried = match (layout.v1("devices"), layout.v2()) {
        (Some(root), _) => in_a_group(root, |group| {
            fs::write(group.join("devices.deny"), "a").map_err(|error| format!("cannot write devices.deny: {error}"))
        }),
        (None, Some(root)) => in_a_group(root, |group| {
            let folder = File::open(group).map_err(|error| format!("cannot open {}: {error}", group.display()))?;
            sys::attach_device_program(folder.as_fd(), &ALLOW)
                .map_err(|error| format!("cannot load a BPF program: {error}"))
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
    fs::create_dir(&group).map_err(|error| format!("cannot create {}: {error}", group.display()))?;
    let tried = attempt(&group);
    let removed = fs::remove_dir(&group).map_err(|error| format!("cannot remove {}: {error}", group.display()));
    tried.and(removed)
}

fn limits(layout: &Layout) -> Check {
    let on_v2 = layout.v2().and_then(|root| fs::read_to_string(root.join("cgroup.controllers")).ok());
    let lacking = lacking(layout, &on_v2.unwrap_or_default());
    if lacking.is_empty() { Check::ok("limits", CONTROLLERS.join(", ")) } else { limits_lacking(&lacking) }
}

pub(super) fn limits_lacking(lacking: &[&str]) -> Check {
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

    #[test]
    fn a_limit_needs_its_controller_on_either() {
        assert_eq!(lacking(&Layout::default(), ""), CONTROLLERS);
        assert_eq!(lacking(&Layout::default(), "cpuset cpu io memory pids\n"), [""; 0]);
        assert_eq!(lacking(&Layout::default(), "cpu pids\n"), ["memory"]);
    }
}
