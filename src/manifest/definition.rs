//! The manifest as the user writes it: plain types, nothing resolved, nothing checked but types and keys.
//!
//! Every key is optional here, also those that must be there: a missing key is found with all the other mistakes, by
//! [`validate`](crate::build::validate), and not alone, by serde. The documentation of the fields is what the JSON Schema says.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

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
    /// The name of the build where it is shown and in the store. Default: the name of the manifest's folder.
    #[schemars(example = &"debian-sdk")]
    pub name: Option<String>,
    /// Seconds since 1970: no time in a snapshot is later, so that the same files give the same bytes. `git`: the time of the
    /// last commit of the repository that the manifest is in; `none` keeps real times. Default: 315532800, which is 1980, the
    /// earliest that a zip can hold.
    #[schemars(example = 1_700_000_000, example = &"git", example = &"none")]
    pub source_date_epoch: Option<Epoch>,
    /// Variables: `${{ suite }}` in any value stands for the value of `suite` here. `--set suite=trixie` on the
    /// command line goes before it.
    #[schemars(example = json!({ "suite": "bookworm", "jobs": 4, "tests": true }))]
    pub vars: Option<Named<Text>>,
    /// Mounts by name, for any container: what is outside of its root, and in no snapshot.
    #[schemars(example = json!({
        "src": { "type": "bind", "source": "src", "target": "/src", "options": ["ro"] },
        "tmp": { "type": "tmpfs", "target": "/tmp", "options": ["nodev", "nosuid"] },
        "apt": { "type": "cache", "target": "/var/cache/apt" },
    }))]
    pub mounts: Option<Named<MountDef>>,
    /// Devices of the host by name, for any container. A container cannot open a device that it does not list.
    #[schemars(example = json!({ "kvm": { "path": "/dev/kvm", "access": "rw", "mode": "0660" } }))]
    pub devices: Option<Named<DeviceDef>>,
    /// Containers by name (letters, digits, `.`, `_`, `-`): each is a root filesystem below a writable layer, and what
    /// steps run under in it.
    #[schemars(required, transform = schema::names, example = json!({
        "base": { "rootfs": { "squashfs": "images/debian.squashfs" }, "network": "host", "mounts": ["src", "apt"] },
        "sdk": { "rootfs": { "snapshot": "base-layer" }, "mounts": ["src", "tmp"], "devices": ["kvm"] },
    }))]
    pub containers: Option<Named<ContainerDef>>,
    /// The steps. A step waits for the one before it in its container; steps that do not wait for each other may run at
    /// once. The steps of a container share one session: the next one sees the files that one writes.
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
    /// Where the root filesystem comes from: exactly one of the keys below it. The source itself is never changed.
    #[schemars(required, example = json!({ "squashfs": "images/debian.squashfs" }), example = json!({ "snapshot": "base-layer" }))]
    pub rootfs: Option<RootfsDef>,
    /// The host name inside. Default: the container's name.
    #[schemars(example = &"build.example")]
    pub hostname: Option<String>,
    /// `true`: the root is the read-only image itself, and nothing can be written but to mounts; a snapshot of it is
    /// refused. Default: `false`.
    #[schemars(example = true)]
    pub read_only: Option<bool>,
    /// The network that steps have. Default: `none`.
    #[schemars(transform = schema::network, example = &"host")]
    pub network: Option<String>,
    /// The user that runs the steps: `UID[:GID]` or `USER[:GROUP]`; names are looked up in the root filesystem. Default: `0:0`.
    #[schemars(example = &"builder:builder", example = 1000)]
    pub user: Option<User>,
    /// The folder that steps start in: an absolute path inside, which must be there. Default: `/`.
    #[schemars(example = &"/work/build")]
    pub cwd: Option<String>,
    /// Variables of the steps' environment, beside `PATH`, `TERM`, `HOME` and `SOURCE_DATE_EPOCH`. Nothing of the
    /// host's environment gets in. Default: none.
    #[schemars(example = json!({ "DEBIAN_FRONTEND": "noninteractive", "JOBS": 4, "V": true }))]
    pub env: Option<Named<Text>>,
    /// Changes to the capabilities of the steps. Default: CHOWN, DAC_OVERRIDE, FSETID, FOWNER, MKNOD, SETGID, SETUID,
    /// SETFCAP, SETPCAP, SYS_CHROOT, KILL and AUDIT_WRITE.
    #[schemars(example = json!({ "add": ["SYS_PTRACE"], "drop": ["MKNOD"] }))]
    pub capabilities: Option<CapabilitiesDef>,
    /// `true`: set-uid programs and file capabilities give no privileges. `false` where a step needs sudo or su.
    /// Default: `true`.
    #[schemars(example = false)]
    pub no_new_privileges: Option<bool>,
    /// Which system calls the steps may make. Default: `default`.
    #[schemars(transform = schema::seccomp, example = &"unconfined")]
    pub seccomp: Option<String>,
    /// The mounts inside: names from `mounts` of the manifest, or mounts written in place. Default: none.
    #[schemars(example = json!(["src", { "type": "tmpfs", "target": "/tmp" }]))]
    pub mounts: Option<Vec<Reference<MountDef>>>,
    /// The devices inside: names from `devices` of the manifest, paths of device nodes of the host, or devices written
    /// in place. Default: only null, zero, full, random, urandom, tty and the container's own terminals.
    #[schemars(example = json!(["kvm", "/dev/loop0", { "path": "/dev/kvm", "target": "/dev/accelerator" }]))]
    pub devices: Option<Vec<Reference<DeviceDef>>>,
    /// The most that the steps may use, all that run at once together. Default: 4096 open files,
    /// 32768 processes and threads, and the memory and processors that the caller's own cgroup leaves.
    #[schemars(example = json!({ "memory": "2GiB", "cpus": 1.5, "pids": 500 }))]
    pub limits: Option<LimitsDef>,
    /// Where changes live until a snapshot. Default: in memory, at most 10GiB.
    #[schemars(example = json!({ "tmpfs": "40GiB" }), example = json!({ "disk": true }))]
    pub scratch: Option<ScratchDef>,
    /// Paths of /proc and /sys that steps may look into or change as far as the kernel lets them, of those that containers
    /// hide or write-protect; or `all`, which programs that mount a /proc of their own need (bwrap, systemd-nspawn).
    /// Default: none.
    #[schemars(example = &"all", example = json!(["/proc/kcore"]))]
    pub unmask: Option<UnmaskDef>,
    /// A program and its arguments, to which the text of a `run` is given as the last argument. Default: [/bin/sh, -ec].
    #[schemars(example = json!(["/bin/bash", "-euo", "pipefail", "-c"]))]
    pub shell: Option<Vec<String>>,
    /// `true`: a small program is the first process of each step, and starts the step's own: that one is ended by signals
    /// that it sends to itself, as under a shell, and orphans are reaped. Signals to the first process are passed on.
    /// Default: `false`.
    #[schemars(example = true)]
    pub init: Option<bool>,
    /// `true`: the inode numbers of files and directories stay the same for a whole session, over all layers, as tar, rsync
    /// and du count on; they are larger than 32 bits. `false` for 32-bit programs without large-file support, which report
    /// "Value too large for defined data type". Default: `true`.
    #[schemars(example = false)]
    pub xino: Option<bool>,
    /// When runner stores the changes of the session between two steps, so that a build that fails later continues from there.
    /// A snapshot is the same bytes either way. Default: when the steps since the last checkpoint took more than 5 seconds and a
    /// copy of the changes takes less than 2% of that.
    #[schemars(transform = schema::checkpoint, example = &"auto")]
    pub checkpoint: Option<String>,
}

/// Where a root filesystem comes from: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with one source, such as { squashfs: base.squashfs }")]
#[schemars(rename = "Rootfs", title = "source of a root filesystem", transform = schema::one_key)]
pub struct RootfsDef {
    /// A squashfs image, or images that are layers of one root, the lowest first: paths, relative to the manifest.
    #[schemars(example = &"images/debian.squashfs", example = json!(["base.squashfs", "sdk.squashfs"]))]
    pub squashfs: Option<LayersDef>,
    /// A tar archive, plain or compressed (gzip, xz, zstd, bzip2): a path, relative to the manifest.
    #[schemars(example = &"base.tar.zst")]
    pub tar: Option<String>,
    /// A folder of the host, relative to the manifest. It is only read.
    #[schemars(example = &"root")]
    pub dir: Option<String>,
    /// Programs of the host, by path or by name in `PATH`, with the libraries and the loader that they need.
    #[schemars(example = json!(["/usr/bin/sh"]))]
    pub programs: Option<Vec<String>>,
    /// The name of a snapshot step of this manifest: the root as it was there. The steps of this container wait for
    /// it.
    #[schemars(example = &"base-layer")]
    pub snapshot: Option<String>,
    /// `true`: an empty folder.
    #[schemars(extend("const" = true), example = true)]
    pub scratch: Option<bool>,
}

/// The images of a root filesystem.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`squashfs` must be the path of an image, or a list of paths, the lowest layer first")]
#[schemars(rename = "Layers")]
pub enum LayersDef {
    /// One.
    #[schemars(description = "An image of a whole root.", example = &"images/debian.squashfs")]
    One(String),
    /// Several.
    #[schemars(
        description = "Images that are mounted as layers, the lowest first: what a layer removes, or has as well, hides what is below.",
        extend("minItems" = 1),
        example = json!(["base.squashfs", "sdk.squashfs"])
    )]
    Stack(Vec<String>),
}

/// Capabilities, with or without `CAP_`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with add and drop")]
#[schemars(rename = "Capabilities", title = "capabilities")]
pub struct CapabilitiesDef {
    /// Given beside the default ones, with or without `CAP_` before the name.
    #[schemars(example = json!(["SYS_PTRACE", "CAP_NET_ADMIN"]))]
    pub add: Option<Vec<String>>,
    /// Taken away, with or without `CAP_` before the name.
    #[schemars(example = json!(["MKNOD"]))]
    pub drop: Option<Vec<String>>,
}

/// One mount: its type, where it is inside, and what goes with the type.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a mount, with type and target")]
#[schemars(rename = "Mount", title = "mount", example = json!({ "type": "tmpfs", "target": "/tmp", "options": ["size=16m"] }))]
pub struct MountDef {
    /// The kind of mount.
    #[schemars(required, transform = schema::mount_type, example = &"bind")]
    pub r#type: Option<String>,
    /// Of a bind or a secret, a path of the host, relative to the manifest. Of a kernel filesystem, what it mounts;
    /// default: the name of the filesystem. Other mounts have none. A bind of a directory that contains the store shows an
    /// empty directory in its place, and is refused where a step could get behind that, see `runner validate`.
    #[schemars(example = &"src")]
    pub source: Option<String>,
    /// Where it is inside: an absolute path without `..`; made if it is missing, and in no snapshot.
    #[schemars(required, example = &"/src")]
    pub target: Option<String>,
    /// Options as mount(8) has them, one by one: `ro`, `nodev`, `nosuid`, `noexec`; of a tmpfs also `size=16m`,
    /// `mode=1777`; of a secret, which belongs to the user of the step that started last and has mode 0400, or of a cache,
    /// which is root's and has mode 0755, `uid=1000`, `gid=1000`, `mode=0440`. None has a comma. A bind without `ro` can be written to. Set-uid programs and device nodes of a bind
    /// or a cache have no effect inside, unless `suid` or `dev` asks for it.
    #[schemars(example = json!(["ro", "nodev"]))]
    pub options: Option<Vec<String>>,
    /// Of a cache, its name in the store: all mounts of the same id share one folder, also those of other manifests and
    /// projects that use the store. Default: the target. Name one after the project to have it to yourself.
    #[schemars(example = &"apt")]
    pub id: Option<String>,
    /// Of a cache, how many steps use it at once, here and in other runners with the same store. Default: `shared`.
    #[schemars(transform = schema::sharing, example = &"locked")]
    pub sharing: Option<String>,
    /// Of a secret, the variable of runner's environment that holds it, in place of `source`.
    #[schemars(example = &"TOKEN")]
    pub env: Option<String>,
    /// How what is in a bind or a kernel filesystem counts when runner asks whether steps can be taken from the store.
    /// Default: a read-only bind is read to see what changed, and steps that have a writable one run every time.
    #[schemars(transform = schema::mount_cache, example = &"ignore")]
    pub cache: Option<String>,
}

impl InPlace for MountDef {
    const EXPECTED: &'static str = "the name of a mount, or a map that describes one";
    const NAME: &'static str = "The name of a mount, from `mounts` of the manifest.";
    const NAMES: &'static [&'static str] = &["src"];
}

/// One device of the host, and how it looks inside.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a device, with path")]
#[schemars(rename = "Device", title = "device", example = json!({ "path": "/dev/kvm", "access": "rw" }))]
pub struct DeviceDef {
    /// The device node of the host: an absolute path, whose links are not followed. It must be there.
    #[schemars(required, example = &"/dev/kvm")]
    pub path: Option<String>,
    /// The device node inside. Default: the path.
    #[schemars(example = &"/dev/accelerator")]
    pub target: Option<String>,
    /// The access that the steps have: read (`r`), write (`w`), make nodes of it (`m`). Default: `rwm`.
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

/// The paths that are not to be hidden.
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

/// Limits of what a container's steps may use.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with nofile, memory, cpus and pids")]
#[schemars(rename = "Limits", title = "limits")]
pub struct LimitsDef {
    /// Open files of one process, 16 at least. Default: 4096.
    #[schemars(example = 65536, range(min = 16))]
    pub nofile: Option<u64>,
    /// Memory, in bytes or with a unit, 1MiB at least; a process that takes more is killed. Files in a root in memory
    /// count. Default: what the caller's own cgroup leaves.
    #[schemars(example = &"2GiB", example = 2_000_000_000)]
    pub memory: Option<Size>,
    /// Processors: `1.5` is the time of one and a half. Default: what the caller's own cgroup leaves.
    #[schemars(example = 1.5, example = 2, example = &"0.5")]
    pub cpus: Option<Cpus>,
    /// Processes and threads. Default: 32768, where the host can limit that without moving processes of its own.
    #[schemars(example = 500, range(min = 1, max = 4_194_304))]
    pub pids: Option<u64>,
}

/// Where changes live until a snapshot: exactly one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map, { tmpfs: 10GiB } or { disk: true }")]
#[schemars(rename = "Scratch", title = "scratch", transform = schema::one_key)]
pub struct ScratchDef {
    /// In memory, at most so much, in bytes or with a unit.
    #[schemars(example = &"40GiB", example = 2_000_000_000)]
    pub tmpfs: Option<Size>,
    /// `true`: in a folder of the store, which is cleared afterwards.
    #[schemars(extend("const" = true), example = true)]
    pub disk: Option<bool>,
}

/// One step: a name and exactly one of `run`, `exec` and `snapshot`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a step, with name and run, exec or snapshot")]
#[schemars(rename = "Step", title = "step", transform = schema::one_action)]
pub struct StepDef {
    /// The name of the step (letters, digits, `.`, `_`, `-`). No other step has the same name.
    #[schemars(required, example = &"packages")]
    pub name: Option<String>,
    /// The container that it runs in. Default: the only one; where there are several it must be said.
    #[schemars(example = &"base")]
    pub container: Option<String>,
    /// A text for the shell, by default `/bin/sh -ec`, which ends with the first command that fails; or a script that begins
    /// with `#!` and the interpreter that it is for.
    #[schemars(example = &"apt-get update && apt-get install -y gcc")]
    pub run: Option<String>,
    /// A program and its arguments, run without a shell.
    #[schemars(example = json!(["make", "-j", 4]), example = json!(["git", "config", "core.bare", false]))]
    pub exec: Option<Vec<Text>>,
    /// Writes what is in the root filesystem to a squashfs image. `{}` writes a layer to the store alone.
    #[schemars(example = json!({ "output": "out/layer.squashfs" }), example = json!({ "mode": "full", "output": "out/image.squashfs", "compression": "xz" }))]
    pub snapshot: Option<SnapshotDef>,
    /// The steps that it waits for, by name. Default: the step before it in its container, which this replaces; `[]`
    /// waits for none.
    #[schemars(example = json!(["base-layer"]), example = json!([]))]
    pub needs: Option<Vec<String>>,
    /// Variables of its environment, beside those of the container and before them. Default: none.
    #[schemars(example = json!({ "DESTDIR": "/opt/sdk", "V": 1, "STRICT": true }))]
    pub env: Option<Named<Text>>,
    /// The folder that it starts in, in place of the container's: an absolute path inside.
    #[schemars(example = &"/work/build")]
    pub cwd: Option<String>,
    /// The user that runs it, in place of the container's: `UID[:GID]` or `USER[:GROUP]`.
    #[schemars(example = &"builder", example = 1000)]
    pub user: Option<User>,
    /// The program and its arguments to which `run` is given as the last one, in place of the container's `shell`.
    #[schemars(example = json!(["/usr/bin/python3", "-c"]))]
    pub shell: Option<Vec<String>>,
    /// A number with its unit: `90s`, `10m`, `1h 30m`. A step that takes longer is sent SIGTERM, after its `grace` SIGKILL,
    /// and has failed. Default: no limit.
    #[schemars(example = &"10m")]
    pub timeout: Option<Duration>,
    /// How long all processes of a step that takes longer than its `timeout`, or is interrupted, may take to end after
    /// SIGTERM: `30s`. Then they are killed; with `0s` at once. Default: `10s`.
    #[schemars(example = &"30s")]
    pub grace: Option<Duration>,
    /// How often it is tried again after it failed, each time with the root and the tmpfs mounts as they were before the first
    /// try; writable binds and caches stay as the try before left them. They are copied for that, and nothing else runs in its
    /// container meanwhile. Default: 0.
    #[schemars(example = 2)]
    pub retries: Option<u32>,
    /// `true`: it runs every time, and is never taken from the store. Default: `false`.
    #[schemars(example = true)]
    pub always: Option<bool>,
    /// Of a step after its container's last snapshot. `true`: it does not run again where nothing has changed since it
    /// ended well, if all the steps there say so. Default: `false`.
    #[schemars(example = true)]
    pub cache: Option<bool>,
}

/// The image that a snapshot step writes.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map that describes a snapshot, such as { output: out.squashfs }")]
#[schemars(rename = "Snapshot", title = "snapshot")]
pub struct SnapshotDef {
    /// The content of the image. Default: `layer`.
    #[schemars(transform = schema::snapshot_mode, example = &"full")]
    pub mode: Option<String>,
    /// The file to write, relative to the manifest. It is replaced when the new one is whole. Default: the image is in
    /// the store alone.
    #[schemars(example = &"out/base-layer.squashfs")]
    pub output: Option<String>,
    /// How the image is compressed. Default: `zstd`.
    #[schemars(transform = schema::compression, example = &"xz")]
    pub compression: Option<String>,
    /// How hard it is compressed: of zstd 1 to 22, default 3; of gzip 1 to 9, default 9. The others have no level.
    #[schemars(example = 19)]
    pub level: Option<u32>,
}
