//! The reasons for which a segment's result cannot come from the store, as values.

mod display;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::Serialize;

use super::{KeyFields, is_below};

/// A reason for which a step runs. Serialised, it is in `runner plan --json` and in the events of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The store has no result of it.
    NeverBuilt,
    /// The store cannot be read, so its contents are unknown.
    StoreUnreadable {
        /// The call that failed, and the system's error.
        why: String,
    },
    /// A step differs from the one that was last built.
    StepChanged {
        /// The step's name.
        step: String,
        /// `run`, `exec`, `env/NAME`, `cwd`, `user`, `after`; `step` for one that was added or removed.
        field: String,
        /// The old value; none where there was none.
        old: Option<String>,
        /// The new value; none where there is none any more.
        new: Option<String>,
    },
    /// A setting of the container, the snapshot or the build differs.
    SettingChanged {
        /// The field's name in the key.
        field: String,
        /// The old value.
        old: Option<String>,
        /// The new value.
        new: Option<String>,
    },
    /// The content of a read-only bind differs.
    InputChanged {
        /// The mount's target.
        target: String,
        /// The first files that differ and how, where the store still has both listings.
        files: Vec<String>,
        /// The number of further files that differ.
        more: u64,
    },
    /// The content of a source of a copy differs.
    CopyChanged {
        /// The step that copies.
        step: String,
        /// The source: a path of a snapshot or of the host.
        source: String,
        /// The first files that differ and how, where the store still has both listings.
        files: Vec<String>,
        /// The number of further files that differ.
        more: u64,
    },
    /// Files come from a snapshot that is to be built, or whose files have not been read. It runs if they differ.
    SourceMayChange {
        /// The snapshot step.
        step: String,
    },
    /// The root that the steps start from differs.
    BelowChanged {
        /// The snapshot step, or the rootfs source.
        what: String,
    },
    /// The layer below is to be built itself, so its content is not known yet.
    BelowIsBuilt {
        /// The snapshot step.
        step: String,
    },
    /// Its result was built, and is no longer in the store.
    Collected,
    /// Its layer is in the store, but has changed since it was written.
    Damaged {
        /// The layer.
        digest: String,
    },
    /// Another program runs the steps or writes the image.
    ToolChanged {
        /// `runtime` or `writer`, of images.
        tool: String,
        /// The old value.
        old: String,
        /// The new value.
        new: String,
    },
    /// The steps can write to a directory of the host.
    WritableBind {
        /// The mount's target.
        target: String,
    },
    /// The content of a mount cannot be known: the kernel generates it, or it is on a disk or another machine.
    UnknownInput {
        /// The mount's target.
        target: String,
    },
    /// One of its steps says `always`.
    Always {
        /// The step's name.
        step: String,
    },
    /// No snapshot stores its changes, and not all such steps of its container say `cache: true`.
    NotKept,
    /// A later step of the session runs, and could read files that this segment left in a tmpfs mount.
    TmpfsNeeded {
        /// The targets of the mounts with such files.
        targets: Vec<String>,
    },
    /// Steps of this build that may write an input of these steps wait for these steps themselves.
    InputUnsettled {
        /// The steps that they wait for.
        steps: Vec<String>,
    },
    /// Earlier steps may write an input. It runs if one of them changes the input.
    InputMayChange {
        /// The steps.
        steps: Vec<String>,
        /// The mount's target, or the rootfs.
        target: String,
    },
    /// An input differs only in files that earlier steps may write as they were: outputs that a snapshot from the store
    /// puts back in their places, for example. It runs if the input still differs then.
    InputMayBeRestored {
        /// The steps.
        steps: Vec<String>,
        /// The mount's target.
        target: String,
        /// The first files that differ and how, where the store still has both listings.
        files: Vec<String>,
        /// The number of further files that differ.
        more: u64,
    },
    /// The layer below may change. It runs if the layer does.
    BelowMayChange {
        /// The snapshot step.
        step: String,
    },
    /// The command line says `--no-cache`.
    NoCache,
}

impl Reason {
    /// Returns this reason where it is open whether the step below, `on`, is built.
    pub fn if_below_may_change(&self, on: &str) -> Self {
        match self {
            Self::BelowIsBuilt { step } if step == on => Self::BelowMayChange { step: step.clone() },
            reason => reason.clone(),
        }
    }

    /// Whether it is still undecided that the step runs.
    pub fn is_open(&self) -> bool {
        matches!(
            self,
            Self::InputMayChange { .. }
                | Self::InputMayBeRestored { .. }
                | Self::BelowMayChange { .. }
                | Self::SourceMayChange { .. }
        )
    }
}

/// Returns the differences of two keys. `below` is the name of the lowest parent that differs, if one does; `steps` are
/// the names of the steps.
///
/// The caller adds the files of an input that changed.
pub fn reasons(old: &KeyFields, new: &KeyFields, below: Option<String>, steps: &[&str]) -> Vec<Reason> {
    // The layers above a changed layer have changed with it: the lowest is the reason.
    let mut reasons: Vec<Reason> = below.into_iter().map(|what| Reason::BelowChanged { what }).collect();
    let names = old.iter().chain(new.iter()).map(|(name, _)| name);
    let differs = |name: &str| old.get(name) != new.get(name);
    let mut names: Vec<&str> = names.filter(|name| differs(name)).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (before, now) = (old.get(name).map(str::to_owned), new.get(name).map(str::to_owned));
        let reason = match name.split_once('/') {
            _ if is_below(name) => continue,
            Some(("content", target)) if before.is_some() && now.is_some() => {
                Reason::InputChanged { target: target.to_owned(), files: Vec::new(), more: 0 }
            }
            // A bind that was added or removed is reported once, as a mount, and a change of a device in the manifest
            // as that.
            Some(("content", _)) => continue,
            Some(("node", target)) if differs(&format!("device/{target}")) => continue,
            // With another compression, the compressor differs as well.
            None if name == "writer" && differs("snapshot") => continue,
            Some(("step", rest)) => {
                let (n, field) = rest.split_once('/').unwrap_or((rest, ""));
                let step = n.parse().ok().and_then(|n: usize| steps.get(n)).copied().unwrap_or("the last").to_owned();
                match field.split_once('/') {
                    // The content of a bind has the name of its target, that of a copied source a number, for which the caller
                    // sets the source's name.
                    Some(("content", source)) if before.is_some() && now.is_some() => match source.starts_with('/') {
                        true => Reason::InputChanged { target: source.to_owned(), files: Vec::new(), more: 0 },
                        false => Reason::CopyChanged { step, source: source.to_owned(), files: Vec::new(), more: 0 },
                    },
                    // One that was added or removed is a change of the mounts, or of the copy.
                    Some(("content", _)) => continue,
                    Some(("node", target)) if differs(&format!("step/{n}/device/{target}")) => continue,
                    _ => Reason::StepChanged { step, field: field.to_owned(), old: before, new: now },
                }
            }
            None if matches!(name, "runtime" | "writer") => Reason::ToolChanged {
                tool: name.to_owned(),
                old: before.unwrap_or_default(),
                new: now.unwrap_or_default(),
            },
            _ => Reason::SettingChanged { field: name.to_owned(), old: before, new: now },
        };
        reasons.push(reason);
    }
    reasons
}
