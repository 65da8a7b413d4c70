//! The key of a segment's result: equal keys, equal results. Pure; no I/O.
//!
//! A key is the digest of named fields, and of nothing else, so the fields that differ explain a different key. A
//! segment is the steps up to a snapshot (or, with `cache: true` or an export after them, those after the last one).
//!
//! | field | why it is in |
//! | --- | --- |
//! | `format` | the version of this table; raised with each intended change of it |
//! | `below` | the root that the steps start from: one digest of the rootfs source, by its content, and of each layer on it, see [`Parents`] |
//! | `runtime` | the runtime, with its program's digest where it is not runner's own: it makes the environment that a step sees |
//! | `writer` | the writer of the image: the version of runner's own writer and of its compressor, or with `RUNNER_MKSQUASHFS=1` that program's digest: another one writes other bytes (absent where no image is written) |
//! | `source_date_epoch` | in each step's environment, and in the times of the image |
//! | `hostname` `network` `user` `cwd` `env/…` `capabilities` `no_new_privileges` `limits/…` `read_only` `xino` `init` | a step sees them, or its rights depend on them |
//! | `unmask` | the paths of /proc and /sys that are unmasked, where there are any |
//! | `user_attributes` | `none` where changes live in memory and the kernel, one before 6.6, stores no `user.*` attributes there |
//! | `seccomp` | the digest of the profile's content: a step may act differently where a call is refused |
//! | `mount/TARGET` | the mount's type and options; a secret's or a cache's id, never its content |
//! | `content/TARGET` | the content of a read-only bind that is not `cache: ignore`, see [`content`](crate::content); of a mounted snapshot, or of a whole one its layers; of a mounted image |
//! | `device/TARGET` | the device in the manifest: the path on the host, the rights, mode and owner |
//! | `node/TARGET` | the node that a step finds there: the same path may be another device on another host, or have another mode |
//! | `step/N/…` | of each step in order: `run` with the `shell` that is not the default one, or `exec`, `env/…`, `cwd`, `user`, and `after` where it does not simply follow the step before |
//! | `step/N/network` `step/N/capabilities` `step/N/mount/…` `step/N/content/…` `step/N/device/…` `step/N/node/…` | the same of the settings that a step has for itself, where it has any |
//! | `step/N/copy` | of a step that copies: the kind of its source, the paths in a snapshot or the names of files of the host, the target, `owner` and `mode` |
//! | `step/N/content/M` | the content of the M-th source of a copy; of a whole root, its layers |
//! | `step/N/export` `step/N/writer` | format, path, compression, level and settings of an export, and the version of its writer |
//! | `snapshot` | mode, compression and level shape the image |
//! | `checkpoint` | for a checkpoint: the number of its steps; it is no finished layer |
//! | `import` | for an imported rootfs source, which has no other field but `format` and `writer`: its kind and its digest |
//!
//! | not in it | why |
//! | --- | --- |
//! | names of steps, containers, mounts; comments; the layout and the order of keys of the YAML | no step sees them (a container's name is its host name unless it has one, and is in the key as that) |
//! | `output` | the path of an image or an export does not change its content |
//! | `timeout`, `grace`, `retries` | they decide whether a step succeeds, and only successful results are stored |
//! | the SSH agent | the same: its keys only open what a step asks for |
//! | the content of a secret | a rotated password changes no result, and must not leave a trace |
//! | `sharing` of a `cache` mount | it decides when steps run, not their results |
//! | the content of a `cache` mount | it only makes steps faster, and must not change their results |
//! | `scratch` | the image is the same from memory and from disk, but for `user_attributes` |
//! | paths of the host | the same manifest in another directory gives the same results |
//! | data that a step gets from the network with `network: host`, and the host's `resolv.conf` | they cannot be known; a step that must ask again says `always` |
//! | `always`, `cache`, `test`, the setting `checkpoint`, `-j` | they decide whether and when steps run, not their results |
//! | times of files that are later than `source_date_epoch` | an image has no later times; earlier ones of a `dir` or `programs` root are in `below`, those of a read-only bind in `content/TARGET` |
//! | `SOURCE` of a writable bind | steps that have one are not cached, unless it says `cache: ignore` |
//!
//! An export directly on layers is a segment of its own, whose key has `format`, `below`, `source_date_epoch` and
//! `step/00000/…` alone: no process sees the container.
//!
//! `format` counts the changes of this table. Format 6: `below` is one field; before, there was a `below/N` for each
//! parent, and making a key on many layers took long. A key of another format is never found, so its results are built
//! again; a step that was last built under an older format is compared with that key as with any other.

mod fields;
#[cfg(test)]
mod golden;
mod import;
mod parents;
mod reason;
mod segment;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use fields::{KeyFields, is_below};
pub use parents::{Link, ParentRecord, Parents};
pub use reason::{Reason, reasons};
pub use segment::{fields, of_step};

use crate::digest::Digest;
use crate::model::StepId;

/// The version of the table above.
pub const FORMAT: &str = "6";

/// The facts about the host that a step's own settings add.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepInputs {
    /// The digests of its own read-only binds, by target.
    pub contents: BTreeMap<PathBuf, Digest>,
    /// The contents of its own mounted snapshots and images, by target.
    pub mounted: BTreeMap<PathBuf, String>,
    /// Its own device nodes, by target.
    pub nodes: BTreeMap<PathBuf, String>,
}

/// The facts about the host that a key needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostInputs {
    /// The digests of the read-only binds, by target.
    pub contents: BTreeMap<PathBuf, Digest>,
    /// The device nodes that steps find, by target: kind, numbers, mode and owner.
    pub nodes: BTreeMap<PathBuf, String>,
    /// Those of steps with mounts or devices of their own.
    pub of_steps: BTreeMap<StepId, StepInputs>,
    /// The contents of mounted snapshots and images, by target.
    pub mounted: BTreeMap<PathBuf, String>,
    /// The contents of the sources of copies, by the position of the step in its segment and that of the source.
    pub copied: BTreeMap<(usize, usize), String>,
    /// `embedded`, or the name of an external runtime and its digest.
    pub runtime: String,
    /// Whether files that steps make in memory cannot have `user.*` attributes, as before Linux 6.6.
    pub lacks_user_attributes: bool,
    /// The writer of images, with its version.
    pub writer: String,
    /// The writers of exports, with their versions.
    pub export_writers: BTreeMap<StepId, String>,
}
