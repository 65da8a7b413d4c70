//! Makes the groups of one container below runner's own, with its limits, and removes them with their processes.

use oci_spec::runtime::LinuxResources;

use super::controllers::enable_if_available;
use super::dir::GroupDir;
use super::error::CgroupError;
use super::group_set::GroupSet;
use super::limits::{RequestedLimits, SetLimit, WatchedLimit};

/// The name of the group that contains the processes.
pub(super) const LEAF: &str = "c";

/// The groups with a container's limits, in every hierarchy. They contain no process themselves, only the groups below do.
///
/// Dropping this value does not remove the groups.
#[derive(Debug)]
pub struct LimitedGroup {
    groups: GroupSet,
    requested: RequestedLimits,
    watched: Vec<WatchedLimit>,
}

impl LimitedGroup {
    /// The name of the group below that contains a container's processes.
    pub const LEAF: &str = LEAF;

    /// Makes groups below which others can have these limits: enables the controllers that the limits need, but sets no limit.
    ///
    /// # Errors
    /// See [`CgroupError`]; then no group remains.
    pub fn make_room(home: &GroupSet, name: &str, resources: &LinuxResources) -> Result<GroupSet, CgroupError> {
        RequestedLimits::of(resources).create(home, name)
    }

    /// Makes groups with this name below others, and limits them.
    ///
    /// # Errors
    /// See [`CgroupError`]; then no group remains.
    pub fn create(home: &GroupSet, name: &str, resources: &LinuxResources) -> Result<Self, CgroupError> {
        let requested = RequestedLimits::of(resources);
        let groups = requested.create(home, name)?;
        match requested.set(&groups) {
            Ok(watched) => Ok(Self { groups, requested, watched }),
            Err(error) => {
                groups.remove();
                Err(error)
            }
        }
    }

    /// Opens the groups with this name below others, which a helper of this process has made, and for which it has set the limits
    /// `set`.
    pub fn find(home: &GroupSet, name: &str, resources: &LinuxResources, set: &[SetLimit]) -> Self {
        let groups = home.child(name);
        let watched = RequestedLimits::find(&groups, set);
        Self { groups, requested: RequestedLimits::of(resources), watched }
    }

    /// Returns the groups.
    pub fn groups(&self) -> &GroupSet {
        &self.groups
    }

    /// Enables the controllers of the limits, and that of memory if v2 has it, below `groups`, which are these or lie below them. So
    /// the kernel counts memory for each group below alone, and a step can read the limits there.
    pub fn enable_below(&self, groups: &GroupSet) {
        if let (None, Some(v2)) = (groups.v1("memory"), groups.v2()) {
            enable_if_available(v2, "memory");
        }
        self.requested.enable_below(groups);
    }

    /// Makes the group for processes below these groups, or below others that lie below them. A step can read the limits in it.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub fn create_leaf(&self, above: &GroupSet) -> Result<GroupSet, CgroupError> {
        self.requested.enable_below(above);
        let leaf = above.create(LEAF)?;
        self.requested.show(&leaf);
        Ok(leaf)
    }

    /// Thaws all processes that something inside has frozen, and restores their processor time.
    pub fn thaw(&self) {
        self.groups.thaw();
        self.requested.show(&self.groups.child(LEAF));
    }

    /// Returns the limits that the manifest requests, with the values that the kernel has set.
    pub fn set_limits(&self) -> Vec<SetLimit> {
        self.watched.iter().map(WatchedLimit::set).cloned().collect()
    }

    /// Returns why a limit that the manifest requests is no longer in force.
    pub fn lost_limit(&self) -> Option<String> {
        self.watched.iter().find_map(WatchedLimit::lost)
    }
}

/// A container's groups: those with its limits and device rules, and in each the one that contains the processes.
///
/// Dropping this value does not remove the groups; [`remove`](Self::remove) does.
#[derive(Debug)]
pub struct ContainerGroup {
    outer: LimitedGroup,
    leaf: GroupSet,
}

impl ContainerGroup {
    /// Makes the groups of the container `id` below those of this process. `rules` sets device rules before a group below exists,
    /// because v1 then refuses rules that deny.
    ///
    /// # Errors
    /// A message that names the missing part; then no group remains.
    pub fn create(
        id: &str,
        resources: &LinuxResources,
        rules: impl FnOnce(&GroupSet) -> Result<(), String>,
    ) -> Result<Self, String> {
        let home = GroupSet::of_this_process().map_err(|error| error.message_with_hint())?;
        let outer = LimitedGroup::create(&home, id, resources).map_err(|error| error.message_with_hint())?;
        let leaf = rules(&outer.groups)
            .and_then(|()| outer.create_leaf(&outer.groups).map_err(|error| error.message_with_hint()));
        match leaf {
            Ok(leaf) => Ok(Self { outer, leaf }),
            Err(error) => {
                outer.groups.remove();
                Err(error)
            }
        }
    }

    /// Returns the v2 group for processes, into which runner can clone one, see clone3(2).
    pub fn v2(&self) -> Option<&GroupDir> {
        self.leaf.v2()
    }

    /// Moves this process, which has one thread, into the v1 groups.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn join_v1(&self) -> Result<(), CgroupError> {
        self.leaf.join_v1()
    }

    /// Returns the groups with the limits.
    pub fn outer(&self) -> &GroupSet {
        &self.outer.groups
    }

    /// Returns the limits that the manifest requests, with the values that the kernel has set.
    pub fn set_limits(&self) -> Vec<SetLimit> {
        self.outer.set_limits()
    }

    /// Returns why a limit that the manifest requests is no longer in force.
    pub fn lost_limit(&self) -> Option<String> {
        self.outer.lost_limit()
    }

    /// Thaws all processes that something inside has frozen: a process that is frozen on v1 does not end by SIGKILL.
    pub fn thaw(&self) {
        self.outer.thaw();
    }

    /// Kills all processes, frozen ones too; some may not have ended on return.
    pub fn kill(&self) {
        self.outer.groups.kill();
    }

    /// Removes the groups, with the processes in them. Returns whether none remains.
    pub fn remove(&self) -> bool {
        self.outer.groups.remove()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};

    use super::*;

    fn name(test: &str) -> String {
        format!("runner-unit-{test}-{}", std::process::id())
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000000").spawn().unwrap()
    }

    fn remains(name: &str) -> usize {
        GroupSet::of_this_process().unwrap().child(name).hierarchies().len()
    }

    #[test]
    fn a_process_joins_its_group_in_every_hierarchy_and_is_killed_with_it() {
        let name = name("add");
        let group = ContainerGroup::create(&name, &LinuxResources::default(), |_| Ok(())).unwrap();
        let mut process = sleeper();
        group.leaf.add(process.id().cast_signed()).unwrap();
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", process.id())).unwrap();
        for line in text.lines() {
            assert!(line.ends_with(&format!("/{name}/c")), "{line}");
        }
        group.kill();
        assert!(!process.wait().unwrap().success());
        assert!(group.remove());
        assert_eq!(remains(&name), 0);
    }

    #[test]
    fn frozen_processes_in_nested_groups_are_killed() {
        let name = name("frozen");
        let group = ContainerGroup::create(&name, &LinuxResources::default(), |_| Ok(())).unwrap();
        let mut processes = [sleeper(), sleeper()];
        group.leaf.add(processes[0].id().cast_signed()).unwrap();
        let mut inner = group.leaf.create("inner").unwrap();
        inner.add(processes[1].id().cast_signed()).unwrap();
        for groups in [&inner, &group.leaf] {
            if let Some(freezer) = groups.v1("freezer") {
                freezer.write("freezer.state", "FROZEN").unwrap();
            }
            groups.v2().unwrap().write("cgroup.freeze", "1").unwrap();
        }
        for _ in 0..300 {
            inner = inner.create("deep").unwrap();
        }
        group.kill();
        for process in &mut processes {
            assert!(!process.wait().unwrap().success());
        }
        assert!(group.remove());
        assert_eq!(remains(&name), 0);
    }

    #[test]
    fn a_lifted_limit_is_reported_with_its_old_and_new_value() {
        let name = name("lost");
        let pids = LinuxPidsBuilder::default().limit(7).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        let group = ContainerGroup::create(&name, &resources, |_| Ok(())).unwrap();
        let file = group.outer().v1("pids").or(group.outer().v2()).unwrap();
        assert_eq!((file.read("pids.max").unwrap().as_str(), group.lost_limit()), ("7\n", None));
        file.write("pids.max", "max").unwrap();
        let lost = group.lost_limit().unwrap();
        assert!(lost.contains("`pids` under limits") && lost.ends_with("was 7 and is max"), "{lost}");
        // A process that opens the groups later reports the same.
        let home = GroupSet::of_this_process().unwrap();
        let found = LimitedGroup::find(&home, &name, &resources, &group.set_limits());
        assert_eq!(found.lost_limit().as_ref(), Some(&lost));
        assert!(group.remove());
    }

    #[test]
    fn the_limits_can_be_read_in_the_group_of_the_processes_and_are_enforced_above() {
        let name = name("shown");
        let pids = LinuxPidsBuilder::default().limit(40).build().unwrap();
        let memory = LinuxMemoryBuilder::default().limit(96 << 20).build().unwrap();
        let cpu = LinuxCpuBuilder::default().quota(150_000).period(100_000u64).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).memory(memory).cpu(cpu).build().unwrap();
        let group = ContainerGroup::create(&name, &resources, |_| Ok(())).unwrap();
        let read = |groups: &GroupSet| {
            let file = |controller, [v1, v2]: [&str; 2]| match groups.v1(controller) {
                Some(group) => group.read(v1).unwrap(),
                None => groups.v2().unwrap().read(v2).unwrap(),
            };
            [
                file("memory", ["memory.limit_in_bytes", "memory.max"]),
                file("cpu", ["cpu.cfs_quota_us", "cpu.max"]),
                file("pids", ["pids.max", "pids.max"]),
            ]
        };
        assert_eq!(read(group.outer()), read(&group.leaf));
        assert_eq!(read(&group.leaf)[2], "40\n");
        // These copies are not enforced, so to change one is no loss.
        let file = group.leaf.v1("pids").or(group.leaf.v2()).unwrap();
        file.write("pids.max", "max").unwrap();
        assert_eq!(group.lost_limit(), None);
        group.thaw();
        assert_eq!(read(group.outer()), read(&group.leaf));
        assert!(group.remove());
    }

    #[test]
    fn thawing_restores_the_processor_time_that_a_step_has_limited_for_itself() {
        let name = name("quota");
        let group = ContainerGroup::create(&name, &LinuxResources::default(), |_| Ok(())).unwrap();
        let quota = |groups: &GroupSet| groups.v1("cpu").map(|group| group.read("cpu.cfs_quota_us").unwrap());
        if let Some(cpu) = group.leaf.v1("cpu") {
            cpu.write("cpu.cfs_period_us", "1000000").unwrap();
            cpu.write("cpu.cfs_quota_us", "1000").unwrap();
            assert_eq!(quota(&group.leaf).unwrap(), "1000\n");
        }
        group.thaw();
        // On v2 a step's group has no such file without a limit, because the controller is not enabled there.
        assert!(quota(&group.leaf).is_none_or(|quota| quota == "-1\n"));
        assert!(group.remove());
    }
}
