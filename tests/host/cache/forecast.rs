//! A plan's forecast for steps whose inputs a step of the same build may write first.

use serde_json::json;

use super::{apply, planned, statuses};
use crate::built::project;

#[test]
fn a_plan_marks_a_step_as_unknown_if_an_earlier_step_writes_its_bind() {
    let project = project(
        r#"
mounts:
  write: { type: bind, source: stage, target: /out }
  read: { type: bind, source: stage, target: /stage, options: [ro] }
containers:
  w: { rootfs: $TOOLS, mounts: [write] }
  r: { rootfs: $TOOLS, mounts: [read] }
  top: { rootfs: { snapshot: s } }
steps:
  - { name: w, container: w, run: "cat /out/next > /out/made" }
  - { name: r, container: r, needs: [w], run: "cat /stage/made > /made" }
  - { name: s, container: r, snapshot: {} }
  - { name: t, container: top, run: "cat /made" }
  - { name: u, container: top, snapshot: {} }
"#,
    );
    project.write("stage/next", "one\n");
    apply(&project, &[]);
    let writable = json!([{ "kind": "writable_bind", "target": "/out" }]);
    let may_change = json!([{ "kind": "input_may_change", "steps": ["w"], "target": "/stage" }]);
    let below = json!([{ "kind": "below_may_change", "step": "s" }]);
    let expected = [("w", &writable), ("r", &may_change), ("s", &may_change), ("t", &below), ("u", &below)];
    let expected = expected.map(|(name, reasons)| (name.to_owned(), false, reasons.clone()));
    assert_eq!(planned(&project), expected);
    let text = project.runner(&["plan"]).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[2].starts_with("2  r  r    maybe  cat") && lines[3] == "   runs if w changes /stage", "{text}");
    assert!(lines[5].starts_with("4  t  top  maybe  ") && lines[6] == "   runs if the layer of s changes", "{text}");
    let graph = project.runner(&["graph"]).stdout;
    // The count includes those of the legend.
    let steps: Vec<&str> = graph.lines().filter(|line| !line.trim_start().starts_with("l_")).collect();
    let count = |class: &str| steps.iter().filter(|line| line.ends_with(class)).count();
    assert_eq!((count(":::due"), count(":::maybe")), (1, 4), "{graph}");
    // The forecast is right: the steps are fresh where the result is the same, and run where it is not.
    assert_eq!(statuses(&apply(&project, &[])), "r=cached s=cached t=cached u=cached w=ran");
    project.write("stage/next", "two\n");
    assert_eq!(statuses(&apply(&project, &[])), "r=ran s=ran t=ran u=ran w=ran");
}

#[test]
fn a_plan_marks_a_step_as_unknown_if_an_earlier_cached_snapshot_may_restore_its_bind() {
    let project = project(
        r#"
mounts:
  read: { type: bind, source: out, target: /in, options: [ro] }
containers:
  a: { rootfs: $TOOLS }
  b: { rootfs: $TOOLS, mounts: [read] }
  top: { rootfs: { snapshot: s } }
steps:
  - { name: a, container: a, run: "echo a > /a" }
  - { name: image, container: a, snapshot: { output: out/image.squashfs } }
  - { name: b, container: b, needs: [image], run: "ls /in > /b" }
  - { name: s, container: b, snapshot: {} }
  - { name: t, container: top, run: "cat /b" }
  - { name: u, container: top, snapshot: {} }
"#,
    );
    project.write("out/other", "one\n");
    apply(&project, &[]);
    let in_order = |expected: [&serde_json::Value; 6]| {
        let names = ["a", "image", "b", "s", "t", "u"];
        let all = names.into_iter().zip(expected);
        all.map(|(name, why)| (name.to_owned(), *why == json!([]), why.clone())).collect::<Vec<_>>()
    };
    let none = json!([]);
    let below = json!([{ "kind": "below_may_change", "step": "s" }]);
    for (change, how) in [("rm out/image.squashfs", "removed"), ("echo x > out/image.squashfs", "content")] {
        project.script(change);
        let files = json!([format!("image.squashfs ({how})")]);
        let restored = json!([{ "kind": "input_may_be_restored", "steps": ["image"], "target": "/in", "files": files, "more": 0 }]);
        assert_eq!(planned(&project), in_order([&none, &none, &restored, &restored, &below, &below]), "{change}");
        let text = project.runner(&["plan"]).stdout;
        let line = format!("   runs unless image restores the content of /in, which changed: image.squashfs ({how})");
        assert!(text.contains("3  b      b    maybe  ls") && text.lines().any(|found| found == line), "{text}");
        // The forecast is right.
        assert_eq!(statuses(&apply(&project, &[])), "a=cached b=cached image=cached s=cached t=cached u=cached");
    }
    // No step of the build restores another file.
    project.script("rm out/image.squashfs; echo two > out/other");
    let files = json!(["image.squashfs (removed)", "other (content)"]);
    let changed = json!([{ "kind": "input_changed", "target": "/in", "files": files, "more": 0 }]);
    let built = json!([{ "kind": "below_is_built", "step": "s" }]);
    assert_eq!(planned(&project), in_order([&none, &none, &changed, &changed, &built, &built]));
    assert_eq!(statuses(&apply(&project, &[])), "a=cached b=ran image=cached s=ran t=cached u=cached");
}

#[test]
fn a_plan_marks_a_step_as_unknown_if_an_earlier_step_that_runs_may_restore_its_bind() {
    let project = project(
        r#"
mounts:
  write: { type: bind, source: stage, target: /out }
  read: { type: bind, source: stage, target: /stage, options: [ro] }
containers:
  w: { rootfs: $TOOLS, mounts: [write] }
  r: { rootfs: $TOOLS, mounts: [read] }
steps:
  - { name: w, container: w, run: "echo made > /out/made" }
  - { name: r, container: r, needs: [w], run: "cat /stage/made > /made" }
  - { name: s, container: r, snapshot: {} }
"#,
    );
    project.write("stage/same", "one\n");
    apply(&project, &[]);
    project.script("rm stage/made");
    let files = json!(["made (removed)"]);
    let restored =
        json!([{ "kind": "input_may_be_restored", "steps": ["w"], "target": "/stage", "files": files, "more": 0 }]);
    assert_eq!(planned(&project)[1], ("r".to_owned(), false, restored));
    assert_eq!(statuses(&apply(&project, &[])), "r=cached s=cached w=ran");
}
