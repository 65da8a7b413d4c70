//! The reasons for which a segment's result cannot come from the store, as values.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::{KeyFields, is_below};

/// The number of characters that are shown of a value.
const WIDTH: usize = 60;
/// The number of them, for a long value, that are shown before the difference.
const BEFORE: usize = 20;

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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverBuilt => f.write_str("never built"),
            Self::StoreUnreadable { why } => {
                write!(f, "the contents of the store are unknown: {why}; run this as the owner of the store")
            }
            Self::StepChanged { step, field, old, new } => {
                write!(f, "step {step} changed: {field}: {}", change(old.as_deref(), new.as_deref()))
            }
            Self::SettingChanged { field, old, new } => {
                write!(f, "{field} changed: {}", change(old.as_deref(), new.as_deref()))
            }
            Self::InputChanged { target, files, more } => {
                write!(f, "the content of {target} changed{}", Files(files, *more))
            }
            Self::CopyChanged { step, source, files, more } => {
                write!(f, "the content of {source}, which {step} copies, changed{}", Files(files, *more))
            }
            Self::SourceMayChange { step } => write!(f, "runs if the files that it takes from {step} have changed"),
            Self::BelowChanged { what } => write!(f, "a layer below changed: {what}"),
            Self::BelowIsBuilt { step } => write!(f, "the layer below is built first: {step}"),
            Self::Collected => f.write_str("it was built, and is no longer in the store"),
            Self::Damaged { digest } => write!(f, "its layer was damaged: {digest}"),
            Self::ToolChanged { tool, old, new } => write!(f, "{tool} changed: {old} → {new}"),
            Self::WritableBind { target } => {
                write!(f, "the content of {target} cannot be known: writable and not `cache: ignore`")
            }
            Self::UnknownInput { target } => {
                write!(
                    f,
                    "the content of {target} cannot be known: its filesystem does not report changes, and it is not `cache: ignore`"
                )
            }
            Self::Always { step } => write!(f, "step {step} runs always"),
            Self::NotKept => f.write_str("no snapshot follows, and not every such step says `cache: true`"),
            Self::TmpfsNeeded { targets } => {
                write!(f, "later steps run, and could read its files in {}", targets.join(", "))
            }
            Self::InputUnsettled { steps } => {
                write!(f, "an input may still change before its later steps, which wait for {}", steps.join(", "))
            }
            Self::InputMayChange { steps, target } => {
                let verb = if steps.len() == 1 { "changes" } else { "change" };
                write!(f, "runs if {} {verb} {target}", steps.join(" or "))
            }
            Self::InputMayBeRestored { steps, target, files, more } => {
                write!(
                    f,
                    "runs unless {} restores the content of {target}, which changed{}",
                    steps.join(" or "),
                    Files(files, *more)
                )
            }
            Self::BelowMayChange { step } => write!(f, "runs if the layer of {step} changes"),
            Self::NoCache => f.write_str("--no-cache"),
        }
    }
}

/// The first files that differ, and the number of further ones.
struct Files<'a>(&'a [String], u64);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, more) = self;
        let files: Vec<String> = first.iter().map(|file| shown(Some(file), 0)).collect();
        write!(f, "{}{}", if files.is_empty() { "" } else { ": " }, files.join(", "))?;
        if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// Returns the old value and the new one; of long values, the part where they begin to differ.
fn change(old: Option<&str>, new: Option<&str>) -> String {
    let same = old.zip(new).map_or(0, |(old, new)| old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count());
    let is_long = [old, new].into_iter().flatten().any(|value| value.chars().count() > WIDTH);
    let from = if is_long { same.saturating_sub(BEFORE) } else { 0 };
    format!("{} → {}", shown(old, from), shown(new, from))
}

/// Returns a value on one line, shortened, and without its first `from` characters.
fn shown(value: Option<&str>, from: usize) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let before = (from > 0).then_some('…');
    let rest = value.chars().skip(from).map(|c| if c.is_control() { ' ' } else { c });
    let line: String = before.into_iter().chain(rest).collect();
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::{HostInputs, Link, Parents, fields};
    use crate::model::{Action, Build, Rootfs, StepId};
    use crate::plan::fixture::build;
    use crate::plan::{Plan, Segments};

    fn of(build: &Build, inputs: &HostInputs) -> KeyFields {
        let segments = Segments::new(build, &Plan::new(build, &[]));
        fields(build, segments.get(0), inputs).with_base(&below("squashfs 1", "2"))
    }

    fn below(rootfs: &str, layer: &str) -> Parents {
        [("rootfs", rootfs), ("layer", layer)]
            .map(|(name, id)| Link { name: name.into(), id: id.into() })
            .into_iter()
            .collect()
    }

    fn two_steps() -> Build {
        build(&[("a", 0, &[]), ("b", 0, &[0])])
    }

    fn inputs() -> HostInputs {
        HostInputs {
            lacks_user_attributes: false,
            of_steps: Default::default(),
            mounted: [].into(),
            copied: [].into(),
            contents: [("/src".into(), crate::digest::Digest::of_bytes(b""))].into(),
            nodes: [].into(),
            runtime: "embedded".into(),
            writer: "squashfs 1 zstd 1.5.7".into(),
            export_writers: [].into(),
        }
    }

    #[test]
    fn a_changed_step_is_reported_with_the_old_and_the_new_value() {
        let (old, mut new) = (two_steps(), two_steps());
        new.steps[1].action = Action::Run("false\ntrue".into());
        let reasons = reasons(&of(&old, &inputs()), &of(&new, &inputs()), None, &["a", "b"]);
        assert_eq!(
            reasons,
            [Reason::StepChanged {
                step: "b".into(),
                field: "run".into(),
                old: Some("true".into()),
                new: Some("false\ntrue".into())
            }]
        );
        assert_eq!(reasons[0].to_string(), "step b changed: run: true → false true");
    }

    #[test]
    fn long_values_are_shown_from_their_first_difference() {
        let long = |middle: &str| format!("{}\n{middle} {}", "a ".repeat(40), "z".repeat(80));
        let text = change(Some(&long("one")), Some(&long("two")));
        let cut = |middle: &str| format!("… a a a a a a a a a  {middle} {}…", "z".repeat(34));
        assert_eq!(text, format!("{} → {}", cut("one"), cut("two")));
        assert!(text.chars().count() <= 2 * WIDTH + 3, "{text}");
        assert_eq!(change(Some("a b"), Some("a c")), "a b → a c");
        assert_eq!(change(None, Some(&"é".repeat(61))), format!("nothing → {}…", "é".repeat(59)));
    }

    #[test]
    fn the_lowest_changed_layer_is_reported() {
        let old = of(&two_steps(), &inputs());
        let now = below("squashfs 9", "8");
        let new = old.without_base().with_base(&now);
        let what = now.changed_since(&below("squashfs 1", "2"));
        assert_eq!(reasons(&old, &new, what, &["a", "b"]), [Reason::BelowChanged { what: "rootfs".into() }]);
    }

    #[test]
    fn a_key_of_an_older_format_differs_in_format_and_changed_parents() {
        let new = of(&two_steps(), &inputs());
        let mut former = new.without_base();
        for (name, value) in [("below/00000", "squashfs 1"), ("below/00001", "2"), ("format", "5")] {
            former.set(name, value);
        }
        assert_eq!((former.below(), former.listed_below()), (None, below("squashfs 1", "2")));
        assert_eq!(former.without_base().get("format"), Some("5"));
        let text = |now: &Parents| {
            let reasons = reasons(&former, &new, now.changed_since(&former.listed_below()), &["a", "b"]);
            reasons.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let format = "format changed: 5 → 6";
        assert_eq!(text(&below("squashfs 1", "2")), [format]);
        assert_eq!(text(&below("squashfs 1", "3")), ["a layer below changed: layer", format]);
    }

    #[test]
    fn changes_of_an_input_a_tool_and_a_setting_have_reasons_of_their_own() {
        let (old, mut new) = (inputs(), inputs());
        new.contents.insert("/src".into(), crate::digest::Digest::of_bytes(b"x"));
        new.runtime = "runc 1.1.5".into();
        let (build, mut other) = (two_steps(), two_steps());
        other.containers[0].hostname = "h".into();
        let text: Vec<String> =
            reasons(&of(&build, &old), &of(&other, &new), None, &[]).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            ["the content of /src changed", "hostname changed: c0 → h", "runtime changed: embedded → runc 1.1.5"]
        );
    }

    #[test]
    fn equal_keys_give_no_reasons() {
        let mut named = two_steps();
        named.steps[0].name = "another".into();
        named.steps[0].retries = 3;
        named.containers[0].rootfs = Rootfs::Snapshot(StepId(0));
        assert_eq!(reasons(&of(&two_steps(), &inputs()), &of(&named, &inputs()), None, &[]), []);
        assert_eq!(of(&two_steps(), &inputs()).key(), of(&named, &inputs()).key());
    }
}
