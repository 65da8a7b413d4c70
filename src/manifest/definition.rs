//! The manifest as the user writes it: plain types, nothing resolved, nothing checked but types and keys.
//!
//! Every key is optional here, also those that must be there: a missing key is found with all the other mistakes, by
//! [`validate`](crate::build::validate), and not alone, by serde. The documentation of the fields is what the JSON Schema says.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Cpus, Duration, Epoch, InPlace, Mode, Named, Reference, Size, Text, User};
use super::schema;

/// A build of root filesystems: containers to run steps in, and the steps.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with version, containers and steps")]
#[schemars(title = "runner manifest")]
pub struct Manifest {
    /// The version of this format: 1.
    #[schemars(required, extend("const" = 1))]
    pub version: Option<u64>,
    /// The build's name; default: the name of the manifest's folder.
    pub name: Option<String>,
    /// Seconds since 1970 that time stamps in snapshots are clamped to, or `none` to keep real times; default 315532800.
    pub source_date_epoch: Option<Epoch>,
    /// Variables, used in any value as `${{ name }}`; `--set name=value` overrides them.
    pub vars: Option<Named<Text>>,
    /// Mounts that containers use by name.
    pub mounts: Option<Named<MountDef>>,
    /// Devices that containers use by name.
    pub devices: Option<Named<DeviceDef>>,
    /// Containers by name: root filesystems and the settings that steps run under.
    #[schemars(required, transform = schema::names)]
    pub containers: Option<Named<ContainerDef>>,
    /// What is done, in order.
    pub steps: Option<Vec<StepDef>>,
}

/// A root filesystem and the settings that its steps run under.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a container")]
#[schemars(rename = "Container")]
pub struct ContainerDef {
    /// Where the root filesystem comes from.
    #[schemars(required)]
    pub rootfs: Option<RootfsDef>,
    /// The host name inside; default: the container's name.
    pub hostname: Option<String>,
    /// The root is the read-only image itself; no snapshot can be made of it. Default false.
    pub read_only: Option<bool>,
    /// `none` (default): a network of its own; `host`: the host's.
    #[schemars(transform = schema::network)]
    pub network: Option<String>,
    /// Who runs the steps: `UID[:GID]` or `USER[:GROUP]`, looked up in the root filesystem; default 0:0.
    pub user: Option<User>,
    /// The folder that steps start in; absolute; default `/`.
    pub cwd: Option<String>,
    /// Variables added to the environment of the steps.
    pub env: Option<Named<Text>>,
    /// Changes to the default capabilities.
    pub capabilities: Option<CapabilitiesDef>,
    /// Steps cannot gain privileges by setuid programs and file capabilities; default true.
    pub no_new_privileges: Option<bool>,
    /// Names from `mounts`, or mounts written in place.
    pub mounts: Option<Vec<Reference<MountDef>>>,
    /// Names from `devices`, paths of host devices, or devices written in place.
    pub devices: Option<Vec<Reference<DeviceDef>>>,
    /// Limits of what the steps may use.
    pub limits: Option<LimitsDef>,
    /// Where changes live until a snapshot; default a tmpfs of at most 10GiB.
    pub scratch: Option<ScratchDef>,
    /// `auto`: after a step that took more than 5s, what has changed is kept, so that a build that fails later goes on from
    /// there; a duration such as `30s` in place of the 5s; default `off`.
    pub checkpoint: Option<String>,
}

/// Where a root filesystem comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with one source, such as { squashfs: base.squashfs }")]
#[schemars(rename = "Rootfs", transform = schema::one_key)]
pub struct RootfsDef {
    /// A squashfs image file.
    pub squashfs: Option<String>,
    /// A tar archive, plain or compressed.
    pub tar: Option<String>,
    /// A folder of the host; it is only read.
    pub dir: Option<String>,
    /// Programs of the host, with the libraries that they need.
    pub programs: Option<Vec<String>>,
    /// The root filesystem that a snapshot step of this manifest wrote, by the step's name.
    pub snapshot: Option<String>,
    /// `true`: an empty folder.
    #[schemars(extend("const" = true))]
    pub scratch: Option<bool>,
}

/// Capabilities, with or without `CAP_`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with add and drop")]
#[schemars(rename = "Capabilities")]
pub struct CapabilitiesDef {
    /// Given in addition to the default set.
    pub add: Option<Vec<String>>,
    /// Taken from the default set.
    pub drop: Option<Vec<String>>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a mount, with type and target")]
#[schemars(rename = "Mount")]
pub struct MountDef {
    /// `bind`, `tmpfs`, `cache`, `secret`, or the name of a kernel filesystem.
    #[schemars(required)]
    pub r#type: Option<String>,
    /// Of a bind or a file secret, a host path, relative to the manifest; of a kernel filesystem, what it mounts.
    pub source: Option<String>,
    /// Where it is mounted inside; absolute and normalised.
    #[schemars(required)]
    pub target: Option<String>,
    /// Mount options, such as `ro` or `nodev`, none with a comma.
    pub options: Option<Vec<String>>,
    /// Of a cache, its name in the store; default: the target.
    pub id: Option<String>,
    /// Of a secret, the host variable that holds it.
    pub env: Option<String>,
    /// `ignore`: what is in a bind or a kernel filesystem changes nothing of what the steps give, and is not looked at.
    /// Without it, steps that have a writable bind run every time, and a read-only one is read to see what changed.
    #[schemars(transform = schema::mount_cache)]
    pub cache: Option<String>,
}

impl InPlace for MountDef {
    const EXPECTED: &'static str = "the name of a mount, or a map that describes one";
}

/// One device of the host.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a device, with path")]
#[schemars(rename = "Device")]
pub struct DeviceDef {
    /// The device node on the host; absolute and normalised; links are not followed.
    #[schemars(required)]
    pub path: Option<String>,
    /// The device node inside; default: the path.
    pub target: Option<String>,
    /// What is allowed: read (`r`), write (`w`), make nodes of it (`m`); default `rwm`.
    pub access: Option<String>,
    /// Permission bits of the node inside; default: the host node's.
    pub mode: Option<Mode>,
    /// Owner of the node inside; default: the host node's.
    pub uid: Option<u32>,
    /// Group of the node inside; default: the host node's.
    pub gid: Option<u32>,
}

impl InPlace for DeviceDef {
    const EXPECTED: &'static str = "the name of a device, a path such as /dev/kvm, or a map that describes a device";
}

/// Limits of what a container's steps may use.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with nofile, memory, cpus and pids")]
#[schemars(rename = "Limits")]
pub struct LimitsDef {
    /// Open files of one process; default 4096.
    pub nofile: Option<u64>,
    /// Memory, as a size; default unlimited.
    pub memory: Option<Size>,
    /// Processors; default unlimited.
    pub cpus: Option<Cpus>,
    /// Processes and threads; default unlimited.
    pub pids: Option<u64>,
}

/// Where changes live until a snapshot: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map, { tmpfs: 10GiB } or { disk: true }")]
#[schemars(rename = "Scratch", transform = schema::one_key)]
pub struct ScratchDef {
    /// In memory, at most so much.
    pub tmpfs: Option<Size>,
    /// `true`: in a folder of the store.
    #[schemars(extend("const" = true))]
    pub disk: Option<bool>,
}

/// One step: a name and exactly one of `run`, `exec` and `snapshot`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a step, with name and run, exec or snapshot")]
#[schemars(rename = "Step", transform = schema::one_action)]
pub struct StepDef {
    /// Its name, which no other step has.
    #[schemars(required)]
    pub name: Option<String>,
    /// The container it runs in; may be left out where there is only one.
    pub container: Option<String>,
    /// A script for `/bin/sh -ec`.
    pub run: Option<String>,
    /// A program and its arguments, run without a shell.
    pub exec: Option<Vec<Text>>,
    /// Writes what is in the root filesystem to a squashfs image.
    pub snapshot: Option<SnapshotDef>,
    /// The steps that it waits for, in place of the step before it in its container.
    pub needs: Option<Vec<String>>,
    /// Variables added to the container's.
    pub env: Option<Named<Text>>,
    /// The folder that it starts in, in place of the container's; absolute.
    pub cwd: Option<String>,
    /// Who runs it, in place of the container's user.
    pub user: Option<User>,
    /// After this long it is ended and has failed; default never.
    pub timeout: Option<Duration>,
    /// How often it is tried again after a failure; default 0.
    pub retries: Option<u32>,
    /// It runs every time, and is never taken from the cache; default false.
    pub always: Option<bool>,
    /// Of a step that no snapshot follows: it does not run again where nothing has changed since it ended well, if all
    /// the steps after its container's last snapshot say so. Default false.
    pub cache: Option<bool>,
}

/// What a snapshot step writes.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a snapshot, such as { output: out.squashfs }")]
#[schemars(rename = "Snapshot")]
pub struct SnapshotDef {
    /// `layer` (default): what changed since the layer below; `full`: the whole root filesystem.
    #[schemars(transform = schema::snapshot_mode)]
    pub mode: Option<String>,
    /// The file to write, relative to the manifest; default: only in the store.
    pub output: Option<String>,
    /// How it is compressed; default `zstd`.
    #[schemars(transform = schema::compression)]
    pub compression: Option<String>,
    /// The compressor's level: zstd 1 to 22 (default 3), gzip 1 to 9.
    pub level: Option<u32>,
}
