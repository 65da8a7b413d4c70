//! Checks of containers: the root filesystem, and the settings that steps run under.

mod images;
mod rootfs;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::build::{Container, Device, Limits, Mount, Network, Principal, Scratch, User};
use super::capabilities::DEFAULT_CAPABILITIES;
use super::check::Check;
use super::quantity;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{ContainerDef, DeviceDef, LimitsDef, MountDef, Named, Reference, ScratchDef};

/// The definitions of the manifest that containers and steps refer to by name.
pub(super) struct Definitions<'m> {
    /// Mounts by name.
    pub mounts: BTreeMap<&'m str, Mount>,
    /// Devices by name.
    pub devices: BTreeMap<&'m str, Device>,
    /// The indices of steps by name, the first of each name.
    pub steps: HashMap<&'m str, usize>,
    /// The snapshot steps, by index, and their names, in order.
    pub snapshots: Vec<(usize, &'m str)>,
    /// The steps' outputs, resolved without links.
    pub outputs: HashMap<PathBuf, &'m str>,
}

/// The fewest open files with which a step starts: three are its standard streams, shells use numbers from 10 on, and
/// runc needs some.
const MIN_NOFILE: u64 = 16;

/// The least memory with which a container starts, and with which the kernel does not take minutes to make room for
/// its first program.
const MIN_MEMORY: u64 = 6 << 20;
/// The longest name that sethostname(2) accepts.
const MAX_HOSTNAME: usize = 64;

impl Check<'_> {
    pub(super) fn containers(&mut self, defs: &Named<ContainerDef>, known: &Definitions<'_>) -> Vec<Container> {
        let top = Trail::TOP.key("containers");
        defs.iter().map(|(name, def)| self.container(name, def, &top.key(name), known)).collect()
    }

    fn container(&mut self, name: &str, def: &ContainerDef, at: &Trail<'_>, known: &Definitions<'_>) -> Container {
        self.name(|| Place::key(at.path()), "container", name);
        let capabilities = self.capabilities(&DEFAULT_CAPABILITIES, def.capabilities.as_ref(), &at.key("capabilities"));
        Container {
            name: name.to_owned(),
            rootfs: self.rootfs(def.rootfs.as_ref(), at, known),
            hostname: self.hostname(name, def.hostname.as_deref(), at),
            read_only: def.read_only.unwrap_or(false),
            network: self.network(def.network.as_deref(), &at.key("network")).unwrap_or(Network::None),
            user: match &def.user {
                Some(user) => self.user(&at.key("user"), user),
                None => User { user: Principal::Id(0), group: Some(Principal::Id(0)) },
            },
            cwd: match &def.cwd {
                Some(cwd) => self.absolute(&at.key("cwd"), "cwd", cwd),
                None => PathBuf::from("/"),
            },
            env: self.env(&at.key("env"), def.env.as_ref()),
            seccomp: self.seccomp(def.seccomp.as_deref(), &at.key("seccomp"), &capabilities),
            capabilities,
            no_new_privileges: def.no_new_privileges.unwrap_or(true),
            mounts: self.mounts(def.mounts.as_deref(), &at.key("mounts"), known, &[]),
            devices: self.devices(def.devices.as_deref(), &at.key("devices"), known, &[]),
            limits: self.limits(def.limits.as_ref(), &at.key("limits")),
            scratch: self.scratch(def.scratch.as_ref(), &at.key("scratch")),
            unmask: self.unmask(def.unmask.as_ref(), &at.key("unmask")),
            shell: self.shell(def.shell.as_ref(), &at.key("shell")),
            has_scripts: false,
            init: def.init.unwrap_or(false),
            xino: def.xino.unwrap_or(true),
            variant_of: None,
            checkpoint: self.checkpointing(def.checkpoint.as_deref(), &at.key("checkpoint")),
        }
    }

    fn hostname(&mut self, name: &str, hostname: Option<&str>, at: &Trail<'_>) -> String {
        let Some(hostname) = hostname else {
            if name.len() > MAX_HOSTNAME {
                let message = format!("the container's name is too long for its host name ({MAX_HOSTNAME} characters)");
                let problem = Problem::new(Place::key(at.path()), message).label("the default host name");
                self.add(problem.help("write a `hostname`, or a shorter name"));
            }
            return name.to_owned();
        };
        let at = at.key("hostname");
        let wrong = hostname.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')));
        let problem = match wrong {
            _ if hostname.is_empty() => Problem::new(&at, "the host name is empty"),
            Some(wrong) => Problem::new(&at, format!("the host name {hostname:?} has {wrong:?} in it")),
            None if hostname.len() > MAX_HOSTNAME => {
                Problem::new(&at, format!("the host name is longer than {MAX_HOSTNAME} characters"))
            }
            None => return hostname.to_owned(),
        };
        self.add(problem.label("1 to 64 letters, digits, `-` and `.`"));
        hostname.to_owned()
    }

    pub(super) fn network(&mut self, word: Option<&str>, at: &Trail<'_>) -> Option<Network> {
        let networks = [("none", Network::None), ("host", Network::Host)];
        word.map(|word| self.choice(at, "network", word, &networks, Network::None))
    }

    /// Returns the mounts of a list. Those of a step come on top of `others`, those of its container.
    pub(super) fn mounts(
        &mut self,
        defs: Option<&[Reference<MountDef>]>,
        list: &Trail<'_>,
        known: &Definitions<'_>,
        others: &[Mount],
    ) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        let mut targets: HashMap<PathBuf, usize> = HashMap::new();
        for (n, reference) in defs.iter().copied().flatten().enumerate() {
            let at = list.index(n);
            let mount = match reference {
                Reference::Here(def) => self.mount(def, &at, known),
                Reference::Name(name) => match known.mounts.get(name.as_str()) {
                    Some(mount) => mount.clone(),
                    None => {
                        if !self.is_unreadable("mounts", name) {
                            self.unknown(&at, "mount", name, known.mounts.keys().copied());
                        }
                        continue;
                    }
                },
            };
            let is_known = !mount.target.as_os_str().is_empty();
            if let Some(first) = targets.get(&mount.target).filter(|_| is_known) {
                let message = format!("two mounts of the container have the target `{}`", mount.target.display());
                let problem = Problem::new(&at, message).label("this would hide the first");
                self.add(problem.related(&list.index(*first), "the first").help("give one of them another target"));
            }
            if is_known && others.iter().any(|other| other.target == mount.target) {
                let message = format!("the container has a mount at `{}` already", mount.target.display());
                let problem = Problem::new(&at, message).label("this would hide it");
                self.add(problem.help("give this one another target"));
            }
            targets.entry(mount.target.clone()).or_insert(n);
            mounts.push(mount);
        }
        let all = [others, &mounts].concat();
        for mount in &mounts {
            if let Some(n) = targets.get(&mount.target) {
                self.mount_point(&list.index(*n), mount, &all, &known.mounts);
            }
        }
        mounts
    }

    /// Returns the devices of a list. Those of a step are added to `others`, those of its container.
    pub(super) fn devices(
        &mut self,
        defs: Option<&[Reference<DeviceDef>]>,
        list: &Trail<'_>,
        known: &Definitions<'_>,
        others: &[Device],
    ) -> Vec<Device> {
        let mut devices: Vec<Device> = Vec::new();
        let mut targets: HashMap<PathBuf, usize> = HashMap::new();
        for (n, reference) in defs.iter().copied().flatten().enumerate() {
            let at = list.index(n);
            let device = match reference {
                Reference::Here(def) => self.device(def, &at),
                Reference::Name(path) if path.starts_with('/') => self.device_at(&at, path),
                Reference::Name(name) => match known.devices.get(name.as_str()) {
                    Some(device) => device.clone(),
                    None => {
                        if !self.is_unreadable("devices", name) {
                            self.unknown(&at, "device", name, known.devices.keys().copied());
                        }
                        continue;
                    }
                },
            };
            let is_known = !device.target.as_os_str().is_empty();
            if let Some(first) = targets.get(&device.target).filter(|_| is_known) {
                let message = format!("two devices of the container have the target `{}`", device.target.display());
                let problem = Problem::new(&at, message).label("again");
                self.add(problem.related(&list.index(*first), "the first").help("keep one of them"));
            }
            if is_known && others.iter().any(|other| other.target == device.target) {
                let message = format!("the container has a device at `{}` already", device.target.display());
                self.add(Problem::new(&at, message).label("again").help("remove one of them"));
            }
            targets.entry(device.target.clone()).or_insert(n);
            devices.push(device);
        }
        devices
    }

    /// Returns whether the definition of `name` exists but could not be read.
    pub(super) fn is_unreadable(&self, section: &str, name: &str) -> bool {
        !self.unknown_paths.is_empty() && self.unknown_paths.covers(&Trail::TOP.key(section).key(name).path())
    }

    fn limits(&mut self, def: Option<&LimitsDef>, at: &Trail<'_>) -> Limits {
        let mut limits = Limits { nofile: None, memory: None, millicpus: None, pids: None };
        let Some(def) = def else { return limits };
        for (key, value, least) in [("nofile", def.nofile, MIN_NOFILE), ("pids", def.pids, 1)] {
            if let Some(value) = value.filter(|value| *value < least) {
                let problem = Problem::new(&at.key(key), format!("`{key}` is {value}")).label("nothing could run");
                self.add(problem.help(format!("write {least} or more, or leave it out")));
            }
        }
        if let Some(value) = def.pids.filter(|value| *value > Limits::MAX_PIDS) {
            let most = Limits::MAX_PIDS;
            let problem = Problem::new(&at.key("pids"), format!("`pids` is {value}")).label("more than the kernel has");
            self.add(problem.help(format!("write {most} or less, or leave it out")));
        }
        limits.nofile = def.nofile;
        limits.pids = def.pids;
        limits.memory =
            def.memory.as_ref().and_then(|text| self.quantity(&at.key("memory"), "size", text, quantity::size));
        if limits.memory.is_some_and(|bytes| bytes < MIN_MEMORY) {
            let text = def.memory.as_ref().map_or("", |text| text);
            let problem = Problem::new(&at.key("memory"), format!("`memory` is {text}")).label("nothing could run");
            self.add(problem.help("write 6MiB or more, and more if the steps need it; or leave it out"));
        }
        limits.millicpus =
            def.cpus.as_ref().and_then(|text| self.quantity(&at.key("cpus"), "number", text, quantity::millicpus));
        limits
    }

    /// Parses a text. If it is not valid, adds a problem with the form to write.
    pub(super) fn quantity<T>(
        &mut self,
        at: &Trail<'_>,
        what: &str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text) {
            Ok(quantity) => Some(quantity),
            Err(help) => {
                self.add(Problem::new(at, format!("{text:?} is not a valid {what}")).label("here").help(help));
                None
            }
        }
    }

    fn scratch(&mut self, def: Option<&ScratchDef>, at: &Trail<'_>) -> Scratch {
        let default = Scratch::Default;
        let Some(def) = def else { return default };
        match (&def.tmpfs, def.disk) {
            (Some(size), None) => {
                self.quantity(&at.key("tmpfs"), "size", size, quantity::size).map_or(default, Scratch::Tmpfs)
            }
            (None, Some(true)) => Scratch::Disk,
            (None, Some(false)) => {
                let problem = Problem::new(&at.key("disk"), "`disk: false` is not a scratch").label("this is false");
                self.add(problem.help("write `disk: true`, or `tmpfs: SIZE`"));
                default
            }
            (Some(_), Some(_)) => {
                let problem = Problem::new(Place::key(at.key("disk").path()), "the scratch is in two places");
                let problem = problem.label("on disk").related(Place::key(at.key("tmpfs").path()), "and in memory");
                self.add(problem.help("keep one of `tmpfs` and `disk`"));
                default
            }
            (None, None) => {
                if !["tmpfs", "disk"].iter().any(|key| self.unknown_paths.covers(&at.key(key).path())) {
                    let problem = Problem::new(at, "the scratch is nowhere").label("a place is missing");
                    self.add(problem.help("write `tmpfs: SIZE` or `disk: true`, or leave `scratch` out"));
                }
                default
            }
        }
    }
}
