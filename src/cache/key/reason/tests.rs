//! Keys that differ, and the reasons that they give.

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
