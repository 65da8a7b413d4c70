//! Makes the config.json of a container, as the OCI runtime specification defines it; the same for all runtimes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBuilder, LinuxCpuBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
    LinuxDeviceType, LinuxMemoryBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder, RootBuilder, Spec, SpecBuilder,
};
use rustix::fs::{FileType, major, minor};

use crate::fs::opened::OpenedPaths;
use crate::model::{Container, Device, Limits, MASKED_PATHS, Network, READ_ONLY_PATHS, Unmask};
use crate::seccomp::{Architecture, Kernel};

/// The mounts of every container, unless one of its own has the same target.
const DEFAULT_MOUNTS: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k", "nr_inodes=16384"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k", "nr_inodes=16384"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// The targets of [`DEFAULT_MOUNTS`] that do not lie in another of them: they need a mount point in the root.
pub const DEFAULT_MOUNT_POINTS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// The device rules of every container, beside those for its own devices: it may make any node, which does not allow it to open
/// the node, and use those of `/dev` that reach nothing of the host.
const DEFAULT_RULES: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 10] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    // null, zero, full, random, urandom
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    // tty, ptmx, pts/*. A step's /dev/console, if it has one, is one of the last, and not the host's console.
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// The sysctls of a container's own network namespace: each user may bind each port in it, as with Docker.
const OPEN_PORTS: [(&str, &str); 1] = [("net.ipv4.ip_unprivileged_port_start", "0")];

/// A device node of the host, and its properties there.
#[derive(Debug, Clone)]
pub struct HostDevice {
    /// The node that the runtime makes inside.
    pub node: LinuxDevice,
    /// The rule of the device cgroup for it.
    pub rule: LinuxDeviceCgroup,
}

impl HostDevice {
    /// Returns how to fix the error of a device that existed when the manifest was checked.
    pub fn hint(error: &io::Error) -> Option<String> {
        let gone = error.kind() == io::ErrorKind::NotFound;
        gone.then(|| "`modprobe` its driver or plug it in, or take it out of the manifest's `devices`".to_owned())
    }

    /// Reads the node's properties on the host from the descriptor that was opened when the build began, because a step can put
    /// another node at its path. Before a build, it reads them by the path; symbolic links are not followed.
    ///
    /// # Errors
    /// Where the node does not exist, or is no device.
    pub fn look_up(device: &Device, opened: &OpenedPaths) -> io::Result<Self> {
        let stat = match opened.get(&device.path)? {
            Some(node) => rustix::fs::fstat(&node)?,
            None => rustix::fs::lstat(&device.path)?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => LinuxDeviceType::C,
            FileType::BlockDevice => LinuxDeviceType::B,
            _ => return Err(io::Error::other("it is neither a character nor a block device")),
        };
        let (major, minor) = (i64::from(major(stat.st_rdev)), i64::from(minor(stat.st_rdev)));
        let letters = [(device.access.read, 'r'), (device.access.write, 'w'), (device.access.mknod, 'm')];
        let access: String = letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter).collect();
        let node = LinuxDeviceBuilder::default()
            .path(&device.target)
            .typ(kind)
            .major(major)
            .minor(minor)
            .file_mode(device.mode.unwrap_or(stat.st_mode & 0o7777))
            .uid(device.uid.unwrap_or(stat.st_uid))
            .gid(device.gid.unwrap_or(stat.st_gid))
            .build()
            .map_err(io::Error::other)?;
        let rule = rule(true, kind, Some(major), Some(minor), &access).map_err(io::Error::other)?;
        Ok(Self { node, rule })
    }
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, OciSpecError> {
    let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some(major) = major {
        rule = rule.major(major);
    }
    if let Some(minor) = minor {
        rule = rule.minor(minor);
    }
    rule.build()
}

/// The properties of a container that come from its session, and not from the manifest.
#[derive(Debug)]
pub struct Description<'a> {
    /// The container's id, unique on this host; also the name of its cgroup.
    pub id: &'a str,
    /// The mounted root.
    pub rootfs: &'a Path,
    /// The mounts that the manifest lists, with sources on the host, in order.
    pub mounts: Vec<Mount>,
    /// The container's devices.
    pub devices: &'a [HostDevice],
    /// The number of processes in the container that belong to no step, and do not count against its limit.
    pub own_processes: u64,
}

/// Returns the config.json of a container without the process: each step has its own.
///
/// # Errors
/// None in practice: every required field is set.
pub fn spec(container: &Container, description: Description<'_>) -> Result<Spec, OciSpecError> {
    let own = |target: &str| description.mounts.iter().any(|mount| mount.destination() == Path::new(target));
    let mut mounts = Vec::new();
    for (target, kind, options) in DEFAULT_MOUNTS {
        if !own(target) {
            mounts.push(default_mount(target, kind, options)?);
        }
    }
    let (under_dev, _) = nodes(container, description.devices);
    mounts.extend(description.mounts.into_iter().map(restrained));
    let (masked, read_only) = protected(&mounts, &container.unmask);
    let mut namespaces = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ];
    if container.network == Network::None {
        namespaces.push(LinuxNamespaceType::Network);
    }
    let namespaces = namespaces
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect::<Result<Vec<_>, _>>()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(PathBuf::from(format!("/{}", description.id)))
        .resources(resources(&container.limits, description.own_processes, description.devices)?)
        .devices(under_dev)
        .masked_paths(masked)
        .readonly_paths(read_only)
        .rootfs_propagation("private");
    if container.network == Network::None {
        linux = linux.sysctl(HashMap::from(OPEN_PORTS.map(|(name, value)| (name.to_owned(), value.to_owned()))));
    }
    if let Some(filter) = seccomp(container)? {
        linux = linux.seccomp(filter);
    }
    let linux = linux.build()?;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .hostname(&container.hostname)
        .root(RootBuilder::default().path(description.rootfs).readonly(container.read_only).build()?)
        .mounts(mounts)
        .linux(linux)
        .build()?;
    spec.set_process(None);
    Ok(spec)
}

/// Restrains a proc(5) or sysfs(5) that the manifest lists as much as the default ones, unless the manifest says `rw`, `suid`,
/// `dev` or `exec`.
fn restrained(mut mount: Mount) -> Mount {
    let defaults: &[(&str, &str)] = match mount.typ().as_deref() {
        Some("proc") => &[("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")],
        Some("sysfs") => &[("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("ro", "rw")],
        _ => return mount,
    };
    let mut options = mount.options().clone().unwrap_or_default();
    for (option, opposite) in defaults {
        if !options.iter().any(|written| written == option || written == opposite) {
            options.push((*option).to_owned());
        }
    }
    mount.set_options(Some(options));
    mount
}

/// Returns the masked and the read-only paths, below each proc(5) and sysfs(5) that is mounted.
fn protected(mounts: &[Mount], unmask: &Unmask) -> (Vec<String>, Vec<String>) {
    let all = |paths: &[&str]| {
        let below = |mount: &Mount, usual: &str| -> Vec<String> {
            let target = mount.destination().display().to_string();
            let paths = paths.iter().filter(|path| !unmask.opens(path)).filter_map(|path| path.strip_prefix(usual));
            paths.filter(|rest| rest.starts_with('/')).map(|rest| format!("{target}{rest}")).collect()
        };
        let each = mounts.iter().map(|mount| match mount.typ().as_deref() {
            Some("proc") => below(mount, "/proc"),
            Some("sysfs") => below(mount, "/sys"),
            _ => Vec::new(),
        });
        each.flatten().collect()
    };
    (all(&MASKED_PATHS), all(&READ_ONLY_PATHS))
}

/// Returns the rules of a container's seccomp profile for this machine; none where it is unconfined.
///
/// # Errors
/// On a machine whose system calls runner does not know.
pub fn seccomp(container: &Container) -> Result<Option<LinuxSeccomp>, OciSpecError> {
    let Some(profile) = container.seccomp.profile() else { return Ok(None) };
    let Some(machine) = Architecture::native() else {
        let machine = std::env::consts::ARCH;
        let error = format!("runner has no seccomp filter for {machine}; write `seccomp: unconfined` in the container");
        return Err(OciSpecError::Other(error));
    };
    profile.resolve(&container.capabilities, machine, kernel()?).map(Some)
}

/// Returns the version of the running kernel.
///
/// # Errors
/// Where its release contains none.
pub fn kernel() -> Result<Kernel, OciSpecError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Kernel::of_release(&release)
        .ok_or_else(|| OciSpecError::Other(format!("`{release}`, the kernel's release, has no version in it")))
}

/// Returns two lists: the nodes that runtimes make, and those that the session binds. Runtimes make nodes under `/dev` only, and
/// in no other mount of the container, where they may follow symbolic links.
pub fn nodes<'a>(container: &Container, devices: &'a [HostDevice]) -> (Vec<LinuxDevice>, Vec<&'a LinuxDevice>) {
    let dev = Path::new("/dev");
    let in_mount = |path: &Path| {
        container
            .mounts
            .iter()
            .any(|mount| mount.target != dev && mount.target != path && path.starts_with(&mount.target))
    };
    let under_dev = |device: &&HostDevice| device.node.path().starts_with(dev) && !in_mount(device.node.path());
    (
        devices.iter().filter(under_dev).map(|device| device.node.clone()).collect(),
        devices.iter().filter(|device| !under_dev(device)).map(|device| &device.node).collect(),
    )
}

fn default_mount(target: &str, kind: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(kind)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()
}

/// Returns the limits and device rules of a container.
///
/// # Errors
/// Those of [`spec`].
pub fn resources(limits: &Limits, own_processes: u64, devices: &[HostDevice]) -> Result<LinuxResources, OciSpecError> {
    const PERIOD_MICROSECONDS: u64 = 100_000;
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")?];
    for (kind, major, minor, access) in DEFAULT_RULES {
        rules.push(rule(true, kind, major, minor, access)?);
    }
    rules.extend(devices.iter().map(|device| device.rule.clone()));
    let mut resources = LinuxResourcesBuilder::default().devices(rules);
    if let Some(bytes) = limits.memory {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        // The same limit for memory and swap together, so that swap adds nothing.
        resources = resources.memory(LinuxMemoryBuilder::default().limit(bytes).swap(bytes).build()?);
    }
    if let Some(millicpus) = limits.millicpus {
        let quota = i64::try_from(millicpus.saturating_mul(PERIOD_MICROSECONDS) / 1000).unwrap_or(i64::MAX);
        resources = resources.cpu(LinuxCpuBuilder::default().quota(quota).period(PERIOD_MICROSECONDS).build()?);
    }
    if let Some(most) = limits.pids {
        let most = i64::try_from(most.saturating_add(own_processes).min(Limits::MAX_PIDS)).unwrap_or(i64::MAX);
        resources = resources.pids(LinuxPidsBuilder::default().limit(most).build()?);
    }
    resources.build()
}

#[cfg(test)]
mod tests;
