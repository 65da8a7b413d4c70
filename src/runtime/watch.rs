//! Watches the cgroups of a container from runner: memory that ran out, refused processes, lifted limits, frozen processes.

use std::sync::OnceLock;

use oci_spec::runtime::{LinuxResources, Spec};

use super::memory::OomKills;
use super::processes::Refusals;
use crate::cgroup::{GroupSet, LimitedGroup, SetLimit};

/// The cgroups of a container whose steps are all in the same ones. The helper makes them; runner opens them at the first use.
#[derive(Debug)]
pub struct Watch {
    id: String,
    resources: LinuxResources,
    limits: Vec<SetLimit>,
    caller: Option<Caller>,
    groups: OnceLock<Groups>,
}

/// The groups that runner itself is in, and the counts there before the first step.
#[derive(Debug)]
struct Caller {
    home: GroupSet,
    refusals: Refusals,
    /// On v2 the kernel may count memory for this group alone.
    oom_kills: Option<(OomKills, u64)>,
}

#[derive(Debug)]
struct Groups {
    limited: LimitedGroup,
    leaf: GroupSet,
    oom_kills: Option<OomKills>,
}

impl Watch {
    /// Watches the groups of the container with this id.
    pub fn new(id: &str, spec: &Spec) -> Self {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        Self { id: id.to_owned(), resources, limits: Vec::new(), caller: None, groups: OnceLock::new() }
    }

    /// Counts from now on; the caller does so before the first step begins.
    pub fn count_from_now(&mut self) {
        self.caller = GroupSet::of_this_process().ok().map(|home| {
            let oom_kills = if home.v1("memory").is_some() { None } else { OomKills::of_groups(&[&home]) };
            Caller {
                refusals: Refusals::from_now(&home),
                oom_kills: oom_kills.map(|kills| {
                    let before = kills.count().unwrap_or_default();
                    (kills, before)
                }),
                home,
            }
        });
    }

    /// Remembers the limits that the helper has set, for [`Watch::lost_limit`].
    pub fn expect(&mut self, limits: Vec<SetLimit>) {
        self.limits = limits;
    }

    fn groups(&self) -> Option<(&Groups, &Caller)> {
        let caller = self.caller.as_ref()?;
        let find = || {
            let limited = LimitedGroup::find(&caller.home, &self.id, &self.resources, &self.limits);
            let leaf = limited.groups().child(LimitedGroup::LEAF);
            let oom_kills = OomKills::of_groups(&[&leaf, limited.groups()]);
            Groups { limited, leaf, oom_kills }
        };
        Some((self.groups.get_or_init(find), caller))
    }

    /// Opens the groups, unless they are open already.
    pub fn find(&self) {
        self.groups();
    }

    /// Returns how often the kernel has killed a process in the groups because memory ran out; 0 where it does not count, and
    /// before the groups are opened, because they are new then.
    pub fn oom_kills_so_far(&self) -> u64 {
        if self.groups.get().is_some() { self.oom_kills() } else { 0 }
    }

    /// Returns the same count, and opens the groups if they are not open.
    pub fn oom_kills(&self) -> u64 {
        let Some((groups, caller)) = self.groups() else { return 0 };
        match (&groups.oom_kills, &caller.oom_kills) {
            (Some(own), _) => own.count().unwrap_or_default(),
            (None, Some((above, before))) => above.count().unwrap_or_default().saturating_sub(*before),
            (None, None) => 0,
        }
    }

    /// Returns whether a limit on processes has refused one in the groups since the last call.
    pub fn processes_refused(&self) -> bool {
        self.groups()
            .is_some_and(|(groups, caller)| caller.refusals.increased(&[&groups.leaf, groups.limited.groups()]))
    }

    /// Returns why a limit that the manifest requests is no longer in force.
    pub fn lost_limit(&self) -> Option<String> {
        self.groups()?.0.limited.lost_limit()
    }

    /// Thaws processes that something inside has frozen: a process that is frozen on v1 does not end by SIGKILL.
    pub fn thaw(&self) {
        if let Some((groups, _)) = self.groups() {
            groups.limited.thaw();
        }
    }

    /// Kills every process of the container, frozen ones too.
    pub fn kill(&self) {
        if let Some((groups, _)) = self.groups() {
            groups.limited.groups().kill();
        }
    }
}
