//! The plan as JSON, for programs.
//!
//! ```json
//! {
//!   "name": "debian-sdk",
//!   "steps": [
//!     {"name": "packages", "container": "base", "needs": [], "action": "run", "script": "apt-get update",
//!      "fresh": false, "reasons": [{"kind": "never_built"}]},
//!     {"name": "hello", "container": "base", "needs": ["packages"], "action": "exec", "argv": ["true"], …},
//!     {"name": "layer", "container": "base", "needs": ["hello"], "action": "snapshot", "mode": "layer",
//!      "output": "/work/out/base.squashfs", "compression": "zstd", "level": null, …}
//!     {"name": "files", "container": "product", "needs": ["layer"], "action": "copy", "from": "layer",
//!      "sources": ["/usr/bin/hello"], "target": "/usr/bin", "into": true, "files_of": ["layer"], …}
//!   ]
//! }
//! ```
//!
//! An export has `"action": "export"`, `format`, `path`, `output`, `compression` (null for files) and `level`. A snapshot or an export
//! that is in the store has `"writes_output": true` where the build writes its output, and `output_state`: `missing` where nothing is
//! there, `changed` where it is not as a build wrote it. An export of `format: oci` also has `push`, its name in a registry or null, and
//! `"may_push": true` where it is in the store: the build asks the registry, and pushes the image if the tag leads elsewhere.
//!
//! `steps` are in the order of the plan, and `needs` in the manifest's order. `output` is absolute, or null if the layer only
//! goes to the store; `from` of a copy is a snapshot step, or null for the host, and `into` says that the target is a directory into
//! which each source goes under its own name; `files_of` has the snapshots whose files the step takes, if it takes any; bytes of the path that are not UTF-8 are replaced. `level` is null for the compressor's default.
//! A test has `"test": true`. `fresh` says whether the step is in the store, and `reasons` why it is not, or why that is unknown yet: the values of
//! [`Reason`](crate::cache::key::Reason). Keys may be added later; `runner plan` adds `limits`, which says for each container which
//! of its limits are in force on this host.

use serde_json::{Value, json};

use super::Note;
use crate::cache::OutputState;
use crate::model::{Action, Build, Compression, Copy, Export, Snapshot, SnapshotMode, Step, StepId};
use crate::plan::Plan;

/// Returns the plan in the format of the module's documentation.
pub fn json(build: &Build, plan: &Plan, note: impl Fn(StepId) -> Note) -> Value {
    let steps = plan.order().iter().map(|id| {
        let needs = plan.needs(*id);
        let needs = needs.iter().map(|needed| build.step(*needed).name.as_str()).collect();
        let mut value = step(build, build.step(*id), needs);
        let Note { fresh, reasons, output, may_push, .. } = note(*id);
        let state = match output {
            OutputState::Same => None,
            OutputState::Missing => Some("missing"),
            OutputState::Changed => Some("changed"),
        };
        if let Some(state) = state {
            value["writes_output"] = json!(true);
            value["output_state"] = json!(state);
        }
        if may_push {
            value["may_push"] = json!(true);
        }
        value["fresh"] = json!(fresh);
        value["reasons"] = reasons.into_iter().map(|(_, reason)| reason).collect();
        value
    });
    json!({ "name": build.name, "steps": steps.collect::<Vec<_>>() })
}

fn step(build: &Build, step: &Step, needs: Vec<&str>) -> Value {
    let mut value = match &step.action {
        Action::Run(script) => json!({ "action": "run", "script": script }),
        Action::Exec(argv) => json!({ "action": "exec", "argv": argv }),
        Action::Copy(copy) => self::copy(build, copy),
        Action::Snapshot(snapshot) => self::snapshot(snapshot),
        Action::Export(export) => self::export(export),
    };
    value["name"] = json!(step.name);
    value["container"] = json!(build.container(step.container).name);
    value["needs"] = json!(needs);
    if step.is_test() {
        value["test"] = json!(true);
    }
    let sources: Vec<_> = build.sources(step).map(|source| &build.step(source).name).collect();
    if !sources.is_empty() {
        value["files_of"] = json!(sources);
    }
    value
}

fn copy(build: &Build, copy: &Copy) -> Value {
    json!({
        "action": "copy",
        // Null is the host: a step may have any name.
        "from": copy.snapshot().map(|step| &build.step(step).name),
        "sources": copy.sources.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "target": copy.target.to_string_lossy(),
        "into": copy.into,
    })
}

fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "action": "snapshot",
        "mode": match snapshot.mode {
            SnapshotMode::Layer => "layer",
            SnapshotMode::Full => "full",
        },
        "output": snapshot.output.as_ref().map(|path| path.to_string_lossy()),
        "compression": match snapshot.compression {
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Xz => "xz",
            Compression::Lz4 => "lz4",
            Compression::None => "none",
        },
        "level": snapshot.level,
    })
}

fn export(export: &Export) -> Value {
    let mut value = json!({
        "action": "export",
        "format": export.format.name(),
        "compression": export.is_image().then(|| export.compression.name()),
        "level": export.level,
        "path": export.path.to_string_lossy(),
        "output": export.output.as_ref().map(|path| path.to_string_lossy()),
    });
    if export.oci.is_some() {
        value["push"] = json!(export.push.as_ref().map(ToString::to_string));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::plan::fixture::build;

    #[test]
    fn the_plan_has_the_documented_format() {
        let mut build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 1, &[1]), ("other", 1, &[])]);
        build.steps[1].action = Action::Exec(vec!["true".into()]);
        build.steps[2].action = Action::Snapshot(Snapshot {
            mode: SnapshotMode::Full,
            output: Some(PathBuf::from("/work/out/c.squashfs")),
            compression: Compression::Xz,
            level: Some(6),
            subtree: None,
        });
        let plan = Plan::new(&build, &[StepId(2)]);
        let note = |step: StepId| Note {
            fresh: step == StepId(0),
            output: if step == StepId(0) { OutputState::Changed } else { OutputState::Same },
            may_push: false,
            unknown: false,
            reasons: (step == StepId(1)).then(|| ("never built".into(), json!("why"))).into_iter().collect(),
        };
        assert_eq!(
            super::json(&build, &plan, note),
            json!({
                "name": "test",
                "steps": [
                    {"name": "a", "container": "c0", "needs": [], "action": "run", "script": "true",
                     "writes_output": true, "output_state": "changed", "fresh": true, "reasons": []},
                    {"name": "b", "container": "c0", "needs": ["a"], "action": "exec", "argv": ["true"],
                     "fresh": false, "reasons": ["why"]},
                    {"name": "c", "container": "c1", "needs": ["b"], "action": "snapshot", "mode": "full",
                     "output": "/work/out/c.squashfs", "compression": "xz", "level": 6,
                     "fresh": false, "reasons": []},
                ],
            })
        );
    }
}
