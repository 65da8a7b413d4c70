//! The cgroups of a container: one in each hierarchy that is mounted, with the limits of config.json.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Spec};

use crate::cgroup::Layout;
use crate::error::doing;
use crate::runtime::cgroups;

/// A container's groups, by its id.
pub struct Group {
    id: String,
    directories: Vec<PathBuf>,
}

impl Group {
    /// Makes them.
    ///
    /// # Errors
    /// Where a group cannot be made or a limit not be set; what was made so far is removed.
    pub fn create(id: &str, spec: &Spec) -> Result<Self, Box<dyn Error>> {
        let layout = Layout::of_this_host()?;
        let directories = layout.mounts().iter().map(|root| root.join(id)).collect();
        let group = Self { id: id.to_owned(), directories };
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        let made = group.directories.iter().try_for_each(|directory| make(directory, &resources));
        match made {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error.into())
            }
        }
    }

    /// Puts a process into each.
    ///
    /// # Errors
    /// With the group that does not take it.
    pub fn add(&self, pid: i32) -> Result<(), Box<dyn Error>> {
        for directory in &self.directories {
            set(directory, "cgroup.procs", &pid.to_string())?;
        }
        Ok(())
    }

    /// Removes them with the processes in them; true when nothing is left.
    pub fn remove(&self) -> bool {
        cgroups::remove_container(&self.id)
    }
}

fn make(directory: &Path, resources: &LinuxResources) -> std::io::Result<()> {
    fs::create_dir(directory).map_err(doing(format_args!("make the cgroup {}", directory.display())))?;
    let has = |file: &str| directory.join(file).exists();
    // A v1 cpuset takes no process before these are set.
    for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|file| has(file)) {
        if let Some(above) = directory.parent().map(|above| above.join(file)).filter(|above| above.exists()) {
            fs::write(directory.join(file), fs::read(&above)?).map_err(doing(format_args!("set {file}")))?;
        }
    }
    if let Some(pids) = resources.pids() {
        set_where(directory, "pids.max", &pids.limit().to_string())?;
    }
    if let Some(bytes) = resources.memory().as_ref().and_then(|memory| memory.limit()) {
        for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"] {
            set_where(directory, file, &bytes.to_string())?;
        }
        set_where(directory, "memory.swap.max", "0")?;
    }
    if let Some((quota, period)) = resources.cpu().as_ref().and_then(|cpu| Some((cpu.quota()?, cpu.period()?))) {
        set_where(directory, "cpu.cfs_period_us", &period.to_string())?;
        set_where(directory, "cpu.cfs_quota_us", &quota.to_string())?;
        set_where(directory, "cpu.max", &format!("{quota} {period}"))?;
    }
    Ok(())
}

/// Sets a limit in the hierarchy that has it.
fn set_where(directory: &Path, file: &str, value: &str) -> std::io::Result<()> {
    if directory.join(file).exists() { set(directory, file, value) } else { Ok(()) }
}

fn set(directory: &Path, file: &str, value: &str) -> std::io::Result<()> {
    let path = directory.join(file);
    fs::write(&path, value).map_err(doing(format_args!("write {value} to {}", path.display())))
}
