//! The types of the manifest as the user writes it: names are not resolved, and only types and keys are checked.
//!
//! Every key is optional here, also a required one: [`validate`](crate::model::validate) reports a missing key with all other
//! mistakes, while serde would report it alone. The documentation of the fields is the text of the JSON Schema.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::copy::CopyDef;
use super::export::ExportDef;
use super::rootfs::RootfsDef;
use super::scalar::{Cpus, Duration, Epoch, InPlace, Mode, Named, Reference, Size, Text, User};
use super::schema;

/// A build of root filesystems: containers to run steps in, and the steps.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with version, containers and steps")]
#[schemars(title = "runner manifest")]
pub struct Manifest {
    /// The version of this format: `1`.
    #[schemars(required, extend("const" = 1), example = 1)]
    pub version: Option<u64>,
    /// The name of the build on the screen and in the store. Default: the name of the manifest's directory.
    #[schemars(example = &"debian-sdk")]
    pub name: Option<String>,
    /// Seconds since 1970. A snapshot sets later times of files to this one, so that the same files give the same bytes. `git`
    /// takes the time of the last commit of the manifest's repository; `none` stores real times. Default: 315532800, which is
    /// 1980, the earliest time that a zip can contain.
    #[schemars(example = 1_700_000_000, example = &"git", example = &"none")]
    pub source_date_epoch: Option<Epoch>,
    /// Variables: `${{ suite }}` in any value stands for the value of `suite` here. `--set suite=trixie` on the
    /// command line replaces that value.
    #[schemars(example = json!({ "suite": "bookworm", "jobs": 4, "tests": true }))]
    pub vars: Option<Named<Text>>,
    /// Mounts by name, for any container. The files of a mount are outside of the container's root, and in no snapshot.
    #[schemars(example = json!({
        "src": { "type": "bind", "source": "src", "target": "/src", "options": ["ro"] },
        "tmp": { "type": "tmpfs", "target": "/tmp", "options": ["nodev", "nosuid"] },
        "apt": { "type": "cache", "target": "/var/cache/apt" },
    }))]
    pub mounts: Option<Named<MountDef>>,
    /// Devices of the host by name, for any container. A container cannot open a device that it does not list.
    #[schemars(example = json!({ "kvm": { "path": "/dev/kvm", "access": "rw", "mode": "0660" } }))]
    pub devices: Option<Named<DeviceDef>>,
    /// Containers by name (letters, digits, `.`, `_`, `-`): each is a root filesystem below a writable layer, with
    /// the settings of the steps that run in it.
    #[schemars(required, transform = schema::names, example = json!({
        "base": { "rootfs": { "squashfs": "images/debian.squashfs" }, "network": "host", "mounts": ["src", "apt"] },
        "sdk": { "rootfs": { "snapshot": "base-layer" }, "mounts": ["src", "tmp"], "devices": ["kvm"] },
    }))]
    pub containers: Option<Named<ContainerDef>>,
    /// The steps. A step waits for the step before it in its container; independent steps run in parallel. The steps of a
    /// container share one session: a step sees the files that the steps before it wrote.
    #[schemars(example = json!([
        { "name": "packages", "container": "base", "run": "apt-get update && apt-get install -y gcc" },
        { "name": "base-layer", "container": "base", "snapshot": { "output": "out/base.squashfs" } },
        { "name": "hello", "container": "sdk", "exec": ["gcc", "-o", "/usr/local/bin/hello", "/src/hello.c"] },
        { "name": "image", "container": "sdk", "snapshot": { "mode": "full", "output": "out/sdk.squashfs" } },
    ]))]
    pub steps: Option<Vec<StepDef>>,
}

/// A root filesystem and the settings that its steps run under.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a container")]
#[schemars(rename = "Container", title = "container")]
pub struct ContainerDef {
    /// The source of the root filesystem: exactly one of the keys of this map. The source itself is never changed.
    #[schemars(required, example = json!({ "squashfs": "images/debian.squashfs" }), example = json!({ "snapshot": "base-layer" }))]
    pub rootfs: Option<RootfsDef>,
    /// The host name inside. Default: the container's name.
    #[schemars(example = &"build.example")]
    pub hostname: Option<String>,
    /// `true`: the root is the read-only image itself. Steps can write to mounts only, and a snapshot of the container is
    /// refused. Default: `false`.
    #[schemars(example = true)]
    pub read_only: Option<bool>,
    /// The network of the steps. Default: `none`.
    #[schemars(transform = schema::network, example = &"host")]
    pub network: Option<String>,
    /// The user that runs the steps: `UID[:GID]` or `USER[:GROUP]`; names are looked up in the root filesystem. Default: `0:0`.
    #[schemars(example = &"builder:builder", example = 1000)]
    pub user: Option<User>,
    /// The directory that steps start in: an absolute path inside the container, which must exist. Default: `/`.
    #[schemars(example = &"/work/build")]
    pub cwd: Option<String>,
    /// Variables of the steps' environment, beside `PATH`, `TERM`, `HOME` and `SOURCE_DATE_EPOCH`. No variable
    /// of the host's environment is passed on. Default: none.
    #[schemars(example = json!({ "DEBIAN_FRONTEND": "noninteractive", "JOBS": 4, "V": true }))]
    pub env: Option<Named<Text>>,
    /// Changes to the capabilities of the steps. Default: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, SETGID, SETUID,
    /// SETFCAP, SETPCAP, SYS_CHROOT, KILL and AUDIT_WRITE.
    #[schemars(example = json!({ "add": ["SYS_PTRACE"], "drop": ["MKNOD"] }))]
    pub capabilities: Option<CapabilitiesDef>,
    /// `true`: set-uid programs and file capabilities give no privileges. Write `false` where a step needs sudo or su.
    /// Default: `true`.
    #[schemars(example = false)]
    pub no_new_privileges: Option<bool>,
    /// The system calls that the steps may make. Default: `default`.
    #[schemars(transform = schema::seccomp, example = &"unconfined")]
    pub seccomp: Option<String>,
    /// The mounts inside: names from `mounts` of the manifest, or mounts written in place. Default: none.
    #[schemars(example = json!(["src", { "type": "tmpfs", "target": "/tmp" }]))]
    pub mounts: Option<Vec<Reference<MountDef>>>,
    /// The devices inside: names from `devices` of the manifest, paths of device nodes of the host, or devices written
    /// in place. Default: only null, zero, full, random, urandom, tty and the container's own terminals.
    #[schemars(example = json!(["kvm", "/dev/loop0", { "path": "/dev/kvm", "target": "/dev/accelerator" }]))]
    pub devices: Option<Vec<Reference<DeviceDef>>>,
    /// Limits for all running steps of the container together. Default: 4096 open files, 32768 processes and threads, and the
    /// memory and processors that the caller's own cgroup allows.
    #[schemars(example = json!({ "memory": "2GiB", "cpus": 1.5, "pids": 500 }))]
    pub limits: Option<LimitsDef>,
    /// The place of the container's changes until a snapshot. Default: memory, at most 10GiB and half of the host's memory.
    #[schemars(example = json!({ "tmpfs": "40GiB" }), example = json!({ "disk": true }))]
    pub scratch: Option<ScratchDef>,
    /// Paths of /proc and /sys that runner would hide or write-protect, and that steps may read or change as far as the kernel
    /// permits; or `all`, for programs that mount a /proc of their own (bwrap, systemd-nspawn).
    /// Default: none.
    #[schemars(example = &"all", example = json!(["/proc/kcore"]))]
    pub unmask: Option<UnmaskDef>,
    /// A program and its arguments. It gets the text of a `run` as its last argument. Default: [/bin/sh, -ec].
    #[schemars(example = json!(["/bin/bash", "-euo", "pipefail", "-c"]))]
    pub shell: Option<Vec<String>>,
    /// `true`: the first process of each step is a small program that starts the step's own program, reaps orphans and passes
    /// signals on. The step's program can then end itself by a signal, as under a shell.
    /// Default: `false`.
    #[schemars(example = true)]
    pub init: Option<bool>,
    /// `true`: the inode numbers of files and directories stay the same for a whole session, over all layers, as tar, rsync
    /// and du expect; the numbers are larger than 32 bits. Write `false` for 32-bit programs without large-file support, which report
    /// "Value too large for defined data type". Default: `true`.
    #[schemars(example = false)]
    pub xino: Option<bool>,
    /// When runner stores the changes of the session between two steps, so that a build that fails later continues there.
    /// A snapshot has the same bytes with and without checkpoints. Default: when the steps since the last checkpoint took more than 5 seconds and a
    /// copy of the changes takes less than 2% of that.
    #[schemars(transform = schema::checkpoint, example = &"auto")]
    pub checkpoint: Option<String>,
}

/// Capabilities, with or without `CAP_`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with add and drop")]
#[schemars(rename = "Capabilities", title = "capabilities")]
pub struct CapabilitiesDef {
    /// Capabilities beside the default ones, with or without `CAP_` before the name.
    #[schemars(example = json!(["SYS_PTRACE", "CAP_NET_ADMIN"]))]
    pub add: Option<Vec<String>>,
    /// Capabilities to take away, with or without `CAP_` before the name.
    #[schemars(example = json!(["MKNOD"]))]
    pub drop: Option<Vec<String>>,
}

/// One mount: its type, its place in the container, and the keys of its type.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a mount, with type and target")]
#[schemars(rename = "Mount", title = "mount", transform = schema::mount, example = json!({ "type": "tmpfs", "target": "/tmp", "options": ["size=16m"] }))]
pub struct MountDef {
    /// The kind of mount.
    #[schemars(required, transform = schema::mount_type, example = &"bind")]
    pub r#type: Option<String>,
    /// Of a bind, a secret, an image or an SSH agent: a path of the host, relative to the manifest. Of a kernel filesystem: the source that mount(8)
    /// would get; default: the name of the filesystem. Other mounts have no source. A bind of a directory that contains the store
    /// shows an empty directory in place of the store, and is refused where a step could get behind that directory.
    #[schemars(example = &"src")]
    pub source: Option<String>,
    /// The place in the container: an absolute path without `..`. Runner makes it where it is missing; it is in no snapshot. Only an SSH
    /// agent has a default, `/run/ssh-agent.sock`; every other mount must name its target.
    #[schemars(example = &"/src")]
    pub target: Option<String>,
    /// Of a snapshot: the name of a snapshot step, whose root the mount shows. The steps of the container wait for it.
    #[schemars(example = &"base-layer")]
    pub step: Option<String>,
    /// Of a snapshot: the directory or the file of its root that the mount shows. Default: the whole root.
    #[schemars(example = &"/usr")]
    pub path: Option<String>,
    /// Options as mount(8) has them, each an entry of the list: `ro`, `nodev`, `nosuid`, `noexec`. A tmpfs also takes
    /// `size=16m` and `mode=1777`. A secret and a cache take `uid=1000`, `gid=1000` and `mode=0440`; without these, a secret has
    /// mode 0400 and belongs to the user of the step that started last, and a cache has mode 0755 and belongs to root. No option
    /// has a comma. Steps can write to a bind without `ro`. Set-uid programs and device nodes of a bind or a cache have no effect
    /// inside, unless `suid` or `dev` asks for them.
    #[schemars(example = json!(["ro", "nodev"]))]
    pub options: Option<Vec<String>>,
    /// Of a cache: its name in the store. All mounts of the same id share one directory, also those of other manifests and
    /// projects that use the store. Default: the target. An id with the project's name gives a project a cache of its own.
    #[schemars(example = &"apt")]
    pub id: Option<String>,
    /// Of a cache: how many steps use it at the same time, in all runners with the same store. Default: `shared`.
    #[schemars(transform = schema::sharing, example = &"locked")]
    pub sharing: Option<String>,
    /// Of a secret: the variable of runner's environment that contains it, in place of `source`.
    #[schemars(example = &"TOKEN")]
    pub env: Option<String>,
    /// Of a bind or a kernel filesystem: whether its content is an input of the steps. Default: runner reads a read-only bind
    /// to see whether it changed, and steps with a writable bind or a kernel filesystem run every time.
    #[schemars(transform = schema::mount_cache, example = &"ignore")]
    pub cache: Option<String>,
}

impl InPlace for MountDef {
    const EXPECTED: &'static str = "the name of a mount, or a map that describes one";
    const NAME: &'static str = "The name of a mount, from `mounts` of the manifest.";
    const NAMES: &'static [&'static str] = &["src"];
}

/// One device of the host, and its node in the container.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a device, with path")]
#[schemars(rename = "Device", title = "device", example = json!({ "path": "/dev/kvm", "access": "rw" }))]
pub struct DeviceDef {
    /// The device node of the host: an absolute path that must exist. Symbolic links are not followed.
    #[schemars(required, example = &"/dev/kvm")]
    pub path: Option<String>,
    /// The path of the device node in the container. Default: `path`.
    #[schemars(example = &"/dev/accelerator")]
    pub target: Option<String>,
    /// The access of the steps: read (`r`), write (`w`), make nodes of the device (`m`). Default: `rwm`.
    #[schemars(example = &"rw")]
    pub access: Option<String>,
    /// Permission bits of the node inside, in octal, quoted. Default: those of the host's node.
    #[schemars(example = &"0660")]
    pub mode: Option<Mode>,
    /// The number of the user that owns the node inside. Default: that of the host's node.
    #[schemars(example = 0)]
    pub uid: Option<u32>,
    /// The number of the group of the node inside. Default: that of the host's node.
    #[schemars(example = 104)]
    pub gid: Option<u32>,
}

impl InPlace for DeviceDef {
    const EXPECTED: &'static str = "the name of a device, a path such as /dev/kvm, or a map that describes a device";
    const NAME: &'static str =
        "The name of a device, from `devices` of the manifest, or the path of a device of the host.";
    const NAMES: &'static [&'static str] = &["kvm", "/dev/kvm"];
}

/// The paths that are neither hidden nor write-protected.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`unmask` must be the word `all`, or a list of paths such as [/proc/kcore]")]
#[schemars(rename = "Unmask")]
pub enum UnmaskDef {
    /// `all`.
    #[schemars(description = "All of them.", extend("const" = "all"), example = &"all")]
    Word(String),
    /// Paths, each one that containers hide or write-protect.
    #[schemars(description = "These paths.", example = json!(["/proc/kcore"]))]
    Paths(Vec<String>),
}

/// Limits for the steps of a container.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with nofile, memory, cpus and pids")]
#[schemars(rename = "Limits", title = "limits")]
pub struct LimitsDef {
    /// Open files of one process, 16 at least. Default: 4096.
    #[schemars(example = 65536, range(min = 16))]
    pub nofile: Option<u64>,
    /// Memory, in bytes or with a unit, 1MiB at least; the kernel kills a process that takes more. Files of a root
    /// in memory count. Default: the limit of the caller's own cgroup.
    #[schemars(example = &"2GiB", example = 2_000_000_000)]
    pub memory: Option<Size>,
    /// Processors: `1.5` is the time of one and a half. Default: the limit of the caller's own cgroup.
    #[schemars(example = 1.5, example = 2, example = &"0.5")]
    pub cpus: Option<Cpus>,
    /// Processes and threads. Default: 32768, where the host can set that limit without moving other processes.
    #[schemars(example = 500, range(min = 1, max = 4_194_304))]
    pub pids: Option<u64>,
}

/// The place of a container's changes until a snapshot.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map, { tmpfs: 10GiB } or { disk: true }")]
#[schemars(rename = "Scratch", title = "scratch", transform = schema::one_key)]
pub struct ScratchDef {
    /// Memory, at most of this size, in bytes or with a unit.
    #[schemars(example = &"40GiB", example = 2_000_000_000)]
    pub tmpfs: Option<Size>,
    /// `true`: a directory of the store, which runner clears afterwards.
    #[schemars(extend("const" = true), example = true)]
    pub disk: Option<bool>,
}

/// One step: a name and exactly one of `run`, `exec`, `copy`, `snapshot` and `export`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a map that describes a step, with name and run, exec, copy, snapshot or export"
)]
#[schemars(rename = "Step", title = "step", transform = schema::one_action)]
pub struct StepDef {
    /// The name of the step (letters, digits, `.`, `_`, `-`). No other step has the same name.
    #[schemars(required, example = &"packages")]
    pub name: Option<String>,
    /// The container that the step runs in. Required where the manifest has several containers. Default: the only one.
    #[schemars(example = &"base")]
    pub container: Option<String>,
    /// A text for the shell. The default shell, `/bin/sh -ec`, stops at the first command that fails. A text that begins with
    /// `#!` is a script for the interpreter that it names.
    #[schemars(example = &"apt-get update && apt-get install -y gcc")]
    pub run: Option<String>,
    /// A program and its arguments, run without a shell.
    #[schemars(example = json!(["make", "-j", 4]), example = json!(["git", "config", "core.bare", false]))]
    pub exec: Option<Vec<Text>>,
    /// Copies files of a snapshot or of the host into the root, without a process.
    #[schemars(example = json!({ "from": "base-layer", "source": "/usr/local/bin/hello", "target": "/usr/local/bin/" }))]
    pub copy: Option<Box<CopyDef>>,
    /// Writes the root filesystem to a squashfs image. `{}` writes a layer to the store alone.
    #[schemars(example = json!({ "output": "out/layer.squashfs" }), example = json!({ "mode": "full", "output": "out/image.squashfs", "compression": "xz" }))]
    pub snapshot: Option<Box<SnapshotDef>>,
    /// Writes files of the root to the host, as they are at that place in the order of the steps. The store has a copy: a build
    /// that takes the step from the store writes an output again that was removed or changed.
    #[schemars(example = json!({ "format": "files", "path": "/usr/bin/hello", "output": "out/hello" }))]
    pub export: Option<Box<ExportDef>>,
    /// The names of the steps that this step waits for, in place of the step before it in its container; `[]` waits for none.
    /// Default: the step before it in its container.
    #[schemars(example = json!(["base-layer"]), example = json!([]))]
    pub needs: Option<Vec<String>>,
    /// Variables of the step's environment, beside those of the container. A variable of the step replaces one of the container.
    /// Default: none.
    #[schemars(example = json!({ "DESTDIR": "/opt/sdk", "V": 1, "STRICT": true }))]
    pub env: Option<Named<Text>>,
    /// The directory that the step starts in, in place of the container's: an absolute path inside the container.
    #[schemars(example = &"/work/build")]
    pub cwd: Option<String>,
    /// The user that runs the step, in place of the container's: `UID[:GID]` or `USER[:GROUP]`.
    #[schemars(example = &"builder", example = 1000)]
    pub user: Option<User>,
    /// The program that gets the text of `run` as its last argument, with its other arguments, in place of the container's
    /// `shell`.
    #[schemars(example = json!(["/usr/bin/python3", "-c"]))]
    pub shell: Option<Vec<String>>,
    /// Mounts for this step alone, beside those of its container: names from `mounts` of the manifest, or mounts written in place.
    /// Their mount points are gone when the step ends. Default: none.
    #[schemars(example = json!(["src", { "type": "secret", "env": "TOKEN", "target": "/run/token" }]))]
    pub mounts: Option<Vec<Reference<MountDef>>>,
    /// Devices for this step alone, beside those of its container: names from `devices` of the manifest, paths of device nodes of
    /// the host, or devices written in place. Default: none.
    #[schemars(example = json!(["kvm", "/dev/loop0"]))]
    pub devices: Option<Vec<Reference<DeviceDef>>>,
    /// The network of this step, in place of the container's.
    #[schemars(transform = schema::network, example = &"host")]
    pub network: Option<String>,
    /// Changes to the capabilities of the container, for this step alone. Default: none.
    #[schemars(example = json!({ "add": ["SYS_PTRACE"], "drop": ["MKNOD"] }))]
    pub capabilities: Option<CapabilitiesDef>,
    /// The longest time of the step: `90s`, `10m`, `1h 30m`. A step that takes longer gets SIGTERM, after its `grace` SIGKILL,
    /// and has failed. Default: no limit.
    #[schemars(example = &"10m")]
    pub timeout: Option<Duration>,
    /// The time from SIGTERM to SIGKILL for the processes of a step that takes longer than its `timeout` or is interrupted:
    /// `30s`; with `0s` runner kills them at once. Default: `10s`.
    #[schemars(example = &"30s")]
    pub grace: Option<Duration>,
    /// How often runner tries the step again after it failed. Each try begins with the root and the tmpfs mounts as they were
    /// before the first try; writable binds and caches stay as the last try changed them. Runner copies the root and the tmpfs
    /// mounts for that, and no other step runs in the container meanwhile. Default: 0.
    #[schemars(example = 2)]
    pub retries: Option<u32>,
    /// `true`: the step runs every time, and is never taken from the store. Default: `false`.
    #[schemars(example = true)]
    pub always: Option<bool>,
    /// Of a step after its container's last snapshot. `true`: the step does not run again if nothing has changed since it
    /// succeeded, and if all steps after that snapshot say so. Default: `false`.
    #[schemars(example = true)]
    pub cache: Option<bool>,
    /// `true`: the step is a test of its container. It runs in a session of its own on the root that the container's other steps
    /// leave, so it sees no other test, and its changes are gone when it ends; the tmpfs mounts begin empty. Its failure stops
    /// neither another test nor any step that does not name it in `needs`, and the build ends with 1. A test that passed does not
    /// run again while its root, its inputs and its settings are the same. `runner test` runs the tests alone. Default: `false`.
    #[schemars(example = true)]
    pub test: Option<bool>,
}

impl StepDef {
    /// Returns the output of its snapshot or export.
    pub fn output(&self) -> Option<&String> {
        let snapshot = self.snapshot.as_ref().and_then(|snapshot| snapshot.output.as_ref());
        snapshot.or_else(|| self.export.as_ref()?.output.as_ref())
    }
}

/// The image that a snapshot step writes.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a snapshot, such as { output: out.squashfs }")]
#[schemars(rename = "Snapshot", title = "snapshot")]
pub struct SnapshotDef {
    /// The content of the image. Default: `layer`.
    #[schemars(transform = schema::snapshot_mode, example = &"full")]
    pub mode: Option<String>,
    /// The file to write, relative to the manifest. Runner replaces it when the new image is complete. Default: none; the image
    /// is in the store alone.
    #[schemars(example = &"out/base-layer.squashfs")]
    pub output: Option<String>,
    /// How the image is compressed. Default: `zstd`.
    #[schemars(transform = schema::compression, example = &"xz")]
    pub compression: Option<String>,
    /// The level of the compression: of zstd 1 to 22, default 3; of gzip 1 to 9, default 9. The others have no level.
    #[schemars(example = 19)]
    pub level: Option<u32>,
    /// The directory that is the root in the image. No manifest can say it.
    #[serde(skip)]
    #[schemars(skip)]
    pub subtree: Option<PathBuf>,
}
