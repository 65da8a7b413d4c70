//! Control groups: which hierarchies there are, whether device rules can be set below runner's own group, and which limits.

use std::os::fd::AsFd;

use super::Check;
use crate::cgroup::{CgroupError, GroupSet, Layout, LimitSupport};
use crate::error::error_chain_with_hint;
use crate::sys;

/// The controllers that the manifest's limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A BPF program that allows everything, `r0 = 1; exit`, see bpf(2).
const ALLOW: [u64; 2] = [0xb7 | 1 << 32, 0x95];

/// Returns the common name of this host's layout.
pub(super) fn layout_name() -> &'static str {
    Layout::of_this_host().unwrap_or_default().name()
}

pub(super) fn checks() -> Vec<Check> {
    if Layout::of_this_host().unwrap_or_default() == Layout::default() {
        let fix = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        return vec![Check::missing("cgroups", "none is mounted", fix)];
    }
    match GroupSet::of_this_process() {
        Ok(home) => vec![devices(&home), limits(|controller| home.limit_support(controller))],
        Err(error) => {
            let fix = error.hint().unwrap_or_else(|| "cat /proc/self/cgroup".into());
            vec![Check::missing("cgroups", error_chain_with_hint(&error, None), &fix)]
        }
    }
}

/// Sets a device rule in the way of a session: with the v1 controller where there is one.
fn devices(home: &GroupSet) -> Check {
    let (name, layout) = ("device rules", layout_name());
    match try_rules(home) {
        Ok(()) => Check::ok(name, format!("can be set, cgroup {layout}")),
        Err(error) => {
            let fix = "in Docker: docker run --privileged; else boot a kernel with CONFIG_CGROUP_BPF";
            Check::missing(name, format!("cannot be set, cgroup {layout}: {error}"), fix)
        }
    }
}

/// Sets a rule in a group that is made below runner's own, and removes the group.
fn try_rules(home: &GroupSet) -> Result<(), String> {
    let name = format!("runner-doctor-{}", std::process::id());
    let group = home.create(&name).map_err(|error: CgroupError| error.message_with_hint())?;
    let tried = match (group.v1("devices"), group.v2()) {
        (Some(v1), _) => v1.write("devices.deny", "a").map_err(|error| format!("cannot write devices.deny: {error}")),
        (None, Some(v2)) => sys::attach_device_program(v2.as_fd(), &ALLOW)
            .map_err(|error| format!("cannot load a BPF program: {error}")),
        (None, None) => Err("neither the v1 device controller nor cgroup2 is mounted".to_owned()),
    };
    if group.remove() { tried } else { Err(format!("cannot remove the cgroups called {name}")) }
}

/// Checks which limits would be enforced. A missing controller of runner's own group has another fix than one that the host
/// lacks.
pub(super) fn limits(standing: impl Fn(&str) -> LimitSupport) -> Check {
    let of = |is_meant: fn(&LimitSupport) -> bool| {
        CONTROLLERS.into_iter().filter(|controller| is_meant(&standing(controller))).collect::<Vec<_>>().join(", ")
    };
    let (nowhere, lacking) =
        (of(|found| *found == LimitSupport::Nowhere), of(|found| matches!(found, LimitSupport::Lacks(_))));
    if !nowhere.is_empty() {
        let fix = "boot with `cgroup_enable=` and their names, where a build has such limits";
        return Check::warning("limits", format!("no controller for {nowhere}"), fix);
    }
    if !lacking.is_empty() {
        let fix = "systemd-run --scope -p Delegate=yes runner …, where a build has such limits";
        return Check::warning("limits", format!("runner's own cgroup has no controller for {lacking}"), fix);
    }
    Check::ok("limits", CONTROLLERS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_need_a_move_of_processes_count_as_enforced() {
        let check = limits(|controller| match controller {
            "pids" => LimitSupport::Moves { group: "/g".into(), is_delegated: false },
            _ => LimitSupport::Holds,
        });
        assert_eq!(check, Check::ok("limits", "cpu, memory, pids"));
    }
}
