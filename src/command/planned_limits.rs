//! Which limits of a plan's containers hold on this host, for `runner plan`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::build::{Build, ContainerId, Limits, size_text};
use crate::cgroup::{Home, Standing};
use crate::columns::wrap;
use crate::plan::Plan;
use crate::resource_limits::{default_nofile, settable_nofile};

/// The limits of the containers of a plan.
pub struct PlannedLimits<'a> {
    /// In the order in which the plan needs them.
    containers: Vec<(&'a str, Vec<Planned>)>,
    /// The default of open files, where the caller may not have as many as usual and a container has the default.
    nofile: Option<u64>,
}

/// A limit of a container.
struct Planned {
    key: &'static str,
    /// As in the manifest.
    value: Value,
    is_default: bool,
    by: By,
}

/// The kernel's means that enforce a limit.
enum By {
    /// A cgroup.
    Group(Standing),
    /// The limit of each process; the host allows no more than that, where it is less than the manifest asks for.
    Process { too_much_for: Option<u64> },
}

impl Planned {
    /// Whether it will hold: for the default nothing of the host's is changed, and no process moved but where the group
    /// is delegated.
    fn holds(&self) -> bool {
        match &self.by {
            By::Group(Standing::Holds | Standing::Moves { is_delegated: true, .. }) => true,
            By::Group(Standing::SwitchesOn(_) | Standing::Moves { .. }) => !self.is_default,
            By::Group(Standing::Lacks(_) | Standing::Nowhere) => false,
            By::Process { too_much_for } => too_much_for.is_none(),
        }
    }

    fn words(&self) -> String {
        let value = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        let what = format!("{} {value}", self.key);
        let standing = match &self.by {
            By::Group(standing) => standing,
            By::Process { too_much_for: None } => return format!("{what} holds"),
            By::Process { too_much_for: Some(most) } => {
                return format!("{what} cannot be had, and no step of the container starts: this host allows {most}");
            }
        };
        match standing {
            Standing::SwitchesOn(group) if self.is_default => {
                format!("{what}, the default, does not hold: its controller is off in {}", group.display())
            }
            Standing::Moves { group, is_delegated: false } if self.is_default => {
                format!(
                    "{what}, the default, does not hold: {} has processes of its own and is not delegated; `systemd-run \
                     --scope -p Delegate=yes runner …` starts runner in a group in which it holds",
                    group.display()
                )
            }
            Standing::Holds | Standing::SwitchesOn(_) => format!("{what} holds"),
            Standing::Moves { group, .. } => {
                format!(
                    "{what} holds, for which the processes in {} are moved into runner-host below it",
                    group.display()
                )
            }
            Standing::Lacks(group) => format!("{what} does not hold: {} does not have its controller", group.display()),
            Standing::Nowhere => format!("{what} does not hold: no cgroup hierarchy has its controller"),
        }
    }
}

impl<'a> PlannedLimits<'a> {
    /// Looks at the cgroups of this process, which would be those of a build. Lists nothing where this user may not look.
    pub fn of(build: &'a Build, plan: &Plan) -> Self {
        let Ok(home) = Home::of_this_process() else { return Self { containers: Vec::new(), nofile: None } };
        let mut seen = BTreeSet::new();
        let containers = plan.order().iter().map(|id| build.step(*id).container).filter(|id| seen.insert(id.0));
        let planned = |id: ContainerId| {
            let container = build.container(id);
            (
                container.name.as_str(),
                limits(container.limits, &|controller| home.standing(controller), settable_nofile()),
            )
        };
        let containers: Vec<ContainerId> = containers.collect();
        let most = Some(default_nofile()).filter(|most| *most < Limits::DEFAULT_NOFILE);
        let nofile = most.filter(|_| containers.iter().any(|id| build.container(*id).limits.nofile.is_none()));
        Self { containers: containers.into_iter().map(planned).collect(), nofile }
    }

    /// For programs: of each container, each limit with whether it holds and whether it is a default.
    pub fn json(&self) -> Value {
        let limit = |planned: &Planned| {
            let Planned { key, value, is_default, .. } = planned;
            ((*key).to_owned(), json!({ "value": value, "default": is_default, "holds": planned.holds() }))
        };
        let container = |(name, limits): &(&str, Vec<Planned>)| {
            ((*name).to_owned(), Value::Object(limits.iter().map(limit).collect()))
        };
        Value::Object(self.containers.iter().map(container).collect())
    }

    /// For people: a line for each container that sets limits, and one for a default that does not hold.
    pub fn text(&self, columns: Option<usize>) -> String {
        let mut lines = Vec::new();
        for (name, limits) in &self.containers {
            let set: Vec<String> = limits.iter().filter(|limit| !limit.is_default).map(Planned::words).collect();
            if !set.is_empty() {
                lines.push(format!("limits of {name}: {}", set.join("; ")));
            }
        }
        let all = self.containers.iter().flat_map(|(_, limits)| limits);
        lines.extend(all.filter(|limit| limit.is_default && !limit.holds()).map(Planned::words).next());
        lines.extend(self.nofile.map(|most| {
            let usual = Limits::DEFAULT_NOFILE;
            format!("nofile {most}: the default, {usual}, is more than the caller of runner may have (`ulimit -Hn`)")
        }));
        lines.iter().map(|line| wrap(line, "", "  ", columns.unwrap_or(usize::MAX))).collect()
    }
}

fn limits(limits: Limits, standing: &dyn Fn(&str) -> Standing, settable: Option<u64>) -> Vec<Planned> {
    let standing = |controller| By::Group(standing(controller));
    let mut planned = Vec::new();
    let default = settable.map_or(Limits::DEFAULT_NOFILE, |most| most.min(Limits::DEFAULT_NOFILE));
    let (files, is_default) = (limits.nofile.unwrap_or(default), limits.nofile.is_none());
    let by = By::Process { too_much_for: settable.filter(|most| files > *most) };
    planned.push(Planned { key: "nofile", value: json!(files), is_default, by });
    if let Some(bytes) = limits.memory {
        let (value, by) = (json!(size_text(bytes)), standing("memory"));
        planned.push(Planned { key: "memory", value, is_default: false, by });
    }
    if let Some(millicpus) = limits.millicpus {
        // At most as many processors as there are: exact in 53 bits.
        let cpus = f64::from(u32::try_from(millicpus).unwrap_or(u32::MAX)) / 1000.0;
        planned.push(Planned { key: "cpus", value: json!(cpus), is_default: false, by: standing("cpu") });
    }
    let (value, is_default) = (json!(limits.pids.unwrap_or(Limits::DEFAULT_PIDS)), limits.pids.is_none());
    let moves = |by: &By| matches!(by, By::Group(Standing::Moves { .. }));
    // Processes that are moved for another limit of the container leave nothing to be moved for the default.
    let by = match standing("pids") {
        left if is_default && moves(&left) && planned.iter().any(|limit| moves(&limit.by)) => {
            By::Group(Standing::Holds)
        }
        found => found,
    };
    planned.push(Planned { key: "pids", value, is_default, by });
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(of: Limits, standing: &Standing) -> PlannedLimits<'static> {
        PlannedLimits { containers: vec![("c", limits(of, &|_| standing.clone(), Some(10_000)))], nofile: None }
    }

    const NONE: Limits = Limits { nofile: None, memory: None, millicpus: None, pids: None };
    const ALL: Limits = Limits { nofile: None, memory: Some(96 << 20), millicpus: Some(1500), pids: Some(40) };

    #[test]
    fn limits_that_hold_are_listed_and_a_default_that_holds_is_not() {
        let text = planned(ALL, &Standing::Holds).text(None);
        assert_eq!(text, "limits of c: memory 96MiB holds; cpus 1.5 holds; pids 40 holds\n");
        assert_eq!(planned(NONE, &Standing::Holds).text(None), "");
    }

    #[test]
    fn a_limit_of_the_manifest_moves_processes_and_the_default_does_not() {
        let moves = Standing::Moves { group: "/g".into(), is_delegated: false };
        let limits = planned(Limits { pids: Some(40), ..NONE }, &moves);
        assert_eq!(
            limits.text(None),
            "limits of c: pids 40 holds, for which the processes in /g are moved into runner-host below it\n"
        );
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 40, "default": false, "holds": true }));
        let limits = planned(NONE, &moves);
        assert_eq!(
            limits.text(None),
            "pids 32768, the default, does not hold: /g has processes of its own and is not delegated; `systemd-run --scope \
             -p Delegate=yes runner …` starts runner in a group in which it holds\n"
        );
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": false }));
    }

    #[test]
    fn where_another_limit_moves_processes_the_default_holds_too() {
        let moves = Standing::Moves { group: "/g".into(), is_delegated: false };
        let limits = planned(Limits { memory: Some(96 << 20), ..NONE }, &moves);
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": true }));
    }

    #[test]
    fn in_a_delegated_group_the_default_moves_processes_too() {
        let limits = planned(NONE, &Standing::Moves { group: "/g".into(), is_delegated: true });
        assert_eq!(limits.text(None), "");
        assert_eq!(limits.json()["c"]["pids"], json!({ "value": 32768, "default": true, "holds": true }));
    }

    #[test]
    fn for_the_default_nothing_is_switched_on_in_the_hosts_root() {
        let off = Standing::SwitchesOn("/h".into());
        assert_eq!(
            planned(NONE, &off).text(None),
            "pids 32768, the default, does not hold: its controller is off in /h\n"
        );
        assert_eq!(planned(Limits { pids: Some(40), ..NONE }, &off).text(None), "limits of c: pids 40 holds\n");
    }

    #[test]
    fn open_files_are_listed_and_a_number_that_the_host_does_not_allow_is_said_to_stop_the_steps() {
        let text = |nofile| planned(Limits { nofile, ..NONE }, &Standing::Holds).text(None);
        assert_eq!(text(Some(64)), "limits of c: nofile 64 holds\n");
        assert_eq!(
            text(Some(10_001)),
            "limits of c: nofile 10001 cannot be had, and no step of the container starts: this host allows 10000\n"
        );
        let json = planned(Limits { nofile: Some(10_001), ..NONE }, &Standing::Holds).json();
        assert_eq!(json["c"]["nofile"], json!({ "value": 10_001, "default": false, "holds": false }));
        let json = planned(NONE, &Standing::Holds).json();
        assert_eq!(json["c"]["nofile"], json!({ "value": 4096, "default": true, "holds": true }));
    }

    #[test]
    fn a_missing_controller_is_named_with_the_group_that_lacks_it() {
        let text =
            planned(Limits { millicpus: Some(500), pids: Some(1), ..NONE }, &Standing::Lacks("/g".into())).text(None);
        assert!(text.starts_with("limits of c: cpus 0.5 does not hold: /g does not have its controller; "), "{text}");
    }
}
