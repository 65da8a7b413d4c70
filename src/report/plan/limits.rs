//! The limits of a plan's containers, and which of them are in force on this host.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cgroup::LimitSupport;
use crate::model::{Build, ContainerId, Limits, size_text};
use crate::plan::Plan;
use crate::text_width::wrap;

/// The limits of the containers of a plan.
#[derive(Default)]
pub struct PlannedLimits<'a> {
    /// The containers by name, in the order of the plan.
    containers: Vec<(&'a str, Vec<PlannedLimit>)>,
    /// The default number of open files, if the caller allows fewer than the usual default and a container has the default.
    nofile: Option<u64>,
}

/// A limit of a container.
struct PlannedLimit {
    key: &'static str,
    /// The value as the manifest would write it.
    value: Value,
    is_default: bool,
    by: By,
}

/// The mechanism of the kernel that enforces a limit.
enum By {
    /// A cgroup.
    Group(LimitSupport),
    /// The limit of each process. The value is the host's maximum if the manifest asks for more.
    Process { too_much_for: Option<u64> },
}

impl PlannedLimit {
    /// Returns whether the limit is in force. For a default limit, runner changes nothing of the host, and moves processes
    /// only in a delegated cgroup.
    fn is_enforced(&self) -> bool {
        match &self.by {
            By::Group(LimitSupport::Holds | LimitSupport::Moves { is_delegated: true, .. }) => true,
            By::Group(LimitSupport::SwitchesOn(_) | LimitSupport::Moves { .. }) => !self.is_default,
            By::Group(LimitSupport::Lacks(_) | LimitSupport::Nowhere) => false,
            By::Process { too_much_for } => too_much_for.is_none(),
        }
    }

    fn text(&self) -> String {
        let value = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        let what = format!("{} {value}", self.key);
        let standing = match &self.by {
            By::Group(standing) => standing,
            By::Process { too_much_for: None } => return format!("{what} is enforced"),
            By::Process { too_much_for: Some(most) } => {
                return format!("{what} is not possible, so no step of the container starts: this host allows {most}");
            }
        };
        match standing {
            LimitSupport::SwitchesOn(group) if self.is_default => {
                format!("{what}, the default, is not enforced: its controller is off in {}", group.display())
            }
            LimitSupport::Moves { group, is_delegated: false } if self.is_default => {
                format!(
                    "{what}, the default, is not enforced: {} has processes of its own and is not delegated; `systemd-run \
                     --scope -p Delegate=yes runner …` starts runner in a group that enforces it",
                    group.display()
                )
            }
            LimitSupport::Holds | LimitSupport::SwitchesOn(_) => format!("{what} is enforced"),
            LimitSupport::Moves { group, .. } => {
                format!(
                    "{what} is enforced (for this, the processes in {} are moved into runner-host below it)",
                    group.display()
                )
            }
            LimitSupport::Lacks(group) => {
                format!("{what} is not enforced: {} does not have its controller", group.display())
            }
            LimitSupport::Nowhere => format!("{what} is not enforced: no cgroup hierarchy has its controller"),
        }
    }
}

/// The facts about this host that decide whether limits are in force.
pub struct HostLimits<'h> {
    /// The standing of a cgroup controller.
    pub standing: &'h dyn Fn(&str) -> LimitSupport,
    /// The largest number of open files that this process can set, if it is limited.
    pub settable: Option<u64>,
    /// The number of open files of a container without a limit.
    pub default: u64,
}

impl<'a> PlannedLimits<'a> {
    /// Returns the limits of a plan's containers.
    pub fn new(build: &'a Build, plan: &Plan, host: &HostLimits<'_>) -> Self {
        let mut seen = BTreeSet::new();
        let ids: Vec<ContainerId> = plan
            .order()
            .iter()
            .map(|id| build.origin(build.step(*id).container))
            .filter(|id| seen.insert(id.0))
            .collect();
        let nofile = Some(host.default).filter(|default| *default < Limits::DEFAULT_NOFILE);
        let nofile = nofile.filter(|_| ids.iter().any(|id| build.container(*id).limits.nofile.is_none()));
        let planned = |id: ContainerId| {
            let container = build.container(id);
            (container.name.as_str(), limits(container.limits, host.standing, host.settable))
        };
        Self { containers: ids.into_iter().map(planned).collect(), nofile }
    }

    /// Returns, for programs, the limits of each container: the value, whether it is a default, and whether it is in force.
    pub fn json(&self) -> Value {
        let limit = |planned: &PlannedLimit| {
            let PlannedLimit { key, value, is_default, .. } = planned;
            ((*key).to_owned(), json!({ "value": value, "default": is_default, "holds": planned.is_enforced() }))
        };
        let container = |(name, limits): &(&str, Vec<PlannedLimit>)| {
            ((*name).to_owned(), Value::Object(limits.iter().map(limit).collect()))
        };
        Value::Object(self.containers.iter().map(container).collect())
    }

    /// Returns, for people, a line for each container that sets limits, and a line for a default that is not in force.
    pub fn text(&self, columns: Option<usize>) -> String {
        let mut lines = Vec::new();
        for (name, limits) in &self.containers {
            let set: Vec<String> = limits.iter().filter(|limit| !limit.is_default).map(PlannedLimit::text).collect();
            if !set.is_empty() {
                lines.push(format!("limits of {name}: {}", set.join("; ")));
            }
        }
        let all = self.containers.iter().flat_map(|(_, limits)| limits);
        lines.extend(all.filter(|limit| limit.is_default && !limit.is_enforced()).map(PlannedLimit::text).next());
        lines.extend(self.nofile.map(|most| {
            let usual = Limits::DEFAULT_NOFILE;
            format!("nofile {most}: the default, {usual}, is above the limit of runner's caller (`ulimit -Hn`)")
        }));
        lines.iter().map(|line| wrap(line, "", "  ", columns.unwrap_or(usize::MAX))).collect()
    }
}

fn limits(limits: Limits, standing: &dyn Fn(&str) -> LimitSupport, settable: Option<u64>) -> Vec<PlannedLimit> {
    let standing = |controller| By::Group(standing(controller));
    let mut planned = Vec::new();
    let default = settable.map_or(Limits::DEFAULT_NOFILE, |most| most.min(Limits::DEFAULT_NOFILE));
    let (files, is_default) = (limits.nofile.unwrap_or(default), limits.nofile.is_none());
    let by = By::Process { too_much_for: settable.filter(|most| files > *most) };
    planned.push(PlannedLimit { key: "nofile", value: json!(files), is_default, by });
    if let Some(bytes) = limits.memory {
        let (value, by) = (json!(size_text(bytes)), standing("memory"));
        planned.push(PlannedLimit { key: "memory", value, is_default: false, by });
    }
    if let Some(millicpus) = limits.millicpus {
        // No host has so many processors that the number is inexact in 53 bits.
        let cpus = f64::from(u32::try_from(millicpus).unwrap_or(u32::MAX)) / 1000.0;
        planned.push(PlannedLimit { key: "cpus", value: json!(cpus), is_default: false, by: standing("cpu") });
    }
    let (value, is_default) = (json!(limits.pids.unwrap_or(Limits::DEFAULT_PIDS)), limits.pids.is_none());
    let moves = |by: &By| matches!(by, By::Group(LimitSupport::Moves { .. }));
    // If another limit of the container moves the processes, the default moves none.
    let by = match standing("pids") {
        pids if is_default && moves(&pids) && planned.iter().any(|limit| moves(&limit.by)) => {
            By::Group(LimitSupport::Holds)
        }
        found => found,
    };
    planned.push(PlannedLimit { key: "pids", value, is_default, by });
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(of: Limits, standing: &LimitSupport) -> PlannedLimits<'static> {
        PlannedLimits { containers: vec![("c", limits(of, &|_| standing.clone(), Some(10_000)))], nofile: None }
    }

    const NONE: Limits = Limits { nofile: None, memory: None, millicpus: None, pids: None };
    const ALL: Limits = Limits { nofile: None, memory: Some(96 << 20), millicpus: Some(1500), pids: Some(40) };

    #[test]
    fn limits_in_force_are_listed_except_defaults() {
        let text = planned(ALL, &LimitSupport::Holds).text(None);
        assert_eq!(text, "limits of c: memory 96MiB is enforced; cpus 1.5 is enforced; pids 40 is enforced\n");
        assert_eq!(planned(NONE, &LimitSupport::Holds).text(None), "");
    }

    #[test]
    fn a_limit_of_the_manifest_moves_processes_and_a_default_does_not() {
        let moves = LimitSupport::Moves { group: "/g".into(), is_delegated: false };
        let limits = planned(Limits { pids: Some(40), ..NONE }, &moves);
        assert_eq!(
            limits.text(None),
            "limits of c: pids 40 is enforced (for this, the processes in /g are moved into runner-host below it)\n"
        );
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 40, "default": false, "holds": true }));
        let limits = planned(NONE, &moves);
        assert_eq!(
            limits.text(None),
            "pids 32768, the default, is not enforced: /g has processes of its own and is not delegated; `systemd-run --scope \
             -p Delegate=yes runner …` starts runner in a group that enforces it\n"
        );
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": false }));
    }

    #[test]
    fn a_default_is_in_force_if_another_limit_moves_the_processes() {
        let moves = LimitSupport::Moves { group: "/g".into(), is_delegated: false };
        let limits = planned(Limits { memory: Some(96 << 20), ..NONE }, &moves);
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": true }));
    }

    #[test]
    fn in_a_delegated_group_a_default_moves_processes_too() {
        let limits = planned(NONE, &LimitSupport::Moves { group: "/g".into(), is_delegated: true });
        assert_eq!(limits.text(None), "");
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": true }));
    }

    #[test]
    fn a_default_enables_no_controller_in_the_root_group() {
        let off = LimitSupport::SwitchesOn("/h".into());
        assert_eq!(
            planned(NONE, &off).text(None),
            "pids 32768, the default, is not enforced: its controller is off in /h\n"
        );
        assert_eq!(planned(Limits { pids: Some(40), ..NONE }, &off).text(None), "limits of c: pids 40 is enforced\n");
    }

    #[test]
    fn a_number_of_open_files_above_the_hosts_maximum_is_reported() {
        let text = |nofile| planned(Limits { nofile, ..NONE }, &LimitSupport::Holds).text(None);
        assert_eq!(text(Some(64)), "limits of c: nofile 64 is enforced\n");
        assert_eq!(
            text(Some(10_001)),
            "limits of c: nofile 10001 is not possible, so no step of the container starts: this host allows 10000\n"
        );
        let json = planned(Limits { nofile: Some(10_001), ..NONE }, &LimitSupport::Holds).json();
        assert_eq!(json["c"]["nofile"], json!({ "value": 10_001, "default": false, "holds": false }));
        let json = planned(NONE, &LimitSupport::Holds).json();
        assert_eq!(json["c"]["nofile"], json!({ "value": 4096, "default": true, "holds": true }));
    }

    #[test]
    fn a_missing_controller_is_reported_with_the_group_that_lacks_it() {
        let text = planned(Limits { millicpus: Some(500), pids: Some(1), ..NONE }, &LimitSupport::Lacks("/g".into()))
            .text(None);
        assert!(text.starts_with("limits of c: cpus 0.5 is not enforced: /g does not have its controller; "), "{text}");
    }
}
