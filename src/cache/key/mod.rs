//! The key of what a part of a session gives: equal keys, equal results. Pure; no I/O.
//!
//! A key is the digest of named fields, and of nothing else, so a key that is another one can be explained by the fields
//! that differ. A part is the steps up to a snapshot (or, with `cache: true`, those after the last one).
//!
//! | field | why it is in |
//! | --- | --- |
//! | `format` | what this table says; raised with each change of it that is meant |
//! | `below` | the root that the steps start from: one digest of the rootfs source, by its content, and of each layer on it, see [`Parents`] |
//! | `runtime` | the runtime, with its program's digest where it is not runner's own: it makes what a step sees |
//! | `writer` | what writes the image: the version of runner's own writer and of its compressor, or with `RUNNER_MKSQUASHFS=1` that program's digest: another one writes other bytes (not where no image is written) |
//! | `source_date_epoch` | in each step's environment, and in the times of the image |
//! | `hostname` `network` `user` `cwd` `env/…` `capabilities` `no_new_privileges` `limits/…` `read_only` `xino` `init` | a step sees them, or what it may do depends on them |
//! | `unmask` | the paths of /proc and /sys that steps find open, where there are any |
//! | `user_attributes` | `none` where changes live in memory and the kernel, one before 6.6, keeps no `user.*` attributes there |
//! | `seccomp` | what the profile says, by its digest: a step may go another way where a call is refused |
//! | `mount/TARGET` | what is mounted there and how; a secret's or a cache's id, never what is in it |
//! | `content/TARGET` | what is in a read-only bind that is not `cache: ignore`, see [`content`](crate::content) |
//! | `device/TARGET` | what the manifest says: the path on the host, what is allowed, mode and owner |
//! | `node/TARGET` | the node that a step finds there: the same path is another device on another host, or has another mode |
//! | `step/N/…` | of each step in order: `run` with the `shell` that is not the default one, or `exec`, `env/…`, `cwd`, `user`, and `after` where it does not just follow the one before |
//! | `snapshot` | mode, compression and level shape the image |
//! | `checkpoint` | of a checkpoint: after how many steps; it holds no finished layer |
//!
//! | not in it | why | | --- | --- | | names of steps, containers, mounts; comments; the layout and the order of keys
//! of the YAML | nothing inside sees them (a container's name is its host name unless it has one, and in as that) | |
//! `output` | where the image is put is no part of it | | `timeout`, `grace`, `retries` | they decide whether a step
//! ends well, and only what ended well is kept | | what is in a secret | a rotated password changes no result, and must
//! not leave a trace | | `sharing` of a `cache` mount | it decides when steps run, not what they give | | what is in a
//! `cache` mount | it is there to be faster, and must not change what comes out | | `scratch` | the image is the same
//! from memory and from disk, but for `user_attributes` | | paths of the host | the same manifest in another directory
//! gives the same | | what a step finds on the network with `network: host`, and the host's `resolv.conf` | nobody can
//! know it; a step that is to look again says `always` | | `always`, `cache`, the setting `checkpoint`, `-j` | whether
//! and when steps run, not what they give | | times of files that are later than `source_date_epoch` | an image has
//! none that are; earlier ones of a `dir` or `programs` root are in `below`, those of a read-only bind in
//! `content/TARGET` | | `SOURCE` of a writable bind | steps that have one are not cached, unless it says `cache:
//! ignore` |
//!
//! `format` counts the changes of what a key is made of. Format 6: `below` is one field; before, there was a `below/N` for each
//! parent, so that a key on many layers took long. A key of another format is never found, so what was built under it is built
//! once more; a step that was last built under one is compared with it as with any other key.

mod fields;
#[cfg(test)]
mod golden;
mod parents;
mod reason;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use fields::{Fields, fields, is_below, of_step};
pub use parents::{Link, ParentRecord, Parents};
pub use reason::{Reason, reasons};

use crate::digest::Digest;

/// The version of the table above.
pub const FORMAT: &str = "6";

/// What is to be known of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    /// What is in the read-only binds, by target.
    pub contents: BTreeMap<PathBuf, Digest>,
    /// The device nodes that steps find, by target: kind, numbers, mode and owner.
    pub nodes: BTreeMap<PathBuf, String>,
    /// `embedded`, or the name of an external runtime and its digest.
    pub runtime: String,
    /// Files that steps make in memory cannot have `user.*` attributes, as before Linux 6.6.
    pub lacks_user_attributes: bool,
    /// What writes images, with its version.
    pub writer: String,
}
