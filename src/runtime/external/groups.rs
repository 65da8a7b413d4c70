//! Makes the cgroups of a session whose steps are containers of an external runtime.
//!
//! ```text
//! runner-ID     the root of the helper's cgroup namespace, and of all hierarchies as the runtime sees them
//! ├─ h          the helper, and the runtime's program
//! └─ p          the session's limits, and on v2 its device rules
//!    └─ s1      a step's device rules on v1
//!       └─ c    its processes; the root of their cgroup namespace
//! ```
//!
//! A runtime enables controllers in every group from the root to its container, also in groups that contain processes; in the
//! helper's namespace the root is below runner's own group.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Spec};
use rustix::fs::OFlags;

use crate::cgroup::{CgroupError, GroupSet, Hierarchy, LimitedGroup, enter_namespace};
use crate::runtime::devices;
use crate::runtime::memory::OomKills;
use crate::runtime::processes::{self, Refusals};

const LIMITED: &str = "p";
const HELPER: &str = "h";

/// The devices that runc before 1.2 and crun allow to every container, and without which they fail: the host's console, and
/// /dev/net/tun. On v1 a group cannot allow a device that the group above does not allow, so a step's group allows them until
/// its container is made.
const FOR_RUNTIMES: [(LinuxDeviceType, i64, i64); 2] = [(LinuxDeviceType::C, 5, 1), (LinuxDeviceType::C, 10, 200)];

/// The controllers whose groups every runtime joins by itself. The runtime's program starts in the container's groups of all other
/// controllers, because a runtime does not know some of them.
const OF_RUNTIMES: [&str; 5] = ["cpu", "devices", "freezer", "memory", "pids"];

/// The groups of all steps of a session.
#[derive(Debug)]
pub struct Groups<'a> {
    /// The groups of runner itself.
    own: &'a GroupSet,
    limited: LimitedGroup,
    /// The groups of the helper and of the runtime's program.
    helper: GroupSet,
    refusals: Refusals,
    rules: Vec<LinuxDeviceCgroup>,
    /// Whether the rules are enforced; else why not.
    enforced: Result<(), String>,
}

/// The groups of a step.
#[derive(Debug)]
pub struct StepGroups {
    path: PathBuf,
    outer: GroupSet,
    leaf: GroupSet,
    /// The counter of the nearest group in which the kernel counts memory, and its first value.
    oom_kills: Option<(OomKills, u64)>,
}

/// The topmost groups of a session, and the groups above them.
#[derive(Debug)]
pub struct SessionGroups {
    own: GroupSet,
    /// The session's topmost groups.
    pub groups: GroupSet,
}

/// Returns the resources of a config.json.
fn resources(spec: &Spec) -> LinuxResources {
    spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default()
}

/// Makes the topmost groups of a session, below the groups of this process.
///
/// # Errors
/// A message that names the missing part.
pub fn make(id: &str, spec: &Spec) -> Result<SessionGroups, String> {
    let make = || {
        let own = GroupSet::of_this_process()?;
        let groups = LimitedGroup::make_room(&own, id, &resources(spec))?;
        Ok(SessionGroups { own, groups })
    };
    make().map_err(|error: CgroupError| error.message_with_hint())
}

impl<'a> Groups<'a> {
    /// Moves this process into a cgroup namespace below the topmost groups, and makes the session's other groups.
    ///
    /// # Errors
    /// A message that names the missing part.
    pub fn enter(session: &'a SessionGroups, spec: &Spec) -> Result<Self, String> {
        let enter = || {
            enter_namespace(&session.groups, HELPER)?;
            LimitedGroup::create(&session.groups, LIMITED, &resources(spec))
        };
        let limited = enter().map_err(|error| error.message_with_hint())?;
        limited.enable_below(limited.groups());
        let rules = devices::of(spec);
        let enforced = if limited.groups().v1("devices").is_some() {
            devices::check_below(limited.groups(), "trial", &rules)
        } else {
            devices::allow_only(limited.groups(), &rules).map_err(devices::refusal)
        };
        let refusals = Refusals::from_now(&session.own);
        let helper = session.groups.child(HELPER);
        Ok(Self { own: &session.own, limited, helper, refusals, rules, enforced })
    }

    /// Returns why the device rules are not enforced, if they are not.
    ///
    /// # Errors
    /// The message for a container that may not start without them.
    pub fn enforced(&self) -> Result<(), String> {
        self.enforced.clone()
    }

    /// Makes the groups of a step.
    ///
    /// # Errors
    /// A message that says why they cannot be made.
    pub fn step(&self, number: u64) -> io::Result<StepGroups> {
        let name = format!("s{number}");
        let outer = self.limited.groups().create(&name).map_err(|error| io::Error::other(error.message_with_hint()))?;
        let fill = || {
            if outer.v1("devices").is_some() && self.enforced.is_ok() {
                let mut rules = self.rules.clone();
                rules.extend(runtimes_rules(true, |_| "rwm".to_owned())?);
                devices::allow_only(&outer, &rules).map_err(|error| io::Error::other(error.to_string()))?;
            }
            self.limited.enable_below(&outer);
            self.limited.create_leaf(&outer).map_err(|error| io::Error::other(error.message_with_hint()))
        };
        match fill() {
            Ok(leaf) => {
                let path = ["/", LIMITED, &name, LimitedGroup::LEAF].iter().collect();
                // On v2 the kernel may count memory for runner's own group alone.
                let counter = OomKills::of_groups(&[&leaf, self.own]);
                let oom_kills = counter.and_then(|kills| kills.count().map(|count| (kills, count)));
                Ok(StepGroups { path, outer, leaf, oom_kills })
            }
            Err(error) => {
                outer.remove();
                Err(error)
            }
        }
    }

    /// Removes from a step's groups the device rules that only its runtime needed, before any process of the step runs.
    ///
    /// # Errors
    /// Why the device rules are not enforced.
    pub fn restrict(&self, step: &StepGroups) -> Result<(), String> {
        self.enforced()?;
        if let Some(group) = step.outer.v1("devices") {
            let rules = runtimes_rules(false, |device| {
                let is_same = |rule: &&LinuxDeviceCgroup| (rule.typ(), rule.major(), rule.minor()) == device;
                let own = self.rules.iter().filter(|rule| rule.allow()).filter(is_same);
                let own: String = own.filter_map(|rule| rule.access().clone()).collect();
                "rwm".chars().filter(|letter| !own.contains(*letter)).collect()
            });
            for rule in rules.map_err(|error| error.to_string())? {
                group
                    .write("devices.deny", &rule.to_string())
                    .map_err(|error| format!("cannot deny {rule}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Returns whether a limit on processes has refused one to this step, or, since the last call, in the session.
    pub fn processes_refused(&self, step: &StepGroups) -> bool {
        let in_session = self.refusals.increased(&[self.limited.groups(), &self.helper]);
        in_session || processes::count(&[&step.outer, &step.leaf]) > 0
    }

    /// Returns why a limit that the manifest requests is no longer in force.
    pub fn lost_limit(&self) -> Option<String> {
        self.limited.lost_limit()
    }
}

type Device = (Option<LinuxDeviceType>, Option<i64>, Option<i64>);

fn runtimes_rules(allow: bool, access: impl Fn(Device) -> String) -> io::Result<Vec<LinuxDeviceCgroup>> {
    let rule = |(kind, major, minor): (LinuxDeviceType, i64, i64)| {
        let access = access((Some(kind), Some(major), Some(minor)));
        let rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).major(major).minor(minor).access(&access);
        Some(rule.build().map_err(io::Error::other)).filter(|_| !access.is_empty())
    };
    FOR_RUNTIMES.into_iter().filter_map(rule).collect()
}

impl StepGroups {
    /// Returns the path of the step's cgroup as the runtime sees it, for config.json.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Opens the files through which the runtime's process joins groups that the runtime does not know: it writes 0 to each before
    /// it executes the runtime, and its descendants are then in these groups too.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn to_join(&self) -> io::Result<Vec<File>> {
        let is_v2_alone = !self.leaf.hierarchies().iter().any(|hierarchy| !hierarchy.is_v2() && hierarchy.is_mounted);
        let is_unknown_to_runtime = |hierarchy: &&Hierarchy| {
            let is_joined = hierarchy.is_mounted
                && (hierarchy.is_v2() && is_v2_alone || OF_RUNTIMES.iter().any(|known| hierarchy.has(known)));
            !is_joined
        };
        let unknown = self.leaf.hierarchies().iter().filter(is_unknown_to_runtime);
        unknown.map(|hierarchy| hierarchy.own.file("cgroup.procs", OFlags::WRONLY)).collect()
    }

    /// Returns whether the kernel has killed a process of the step, or of a parallel one, because memory ran out.
    pub fn ran_out_of_memory(&self) -> bool {
        self.oom_kills.as_ref().is_some_and(|(kills, before)| kills.count().is_some_and(|now| now > *before))
    }

    /// Returns the processes in the step's groups.
    pub fn processes(&self) -> Vec<Pid> {
        self.outer.processes()
    }

    /// Freezes the processes while `meanwhile` runs.
    pub fn while_frozen(&self, meanwhile: impl FnOnce()) {
        self.outer.while_frozen(meanwhile);
    }

    /// Kills the processes, frozen or not.
    pub fn kill(&self) {
        self.outer.kill();
    }

    /// Removes the groups; a group that cannot be removed goes with the session.
    pub fn remove(&self) {
        self.outer.remove();
    }
}
