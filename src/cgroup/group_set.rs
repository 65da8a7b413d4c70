//! Finds and makes one group in every hierarchy: this process' own, and those below it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::dir::GroupDir;
use super::error::CgroupError;
use super::layout::Layout;

/// The leaf below runner's own group on v2 into which runner moves the processes of that group, see `controllers`.
pub const HOST_LEAF: &str = "runner-host";

/// A group in one hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    /// The v1 controllers, `name=NAME` for a hierarchy without one; empty for v2.
    pub controllers: Vec<String>,
    /// Whether the hierarchy is mounted. An unmounted one limits nothing, but a container may not see the host's groups in it either.
    pub is_mounted: bool,
    /// The group.
    pub own: GroupDir,
}

/// One group in each hierarchy of this host.
#[derive(Debug)]
pub struct GroupSet {
    hierarchies: Vec<Hierarchy>,
}

impl Hierarchy {
    /// Returns whether this is the v2 hierarchy.
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Returns whether the hierarchy has this v1 controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl GroupSet {
    /// Returns the groups that contain this process; where it was moved into [`HOST_LEAF`], the group above.
    ///
    /// # Errors
    /// [`CgroupError::Unreachable`] where a group is not visible to this process.
    pub fn of_this_process() -> Result<Self, CgroupError> {
        Self::find_all(|path| path)
    }

    /// Returns the groups at the paths that `choose` derives from those of this process.
    fn find_all(choose: impl Fn(&str) -> &str) -> Result<Self, CgroupError> {
        let layout = Layout::of_this_host().map_err(CgroupError::Read)?;
        let text = fs::read_to_string("/proc/self/cgroup").map_err(CgroupError::Read)?;
        let mut hierarchies = Vec::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            hierarchies.push(find(&layout, controllers, choose(path)).map_err(|source| {
                let hierarchy = if controllers.is_empty() { "cgroup2" } else { controllers };
                CgroupError::Unreachable { hierarchy: hierarchy.into(), path: path.into(), source }
            })?);
        }
        Ok(Self { hierarchies })
    }

    /// Returns the roots of all hierarchies, as this process sees them.
    pub(super) fn roots() -> Result<Self, CgroupError> {
        Self::find_all(|_| "/")
    }

    pub(super) fn of(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }

    pub(super) fn into_hierarchies(self) -> Vec<Hierarchy> {
        self.hierarchies
    }

    /// Returns the group in each hierarchy.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Returns the group of the mounted v1 hierarchy with this controller.
    pub fn v1(&self, controller: &str) -> Option<&GroupDir> {
        let mut mounted = self.hierarchies.iter().filter(|hierarchy| hierarchy.is_mounted);
        mounted.find(|hierarchy| hierarchy.has(controller)).map(|hierarchy| &hierarchy.own)
    }

    /// Returns the group of the v2 hierarchy.
    pub fn v2(&self) -> Option<&GroupDir> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.is_v2()).map(|hierarchy| &hierarchy.own)
    }

    /// Makes a group with this name below each group; all or none.
    ///
    /// # Errors
    /// [`CgroupError::Create`] or, where cpusets cannot be copied, [`CgroupError::Write`].
    pub fn create(&self, name: &str) -> Result<Self, CgroupError> {
        let mut made = Self { hierarchies: Vec::with_capacity(self.hierarchies.len()) };
        for hierarchy in &self.hierarchies {
            match create(hierarchy, name) {
                Ok(child) => made.hierarchies.push(child),
                Err(error) => {
                    made.remove();
                    return Err(error);
                }
            }
        }
        Ok(made)
    }

    /// Opens the groups with this name below each group, as far as they exist.
    pub fn child(&self, name: &str) -> Self {
        let child = |hierarchy: &Hierarchy| Some(hierarchy.with(hierarchy.own.child(name).ok()?));
        Self { hierarchies: self.hierarchies.iter().filter_map(child).collect() }
    }

    /// Moves this process, which has one thread, into each group.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn join(&self) -> Result<(), CgroupError> {
        self.join_v1()?;
        self.v2().map_or(Ok(()), |v2| write(v2, "cgroup.procs", "0"))
    }

    /// Moves the calling thread into each v1 group. A thread can move itself at once, see cgroup_attach_lock() in
    /// kernel/cgroup/cgroup.c; to move a process with all its threads takes an RCU grace period, 5 to 15 ms.
    ///
    /// # Errors
    /// [`CgroupError::Write`].
    pub fn join_v1(&self) -> Result<(), CgroupError> {
        let v1 = self.hierarchies.iter().filter(|hierarchy| !hierarchy.is_v2());
        v1.map(|hierarchy| &hierarchy.own).try_for_each(|group| write(group, "tasks", "0"))
    }

    /// Moves another process, with all its threads, into each group.
    #[cfg(test)]
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        let number = pid.to_string();
        self.hierarchies.iter().try_for_each(|hierarchy| write(&hierarchy.own, "cgroup.procs", &number))
    }
}

impl Hierarchy {
    pub(super) fn with(&self, own: GroupDir) -> Self {
        Self { controllers: self.controllers.clone(), is_mounted: self.is_mounted, own }
    }
}

/// Writes to a file of a group.
///
/// # Errors
/// [`CgroupError::Write`].
pub(super) fn write(group: &GroupDir, name: &str, value: &str) -> Result<(), CgroupError> {
    group.write(name, value).map_err(|source| CgroupError::Write {
        value: value.into(),
        file: group.path().join(name),
        source,
    })
}

fn create(hierarchy: &Hierarchy, name: &str) -> Result<Hierarchy, CgroupError> {
    let parent = &hierarchy.own;
    let own = parent.create(name).map_err(|source| not_created(parent, name, source))?;
    // On v2 a new group below a threaded one is "domain invalid", and accepts no process.
    if hierarchy.is_v2() && own.read("cgroup.type").is_ok_and(|kind| kind.trim() == "domain invalid") {
        let _ = own.remove();
        let kind = parent.read("cgroup.type").unwrap_or_default().trim().to_owned();
        return Err(CgroupError::NotADomain { group: parent.path().to_owned(), kind });
    }
    if hierarchy.has("cpuset") {
        // Without these values no process can be moved into a new v1 group.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let copied = parent.read(file).map_err(CgroupError::Read).and_then(|all| write(&own, file, all.trim()));
            if let Err(error) = copied {
                let _ = own.remove();
                return Err(error);
            }
        }
    }
    Ok(hierarchy.with(own))
}

/// Returns why a group cannot be made. On v2 the kernel reports `EAGAIN` where this group, or one above it, allows no more
/// groups below, or no more levels of them, see cgroup_check_hierarchy_limits() in kernel/cgroup/cgroup.c.
fn not_created(parent: &GroupDir, name: &str, source: io::Error) -> CgroupError {
    let path = parent.path().join(name);
    if source.kind() == io::ErrorKind::WouldBlock
        && let Some((file, most, is_depth)) = full_group(parent)
    {
        return CgroupError::Full { path, file, most, is_depth };
    }
    CgroupError::Create { path, source }
}

/// Returns the limit on groups that a new one below this would exceed, and whether it limits levels.
fn full_group(parent: &GroupDir) -> Option<(PathBuf, u64, bool)> {
    let mut group = parent.try_clone().ok()?;
    for level in 1..=parent.path().components().count() as u64 {
        let number = |file: &str| group.read(file).ok()?.trim().parse::<u64>().ok();
        let stat = group.words("cgroup.stat");
        let below = stat.iter().position(|word| word == "nr_descendants");
        let below: u64 = below.and_then(|at| stat.get(at + 1)?.parse().ok()).unwrap_or_default();
        for (file, used, is_depth) in [("cgroup.max.descendants", below + 1, false), ("cgroup.max.depth", level, true)]
        {
            if let Some(most) = number(file).filter(|most| *most < used) {
                return Some((group.path().join(file), most, is_depth));
            }
        }
        group = group.parent().ok()?;
    }
    None
}

fn find(layout: &Layout, controllers: &str, path: &str) -> io::Result<Hierarchy> {
    let names: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let path = match Path::new(path).strip_prefix("/") {
        Ok(path) if !path.components().any(|part| part == std::path::Component::ParentDir) => path,
        _ => return Err(io::Error::other("it lies outside of this process' cgroup namespace")),
    };
    let path = match path.parent() {
        Some(parent) if names.is_empty() && path.ends_with(HOST_LEAF) => parent,
        _ => path,
    };
    let controller = names.first().map_or("", String::as_str);
    if let Some((point, below)) = layout.locate(controller, path) {
        let root = openat(CWD, point, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let own = GroupDir::open_at(std::os::fd::AsFd::as_fd(&root), point, below)?;
        return Ok(Hierarchy { controllers: names, is_mounted: true, own });
    }
    let root = mount(&names)?;
    let shown = Path::new("/").join(controllers);
    let own = GroupDir::open_at(std::os::fd::AsFd::as_fd(&root), &shown, path)?;
    let is_mounted = layout.is_mounted(controller);
    Ok(Hierarchy { controllers: names, is_mounted, own })
}

/// Opens a hierarchy, mounted or not, by a detached mount, which ends with its descriptors.
pub(super) fn mount(controllers: &[String]) -> io::Result<OwnedFd> {
    let context = fsopen(if controllers.is_empty() { "cgroup2" } else { "cgroup" }, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for controller in controllers {
        match controller.strip_prefix("name=") {
            Some(name) => fsconfig_set_string(&context, "name", name)?,
            None => fsconfig_set_flag(&context, controller.as_str())?,
        }
    }
    if controllers.iter().all(|controller| controller.starts_with("name=")) && !controllers.is_empty() {
        fsconfig_set_flag(&context, "none")?;
    }
    fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_in_every_hierarchy_that_the_kernel_names() {
        let home = GroupSet::of_this_process().unwrap();
        let named = fs::read_to_string("/proc/self/cgroup").unwrap().lines().count();
        assert_eq!(home.hierarchies().len(), named);
        let own = std::process::id().to_string();
        for hierarchy in home.hierarchies() {
            let all = hierarchy.own.read("cgroup.procs").unwrap();
            assert!(all.lines().any(|line| line == own), "{}", hierarchy.own.path().display());
        }
    }

    #[test]
    fn an_unmounted_hierarchy_is_found_too() {
        for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
            let found = find(&Layout::default(), controllers, path).unwrap();
            assert!(!found.is_mounted && found.own.has("cgroup.procs"), "{line}");
        }
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_refused() {
        let error = find(&Layout::default(), "", "/../other").unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
    }
}
