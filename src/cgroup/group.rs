//! The groups of one container: made below runner's own, with limits, and taken down with all that runs in them.

use oci_spec::runtime::LinuxResources;

use super::controllers::pass_on;
use super::dir::GroupDir;
use super::error::CgroupError;
use super::home::Home;
use super::limits::{SetLimit, Wanted, WatchedLimit};

/// The name of the group in which the processes are.
pub(super) const LEAF: &str = "c";

/// Groups that carry a container's limits, in every hierarchy. No process is in them, only in groups below.
///
/// Dropping it leaves the groups as they are.
#[derive(Debug)]
pub struct LimitedGroup {
    groups: Home,
    wanted: Wanted,
    held: Vec<WatchedLimit>,
}

impl LimitedGroup {
    /// The group below, in which a container's processes are.
    pub const LEAF: &str = LEAF;

    /// Makes groups below which others can be limited so: with the controllers on that this needs, but no limit yet.
    ///
    /// # Errors
    /// See [`CgroupError`]; then no group is left.
    pub fn make_room(home: &Home, name: &str, resources: &LinuxResources) -> Result<Home, CgroupError> {
        Wanted::of(resources).create(home, name)
    }

    /// Makes groups of that name below others, and limits them.
    ///
    /// # Errors
    /// See [`CgroupError`]; then no group is left.
    pub fn create(home: &Home, name: &str, resources: &LinuxResources) -> Result<Self, CgroupError> {
        let wanted = Wanted::of(resources);
        let groups = wanted.create(home, name)?;
        match wanted.set(&groups) {
            Ok(held) => Ok(Self { groups, wanted, held }),
            Err(error) => {
                groups.remove();
                Err(error)
            }
        }
    }

    /// Opens the groups of that name below others, which a helper of this process has made and has given the limits `set`.
    pub fn find(home: &Home, name: &str, resources: &LinuxResources, set: &[SetLimit]) -> Self {
        let groups = home.child(name);
        let held = Wanted::find(&groups, set);
        Self { groups, wanted: Wanted::of(resources), held }
    }

    /// Returns the groups.
    pub fn groups(&self) -> &Home {
        &self.groups
    }

    /// Has memory counted for each group below these alone too, where v2 counts it at all, and the limits be there to be
    /// read. `groups` are these or below them.
    pub fn pass_on(&self, groups: &Home) {
        if let (None, Some(v2)) = (groups.v1("memory"), groups.v2()) {
            pass_on(v2, "memory");
        }
        self.wanted.pass_on(groups);
    }

    /// Makes the group in which processes are below these, or below others that are below them. The limits can be read
    /// in it.
    ///
    /// # Errors
    /// See [`CgroupError`].
    pub fn create_leaf(&self, above: &Home) -> Result<Home, CgroupError> {
        self.wanted.pass_on(above);
        let leaf = above.create(LEAF)?;
        self.wanted.show(&leaf);
        Ok(leaf)
    }

    /// Lets all processes go on that something inside has frozen or has taken the processor from.
    pub fn thaw(&self) {
        self.groups.thaw();
        self.wanted.show(&self.groups.child(LEAF));
    }

    /// Returns the limits that the manifest asks for, as the kernel has taken them.
    pub fn set_limits(&self) -> Vec<SetLimit> {
        self.held.iter().map(WatchedLimit::set).cloned().collect()
    }

    /// Returns why a limit that the manifest asks for does not hold any more.
    pub fn lost_limit(&self) -> Option<String> {
        self.held.iter().find_map(WatchedLimit::lost)
    }
}

/// A container's groups: those that carry limits and device rules, and in each the one in which the processes are.
///
/// Dropping it leaves the groups as they are; [`remove`](Self::remove) takes them down.
#[derive(Debug)]
pub struct ContainerGroup {
    outer: LimitedGroup,
    leaf: Home,
}

impl ContainerGroup {
    /// Makes the groups of the container `id` below those of this process. `rules` sets device rules before there is a
    /// group below, for then v1 takes none that deny.
    ///
    /// # Errors
    /// Says in words which thing is missing; no group is left then.
    pub fn create(
        id: &str,
        resources: &LinuxResources,
        rules: impl FnOnce(&Home) -> Result<(), String>,
    ) -> Result<Self, String> {
        let home = Home::of_this_process().map_err(|error| error.told())?;
        let outer = LimitedGroup::create(&home, id, resources).map_err(|error| error.told())?;
        let leaf = rules(&outer.groups).and_then(|()| outer.create_leaf(&outer.groups).map_err(|error| error.told()));
        match leaf {
            Ok(leaf) => Ok(Self { outer, leaf }),
            Err(error) => {
                outer.groups.remove();
                Err(error)
            }
        }
    }

    /// Returns the v2 group for processes, into which one can be cloned, see clone3(2).
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

    /// Returns the groups that carry the limits.
    pub fn outer(&self) -> &Home {
        &self.outer.groups
    }

    /// Returns the limits that the manifest asks for, as the kernel has taken them.
    pub fn set_limits(&self) -> Vec<SetLimit> {
        self.outer.set_limits()
    }

    /// Returns why a limit that the manifest asks for does not hold any more.
    pub fn lost_limit(&self) -> Option<String> {
        self.outer.lost_limit()
    }

    /// Lets all processes go on that something inside has frozen: what is frozen on v1 does not end by SIGKILL.
    pub fn thaw(&self) {
        self.outer.thaw();
    }

    /// Kills all processes, frozen ones too; they have not all ended on return.
    pub fn kill(&self) {
        self.outer.groups.kill();
    }

    /// Takes the groups down, with the processes in them; true when nothing is left.
    pub fn remove(&self) -> bool {
        self.outer.groups.remove()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};

    use super::*;

    fn name(what: &str) -> String {
        format!("runner-unit-{what}-{}", std::process::id())
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000000").spawn().unwrap()
    }

    fn remains(name: &str) -> usize {
        Home::of_this_process().unwrap().child(name).hierarchies().len()
    }

    #[test]
    fn a_process_is_added_in_every_hierarchy_and_ends_with_its_groups() {
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
    fn a_limit_that_is_lifted_meanwhile_is_noticed() {
        let name = name("lost");
        let pids = LinuxPidsBuilder::default().limit(7).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();
        let group = ContainerGroup::create(&name, &resources, |_| Ok(())).unwrap();
        let file = group.outer().v1("pids").or(group.outer().v2()).unwrap();
        assert_eq!((file.read("pids.max").unwrap().as_str(), group.lost_limit()), ("7\n", None));
        file.write("pids.max", "max").unwrap();
        let lost = group.lost_limit().unwrap();
        assert!(lost.contains("`pids` under limits") && lost.ends_with("was 7 and is max"), "{lost}");
        // Also by a process that opens the groups later than that.
        let home = Home::of_this_process().unwrap();
        let found = LimitedGroup::find(&home, &name, &resources, &group.set_limits());
        assert_eq!(found.lost_limit().as_ref(), Some(&lost));
        assert!(group.remove());
    }

    #[test]
    fn the_limits_can_be_read_where_the_processes_are_and_are_held_above() {
        let name = name("shown");
        let pids = LinuxPidsBuilder::default().limit(40).build().unwrap();
        let memory = LinuxMemoryBuilder::default().limit(96 << 20).build().unwrap();
        let cpu = LinuxCpuBuilder::default().quota(150_000).period(100_000u64).build().unwrap();
        let resources = LinuxResourcesBuilder::default().pids(pids).memory(memory).cpu(cpu).build().unwrap();
        let group = ContainerGroup::create(&name, &resources, |_| Ok(())).unwrap();
        let read = |groups: &Home| {
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
        // Nobody is held by them: a change is no loss.
        let file = group.leaf.v1("pids").or(group.leaf.v2()).unwrap();
        file.write("pids.max", "max").unwrap();
        assert_eq!(group.lost_limit(), None);
        group.thaw();
        assert_eq!(read(group.outer()), read(&group.leaf));
        assert!(group.remove());
    }

    #[test]
    fn processor_time_that_a_step_has_taken_from_its_own_processes_comes_back() {
        let name = name("quota");
        let group = ContainerGroup::create(&name, &LinuxResources::default(), |_| Ok(())).unwrap();
        let quota = |groups: &Home| groups.v1("cpu").map(|group| group.read("cpu.cfs_quota_us").unwrap());
        if let Some(cpu) = group.leaf.v1("cpu") {
            cpu.write("cpu.cfs_period_us", "1000000").unwrap();
            cpu.write("cpu.cfs_quota_us", "1000").unwrap();
            assert_eq!(quota(&group.leaf).unwrap(), "1000\n");
        }
        group.thaw();
        // On v2 a step's group has no such file without a limit: the controller is not passed on to it.
        assert!(quota(&group.leaf).is_none_or(|quota| quota == "-1\n"));
        assert!(group.remove());
    }
}
