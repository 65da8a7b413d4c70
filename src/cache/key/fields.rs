//! Makes the fields of a key, as the table of the parent module lists them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{FORMAT, HostInputs, Link, Parents, StepInputs};
use crate::digest::Digest;
use crate::model::{
    Action, Build, Capability, Compression, Container, Copy, CopySource, Device, Export, Limits, Mount, MountKind,
    Network, OciImage, OciLayers, Principal, Scratch, Seccomp, Secret, Snapshot, SnapshotMode, Step, StepId, Unmask,
    User, interpreter,
};
use crate::plan::Segment;
use crate::seccomp::Profile;

/// The field that names the parents of the root. Before format 6 a group had that name, with a field for each parent.
const BELOW: &str = "below";

/// Named values, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyFields(BTreeMap<String, String>);

impl KeyFields {
    /// Returns the key. Each name and value is preceded by its length, so that no two lists of fields have the same
    /// bytes.
    pub fn key(&self) -> Digest {
        let mut bytes = Vec::new();
        for (name, value) in &self.0 {
            for text in [name, value] {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        Digest::of_bytes(&bytes)
    }

    /// Returns the value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns all names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns these fields with the parents of the root. Only then they make a key.
    pub fn with_base(&self, below: &Parents) -> Self {
        let mut fields = self.clone();
        if let Some(digest) = below.digest() {
            fields.set(BELOW, digest.to_string());
        }
        fields
    }

    /// Returns the digest of the root's parents; none where the fields list the parents, or have none.
    pub fn below(&self) -> Option<Digest> {
        self.get(BELOW)?.parse().ok()
    }

    /// Returns the layers that the root is built on, where the fields list them, as they did before format 6.
    pub fn listed_below(&self) -> Parents {
        let listed = self.iter().filter(|(name, _)| *name != BELOW && is_below(name));
        listed.map(|(name, id)| Link { name: name.to_owned(), id: id.to_owned() }).collect()
    }

    /// Returns these fields without the root's parents.
    pub fn without_base(&self) -> Self {
        Self(self.0.iter().filter(|(name, _)| !is_below(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Returns these fields without the contents of copied files and of the mounts with these targets.
    pub fn without_sources(&self, targets: &[PathBuf]) -> Self {
        let is_copied = |name: &str| match name.split_once('/') {
            Some(("content", target)) => targets.iter().any(|known| Path::new(target) == known),
            Some(("step", _)) => name.split('/').nth(2) == Some("content"),
            _ => false,
        };
        Self(self.0.iter().filter(|(name, _)| !is_copied(name)).map(|(n, v)| (n.clone(), v.clone())).collect())
    }

    /// Whether they belong to a checkpoint.
    pub fn is_of_checkpoint(&self) -> bool {
        self.get("checkpoint").is_some()
    }

    /// Returns the fields of a checkpoint after the first `steps` steps of the segment that has these fields.
    pub fn of_checkpoint(&self, steps: usize) -> Self {
        let counts = |name: &str| match name.split_once('/') {
            Some(("step", rest)) => {
                rest.split('/').next().and_then(|n| n.parse().ok()).is_some_and(|n: usize| n < steps)
            }
            _ => !matches!(name, "snapshot" | "writer"),
        };
        let mut fields =
            Self(self.0.iter().filter(|(name, _)| counts(name)).map(|(n, v)| (n.clone(), v.clone())).collect());
        fields.set("checkpoint", steps.to_string());
        fields
    }

    pub(super) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }
}

/// Whether a field names parents of the root.
pub fn is_below(name: &str) -> bool {
    name.split_once('/').map_or(name, |(group, _)| group) == BELOW
}

/// Returns the fields of a segment's key, without its parents.
pub fn fields(build: &Build, segment: &Segment, inputs: &HostInputs) -> KeyFields {
    let mut fields = KeyFields::default();
    fields.set("format", FORMAT);
    if segment.is_export_of_layers(build) {
        return exports_of_layers(fields, build, segment, inputs);
    }
    fields.set("runtime", inputs.runtime.clone());
    fields.set("source_date_epoch", epoch(build));
    container(&mut fields, build.container(segment.container), inputs);
    for (n, id) in segment.steps.iter().enumerate() {
        let step = build.step(*id);
        match &step.action {
            Action::Snapshot(snapshot) => {
                fields.set("writer", inputs.writer.clone());
                fields.set("snapshot", self::snapshot(snapshot));
            }
            _ => {
                let shell = build.container(segment.container).shell.as_ref();
                let at = format!("step/{n:05}");
                self::step(&mut fields, &at, step, shell, after(build, segment, n));
                own_settings(&mut fields, &at, build, step, inputs.of_steps.get(id));
                for ((_, source), content) in inputs.copied.range((n, 0)..(n + 1, 0)) {
                    fields.set(format!("{at}/content/{source:05}"), content.clone());
                }
            }
        }
    }
    export_writers(&mut fields, segment, inputs);
    fields
}

fn export_writers(fields: &mut KeyFields, segment: &Segment, inputs: &HostInputs) {
    for (n, writer) in segment.steps.iter().enumerate().filter_map(|(n, id)| Some((n, inputs.export_writers.get(id)?)))
    {
        fields.set(format!("step/{n:05}/writer"), writer.clone());
    }
}

fn epoch(build: &Build) -> String {
    build.source_date_epoch.map_or("none".to_owned(), |seconds| seconds.to_string())
}

/// Returns the fields of an export that reads only layers: no process sees the container.
fn exports_of_layers(mut fields: KeyFields, build: &Build, segment: &Segment, inputs: &HostInputs) -> KeyFields {
    fields.set("source_date_epoch", epoch(build));
    for id in &segment.steps {
        step(&mut fields, "step/00000", build.step(*id), None, None);
    }
    export_writers(&mut fields, segment, inputs);
    fields
}

/// Returns the definition of a container and one of its steps as fields, without those of the host: fields to be
/// compared, which make no key.
pub fn of_step(build: &Build, id: StepId) -> KeyFields {
    let (mut fields, step) = (KeyFields::default(), build.step(id));
    container(&mut fields, build.container(step.container), &HostInputs::default());
    self::step(&mut fields, "step/00000", step, build.container(step.container).shell.as_ref(), None);
    own_settings(&mut fields, "step/00000", build, step, None);
    fields
}

fn container(fields: &mut KeyFields, container: &Container, inputs: &HostInputs) {
    fields.set("hostname", container.hostname.clone());
    fields.set("network", network(container.network));
    fields.set("user", user(&container.user));
    fields.set("cwd", path(&container.cwd));
    env(fields, "env", &container.env);
    fields.set("capabilities", capabilities(&container.capabilities));
    fields.set("no_new_privileges", container.no_new_privileges.to_string());
    fields.set("seccomp", seccomp(&container.seccomp));
    match &container.unmask {
        Unmask::All => fields.set("unmask", "all"),
        Unmask::Paths(paths) if !paths.is_empty() => {
            fields.set("unmask", paths.iter().map(|path| self::path(path)).collect::<Vec<_>>().join(" "));
        }
        Unmask::Paths(_) => {}
    }
    if container.init {
        fields.set("init", "true");
    }
    fields.set("xino", container.xino.to_string());
    fields.set("read_only", container.read_only.to_string());
    let limits = container.limits;
    fields.set("limits/nofile", limits.nofile.unwrap_or(Limits::DEFAULT_NOFILE).to_string());
    let pids = limits.pids.unwrap_or(Limits::DEFAULT_PIDS);
    let optional = [("memory", limits.memory), ("millicpus", limits.millicpus), ("pids", Some(pids))];
    for (name, limit) in optional.into_iter().filter_map(|(name, limit)| Some((name, limit?))) {
        fields.set(format!("limits/{name}"), limit.to_string());
    }
    for mount in &container.mounts {
        fields.set(format!("mount/{}", path(&mount.target)), self::mount(mount));
    }
    if inputs.lacks_user_attributes && container.scratch != Scratch::Disk {
        fields.set("user_attributes", "none");
    }
    for (target, digest) in &inputs.contents {
        fields.set(format!("content/{}", path(target)), digest.to_string());
    }
    for (target, content) in &inputs.mounted {
        fields.set(format!("content/{}", path(target)), content.clone());
    }
    for (target, node) in &inputs.nodes {
        fields.set(format!("node/{}", path(target)), node.clone());
    }
    for device in &container.devices {
        fields.set(format!("device/{}", path(&device.target)), self::device(device));
    }
}

fn step(fields: &mut KeyFields, at: &str, step: &Step, shell: Option<&Vec<String>>, after: Option<String>) {
    match &step.action {
        Action::Run(script) => {
            fields.set(format!("{at}/run"), script.clone());
            if let Some(shell) = step.shell.as_ref().or(shell).filter(|_| interpreter(script).is_none()) {
                fields.set(format!("{at}/shell"), quoted(shell));
            }
        }
        Action::Exec(argv) => fields.set(format!("{at}/exec"), quoted(argv)),
        Action::Copy(copy) => fields.set(format!("{at}/copy"), self::copy(copy)),
        Action::Snapshot(_) => {}
        Action::Export(export) => fields.set(format!("{at}/export"), self::export(export)),
    }
    env(fields, &format!("{at}/env"), &step.env);
    if let Some(cwd) = &step.cwd {
        fields.set(format!("{at}/cwd"), path(cwd));
    }
    if let Some(user) = &step.user {
        fields.set(format!("{at}/user"), self::user(user));
    }
    if let Some(after) = after {
        fields.set(format!("{at}/after"), after);
    }
}

/// Adds the settings that a step has for itself.
fn own_settings(fields: &mut KeyFields, at: &str, build: &Build, step: &Step, inputs: Option<&StepInputs>) {
    let (of, own) = (build.container(step.container), build.container(step.settings()));
    if own.network != of.network {
        fields.set(format!("{at}/network"), network(own.network));
    }
    if own.capabilities != of.capabilities {
        fields.set(format!("{at}/capabilities"), capabilities(&own.capabilities));
    }
    for mount in build.own_mounts(step) {
        fields.set(format!("{at}/mount/{}", path(&mount.target)), self::mount(mount));
    }
    for device in build.own_devices(step) {
        fields.set(format!("{at}/device/{}", path(&device.target)), self::device(device));
    }
    for (target, digest) in inputs.iter().flat_map(|inputs| &inputs.contents) {
        fields.set(format!("{at}/content/{}", path(target)), digest.to_string());
    }
    for (target, content) in inputs.iter().flat_map(|inputs| &inputs.mounted) {
        fields.set(format!("{at}/content/{}", path(target)), content.clone());
    }
    for (target, node) in inputs.iter().flat_map(|inputs| &inputs.nodes) {
        fields.set(format!("{at}/node/{}", path(target)), node.clone());
    }
}

fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
    }
}

fn capabilities(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// Returns the numbers of the segment's steps that the `n`th waits for; none where it waits for just the one before.
fn after(build: &Build, segment: &Segment, n: usize) -> Option<String> {
    let position = |needed_step: &StepId| segment.steps.iter().position(|step| step == needed_step);
    let needed: Vec<usize> = build.step(segment.steps[n]).needs.iter().filter_map(position).collect();
    let default: Vec<usize> = n.checked_sub(1).into_iter().collect();
    (needed != default).then(|| needed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

fn env(fields: &mut KeyFields, at: &str, env: &BTreeMap<String, String>) {
    for (name, value) in env {
        fields.set(format!("{at}/{name}"), value.clone());
    }
}

/// Returns a value for a profile by its content, not its path; the default one may differ between runners.
fn seccomp(seccomp: &Seccomp) -> String {
    static STANDARD: OnceLock<Digest> = OnceLock::new();
    match seccomp {
        Seccomp::Default => format!("default {}", STANDARD.get_or_init(|| Profile::standard().digest())),
        Seccomp::Unconfined => "unconfined".to_owned(),
        Seccomp::Profile(profile, _) => profile.digest().to_string(),
    }
}

fn user(user: &User) -> String {
    let principal = |principal: &Principal| match principal {
        Principal::Id(id) => id.to_string(),
        Principal::Name(name) => name.clone(),
    };
    match &user.group {
        Some(group) => format!("{}:{}", principal(&user.user), principal(group)),
        None => principal(&user.user),
    }
}

fn mount(mount: &Mount) -> String {
    let what = match &mount.kind {
        MountKind::Bind(_) => "bind".to_owned(),
        MountKind::Tmpfs => "tmpfs".to_owned(),
        MountKind::Cache(cache) => format!("cache {:?}", cache.id),
        // A file's id is its target, because its path belongs to the host.
        MountKind::Secret(Secret::File(_)) => "secret".to_owned(),
        MountKind::Secret(Secret::Variable(name)) => format!("secret {name:?}"),
        MountKind::Snapshot { path: shown, .. } => format!("snapshot {:?}", path(shown)),
        // The name of an image belongs to the host.
        MountKind::Image(_) => "image".to_owned(),
        // Never the agent or its path: it makes a step succeed, and must not change its result.
        MountKind::Ssh(_) => "ssh".to_owned(),
        MountKind::Kernel(kind, source) => format!("{kind} {source:?}"),
    };
    let ignored = if mount.ignored { " ignored" } else { "" };
    format!("{what}{ignored} {}", quoted(&mount.options))
}

fn device(device: &Device) -> String {
    let mut text = path(&device.path) + " ";
    let access = device.access;
    let letters = [(access.read, 'r'), (access.write, 'w'), (access.mknod, 'm')];
    text.extend(letters.iter().filter(|(on, _)| *on).map(|(_, letter)| letter));
    let optional = [("uid", device.uid), ("gid", device.gid)];
    for (name, id) in optional.into_iter().filter_map(|(name, id)| Some((name, id?))) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {name}={id}");
    }
    if let Some(mode) = device.mode {
        let _ = write!(text, " mode={mode:04o}");
    }
    text
}

/// Returns a copy without the step that its files come from, and without the directories of the host's files: their contents are
/// fields of their own.
fn copy(copy: &Copy) -> String {
    let source = |source: &PathBuf| match copy.from {
        CopySource::Snapshot(_) => path(source),
        CopySource::Host => copy.name(source).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let from = match copy.from {
        CopySource::Snapshot(_) => "snapshot",
        CopySource::Host => "host",
    };
    let sources: Vec<String> = copy.sources.iter().map(source).collect();
    let into = if copy.into { "into" } else { "to" };
    let mut text = format!("{from} {} {into} {:?}", quoted(&sources), path(&copy.target));
    if let Some(owner) = &copy.owner {
        let _ = write!(text, " owner={}", user(owner));
    }
    if let Some(mode) = copy.mode {
        let _ = write!(text, " mode={mode:04o}");
    }
    text
}

fn snapshot(snapshot: &Snapshot) -> String {
    let mode = match snapshot.mode {
        SnapshotMode::Layer => "layer",
        SnapshotMode::Full => "full",
    };
    let compression = match snapshot.compression {
        Compression::Zstd => "zstd",
        Compression::Gzip => "gzip",
        Compression::Xz => "xz",
        Compression::Lz4 => "lz4",
        Compression::None => "none",
    };
    let subtree = snapshot.subtree.as_ref().map_or(String::new(), |subtree| format!(" of {}", path(subtree)));
    match snapshot.level {
        Some(level) => format!("{mode} {compression} {level}{subtree}"),
        None => format!("{mode} {compression}{subtree}"),
    }
}

fn export(export: &Export) -> String {
    let mut text = format!("{} {:?}", export.format.name(), path(&export.path));
    if export.is_image() {
        // Writing to a string cannot fail.
        let _ = write!(text, " {}", export.compression.name());
    }
    if let Some(level) = export.level {
        let _ = write!(text, " {level}");
    }
    if let Some(image) = &export.oci {
        text.push_str(&self::oci(image));
    }
    text
}

/// Returns the settings of an OCI image that are not the default ones.
fn oci(image: &OciImage) -> String {
    let mut text = format!(" {:?}", image.tag);
    if image.is_archive {
        text.push_str(" archive");
    }
    if image.layers == OciLayers::Squashfs {
        text.push_str(" squashfs");
    }
    let lists = [("entrypoint", &image.entrypoint), ("cmd", &image.cmd)];
    for (name, words) in lists.into_iter().filter_map(|(name, words)| Some((name, words.as_ref()?))) {
        let _ = write!(text, " {name}=[{}]", quoted(words));
    }
    for (name, map) in [("env", &image.env), ("label", &image.labels)] {
        for (key, value) in map {
            let _ = write!(text, " {name}={key:?}={value:?}");
        }
    }
    let cwd = image.cwd.as_ref().map(|cwd| path(cwd));
    for (name, value) in [("cwd", &cwd), ("user", &image.user), ("stop_signal", &image.stop_signal)] {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value:?}");
        }
    }
    text
}

/// Returns each word in quotes, so that its end is unambiguous.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

/// Returns the text of a path of the manifest, which is UTF-8.
fn path(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
