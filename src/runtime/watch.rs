//! The cgroups of a container as runner sees them: memory that ran out, processes that were refused, limits that were
//! lifted, processes that were frozen.

use std::sync::OnceLock;

use oci_spec::runtime::{LinuxResources, Spec};

use super::memory::OomKills;
use super::processes::Refusals;
use crate::cgroup::{Home, LimitedGroup};

/// The cgroups of a container whose steps are all in the same, which its helper makes; found when first asked for.
#[derive(Debug)]
pub struct Watch {
    id: String,
    resources: LinuxResources,
    found: OnceLock<Option<Groups>>,
}

#[derive(Debug)]
struct Groups {
    limited: LimitedGroup,
    oom_kills: Option<OomKills>,
    refusals: Option<Refusals>,
}

impl Watch {
    /// Watches the groups of the container of that id.
    pub fn new(id: &str, spec: &Spec) -> Self {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        Self { id: id.to_owned(), resources, found: OnceLock::new() }
    }

    fn groups(&self) -> Option<&Groups> {
        let find = || {
            let limited = LimitedGroup::find(&self.id, &self.resources).ok()?;
            let leaf = limited.groups().child(LimitedGroup::LEAF);
            let own = Home::of_this_process().ok();
            let oom_kills = OomKills::of_groups(&[&leaf, limited.groups()]).or_else(|| {
                // On v2 memory may be counted for runner's own group alone.
                OomKills::of_groups(&[own.as_ref().filter(|home| home.v1("memory").is_none())?])
            });
            Some(Groups { limited, oom_kills, refusals: own.as_ref().map(Refusals::from_now) })
        };
        self.found.get_or_init(find).as_ref()
    }

    /// Looks for them, if nothing has done so yet.
    pub fn find(&self) {
        self.groups();
    }

    /// How often the kernel has killed a process in them for want of memory; 0 where it does not count, and before the
    /// groups have been looked for, for they are new then.
    pub fn oom_kills_so_far(&self) -> u64 {
        self.found.get().and_then(Option::as_ref).and_then(Groups::oom_kills).unwrap_or_default()
    }

    /// The same, now.
    pub fn oom_kills(&self) -> u64 {
        self.groups().and_then(Groups::oom_kills).unwrap_or_default()
    }

    /// Returns whether a limit of processes has refused one in them since this was last asked.
    pub fn processes_refused(&self) -> bool {
        self.groups().is_some_and(Groups::processes_refused)
    }

    /// Why a limit that the manifest asks for does not hold any more.
    pub fn lost_limit(&self) -> Option<String> {
        self.groups()?.limited.lost_limit()
    }

    /// Lets processes go on that something inside has frozen: what is frozen on v1 does not end by SIGKILL.
    pub fn thaw(&self) {
        if let Some(groups) = self.groups() {
            groups.limited.thaw();
        }
    }

    /// Kills every process of the container, frozen ones too.
    pub fn kill(&self) {
        if let Some(groups) = self.groups() {
            groups.limited.groups().kill();
        }
    }
}

impl Groups {
    fn oom_kills(&self) -> Option<u64> {
        self.oom_kills.as_ref()?.count()
    }

    fn processes_refused(&self) -> bool {
        let leaf = self.limited.groups().child(LimitedGroup::LEAF);
        self.refusals.as_ref().is_some_and(|refusals| refusals.rose(&[&leaf, self.limited.groups()]))
    }
}
