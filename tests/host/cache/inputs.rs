//! Inputs of steps that no layer contains: binds that the build itself writes, tmpfs mounts, and inputs that cannot be known.

use std::fs;

use serde_json::json;

use super::{apply, count, edit, planned, reasons, statuses, warnings};
use crate::built::{Built, Gate, Running, project};

#[test]
fn a_writable_bind_runs_its_steps_unless_it_is_ignored() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: bind, source: out, target: /out }] }
steps:
  - { name: a, run: "echo >> /out/ran" }
  - { name: s, snapshot: {} }
"#,
    );
    fs::create_dir(project.path("out")).unwrap();
    let writable = json!([{ "kind": "writable_bind", "target": "/out" }]);
    for _ in 0..2 {
        assert_eq!(planned(&project)[0].2, writable);
        let built = apply(&project, &[]);
        assert_eq!((count(&built, "ran"), reasons(&built, "a")), (2, writable.clone()));
    }
    edit(&project, "target: /out", "target: /out, cache: ignore");
    assert_eq!(count(&apply(&project, &[]), "ran"), 2);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    assert_eq!(fs::read_to_string(project.path("out/ran")).unwrap(), "\n\n\n");
}

#[test]
fn steps_after_the_last_snapshot_are_cached_if_all_of_them_ask_for_it() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, read_only: true }
steps:
  - { name: a, run: ":", cache: true }
  - { name: b, run: ":" }
"#,
    );
    for _ in 0..2 {
        let built = apply(&project, &[]);
        assert_eq!((count(&built, "ran"), reasons(&built, "a")), (2, json!([{ "kind": "not_kept" }])));
    }
    edit(&project, "name: b,", "name: b, cache: true,");
    assert_eq!(statuses(&apply(&project, &[])), "a=ran b=ran");
    assert_eq!(statuses(&apply(&project, &[])), "a=cached b=cached");
    edit(&project, "read_only: true", "read_only: false");
    let built = apply(&project, &[]);
    let expected = json!([{ "kind": "setting_changed", "field": "read_only", "old": "true", "new": "false" }]);
    assert_eq!((count(&built, "ran"), reasons(&built, "b")), (2, expected));
}

#[test]
fn steps_run_again_if_a_later_step_needs_their_files_in_a_tmpfs() {
    let project = project(
        r#"
mounts: { tmp: { type: tmpfs, target: /tmp } }
containers:
  left: { rootfs: $TOOLS, mounts: [tmp] }
  clean: { rootfs: $TOOLS, mounts: [tmp] }
steps:
  - { name: a, container: left, run: "echo left > /tmp/file" }
  - { name: a-s, container: left, snapshot: {} }
  - { name: b, container: left, run: "cat /tmp/file; rm /tmp/file" }
  - { name: b-s, container: left, snapshot: {} }
  - { name: c, container: left, run: "ls /tmp" }
  - { name: c-s, container: left, snapshot: {} }
  - { name: d, container: clean, run: "echo > /tmp/file; rm /tmp/file" }
  - { name: d-s, container: clean, snapshot: {} }
  - { name: e, container: clean, run: "ls /tmp" }
  - { name: e-s, container: clean, snapshot: {} }
"#,
    );
    apply(&project, &[]);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    edit(&project, "ls /tmp\"", "ls /tmp; true\"");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a-s=ran a=ran b-s=ran b=ran c-s=ran c=ran d-s=cached d=cached e-s=ran e=ran");
    assert_eq!(reasons(&built, "a"), json!([{ "kind": "tmpfs_needed", "targets": ["/tmp"] }]));
    assert_eq!((built.text("b"), built.text("c")), ("left\n".into(), String::new()));
    // Nothing runs after `d` if its result is the same: then the files that it left do not matter.
    edit(&project, "echo > /tmp/file; rm", "echo > /tmp/file; true; rm");
    let built = apply(&project, &[]);
    assert_eq!(count(&built, "ran"), 2, "{}", statuses(&built));
    edit(&project, "echo left > /tmp/file", "echo other > /tmp/file; true");
    let built = apply(&project, &[]);
    assert_eq!(count(&built, "ran"), 2, "{}", statuses(&built));
}

#[test]
fn an_input_that_changes_while_steps_read_it_is_not_cached() {
    let project = project(
        r#"
mounts:
  $GATE
  src: { type: bind, source: src, target: /src, options: [ro] }
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }, src] }
steps:
  - { name: a, run: "cat /src/file > /copy; sh /gate/meet read" }
  - { name: s, snapshot: {} }
"#,
    );
    project.write("src/file", "one");
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("read");
    project.write("src/file", "two");
    gate.open("read");
    let built = build.succeed();
    let [warning] = &warnings(&built)[..] else { panic!("{}", built.run) };
    assert_eq!(
        warning,
        "s is not stored for the next build: an input has changed meanwhile: the content of /src changed: file (content); \
         a `.runnerignore` there can name files that the steps do not read"
    );
    let built = apply(&project, &[]);
    assert_eq!((count(&built, "ran"), warnings(&built)), (2, Vec::new()));
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
}

/// `early` and `late` read what `writer` writes before `late`, and `half` only in its second step.
const WRITER: &str = r#"
mounts:
  read: { type: bind, source: gen, target: /gen, options: [ro] }
  write: { type: bind, source: gen, target: /gen }
containers:
  early: { rootfs: $TOOLS, mounts: [read] }
  writer: { rootfs: $TOOLS, mounts: [write, { type: bind, source: text, target: /text }] }
  late: { rootfs: $TOOLS, mounts: [read] }
  half: { rootfs: $TOOLS, mounts: [read] }
steps:
  - { name: early, container: early, run: "ls /gen" }
  - { name: early-s, container: early, snapshot: {} }
  - { name: write, container: writer, needs: [early-s], run: "cp /text/file /gen/file" }
  - { name: late, container: late, needs: [write], run: "cat /gen/file > /copy; cat /copy" }
  - { name: late-s, container: late, snapshot: { output: late.squashfs } }
  - { name: half-1, container: half, run: "echo > /before" }
  - { name: half-2, container: half, needs: [half-1, write], run: "cat /gen/file > /copy; cat /copy" }
  - { name: half-s, container: half, snapshot: {} }
"#;

#[test]
fn a_step_after_a_write_to_its_bind_reads_the_new_file() {
    let project = project(WRITER);
    project.write("text/file", "one");
    fs::create_dir(project.path("gen")).unwrap();
    apply(&project, &[]);
    let built = apply(&project, &[]);
    assert_eq!((built.status("late"), built.status("half-2")), ("cached", "cached"), "{}", built.run);
    project.write("text/file", "two");
    let built = apply(&project, &[]);
    assert_eq!((built.status("late"), built.status("half-2")), ("ran", "ran"), "{}", built.run);
    assert_eq!((built.text("late"), built.text("half-2")), ("two".into(), "two".into()));
    assert_eq!(built.status("half-1"), "ran");
    let built = apply(&project, &[]);
    assert_eq!((built.status("late"), built.status("half-2")), ("cached", "cached"), "{}", built.run);
}

#[test]
fn a_step_after_an_output_in_its_bind_reads_the_new_image() {
    let project = project(
        r#"
containers:
  base: { rootfs: $TOOLS }
  reader: { rootfs: $TOOLS, mounts: [{ type: bind, source: out, target: /out, options: [ro] }] }
steps:
  - { name: make, container: base, run: "echo one > /file" }
  - { name: image, container: base, snapshot: { output: out/image.squashfs } }
  - { name: before, container: reader, needs: [], run: "echo > /before" }
  - { name: after, container: reader, needs: [before, image], run: "cp /out/image.squashfs /copy" }
  - { name: copied, container: reader, snapshot: {} }
"#,
    );
    fs::create_dir(project.path("out")).unwrap();
    apply(&project, &[]);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0, "the first build keeps what the second can take");
    edit(&project, "echo one > /file", "echo two > /file");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "after=ran before=ran copied=ran image=ran make=ran");
    fs::remove_file(project.path("out/image.squashfs")).unwrap();
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
}

#[test]
fn of_two_equal_segments_one_is_built_and_one_cached_and_a_failure_ends_both() {
    let project = project(
        r#"
containers:
  one: { rootfs: $TOOLS, hostname: same }
  two: { rootfs: $TOOLS, hostname: same }
steps:
  - { name: one, container: one, run: "echo > /file" }
  - { name: one-s, container: one, snapshot: {} }
  - { name: two, container: two, run: "echo > /file" }
  - { name: two-s, container: two, snapshot: {} }
"#,
    );
    let built = apply(&project, &["-j", "2"]);
    assert_eq!((count(&built, "ran"), count(&built, "cached")), (2, 2));
    edit(&project, "echo > /file", "sleep 0.2; exit 3");
    for arguments in [&["-j", "2"][..], &["-j", "2", "--keep-going"], &["-j", "1", "--keep-going"]] {
        let built = Built::of(&project, arguments);
        assert_eq!(built.run.code, 1, "{}", built.run);
    }
}

#[test]
fn a_path_that_is_another_device_or_has_another_mode_is_another_input() {
    let project = project("");
    let node = project.path("node");
    let make = |minor, mode: u32| {
        let _ = fs::remove_file(&node);
        let device = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::CharacterDevice, mode.into(), device)
            .unwrap();
    };
    make(7, 0o600);
    let text = "version: 1
containers:
  c: { rootfs: $TOOLS, devices: [{ path: NODE, target: /dev/mine }] }
steps:
  - { name: a, run: ls /dev/mine }
  - { name: s, snapshot: {} }
";
    project.write(
        "build.yaml",
        &text.replace("$TOOLS", "{ programs: [/bin/sh, /bin/ls] }").replace("NODE", node.to_str().unwrap()),
    );
    apply(&project, &[]);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    for (minor, mode, old, new) in
        [(7, 0o640, "c 1:7 0600 0:0", "c 1:7 0640 0:0"), (5, 0o640, "c 1:7 0640 0:0", "c 1:5 0640 0:0")]
    {
        make(minor, mode);
        let built = apply(&project, &[]);
        let expected = json!([{ "kind": "setting_changed", "field": "node//dev/mine", "old": old, "new": new }]);
        assert_eq!((count(&built, "ran"), reasons(&built, "a")), (2, expected));
    }
}

#[test]
fn an_output_in_a_bind_of_its_own_steps_gets_a_warning_and_can_be_ignored() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: bind, source: src, target: /src, options: [ro] }] }
steps:
  - { name: a, run: "cat /src/file" }
  - { name: s, snapshot: { output: src/out/image.squashfs } }
"#,
    );
    project.write("src/file", "one");
    let built = apply(&project, &[]);
    let [warning] = &warnings(&built)[..] else { panic!("{}", built.run) };
    assert!(warning.contains("changed: out/image.squashfs (added); this build itself writes "), "{warning}");
    project.write("src/.runnerignore", "/out\n");
    assert_eq!(warnings(&apply(&project, &[])), Vec::<String>::new());
    let built = apply(&project, &[]);
    assert_eq!((count(&built, "ran"), warnings(&built)), (0, Vec::new()));
}

#[test]
fn segments_that_wait_for_each_other_and_read_written_binds_run() {
    let project = project(
        r#"
mounts:
  read: { type: bind, source: gen, target: /read, options: [ro] }
  write: { type: bind, source: gen, target: /write, cache: ignore }
containers:
  one: { rootfs: $TOOLS, mounts: [read] }
  two: { rootfs: $TOOLS, mounts: [read, write] }
steps:
  - { name: one-a, container: one, run: ":" }
  - { name: two-a, container: two, needs: [one-a], run: "[ -e /write/file ] || echo > /write/file" }
  - { name: one-b, container: one, needs: [one-a, two-a], run: "ls /read" }
  - { name: one-s, container: one, snapshot: {} }
  - { name: two-b, container: two, needs: [two-a, one-b], run: "ls /read" }
  - { name: two-s, container: two, snapshot: {} }
"#,
    );
    fs::create_dir(project.path("gen")).unwrap();
    assert_eq!(count(&apply(&project, &[]), "ran"), 6);
    for jobs in ["1", "4"] {
        let built = apply(&project, &["-j", jobs]);
        assert_eq!((built.text("one-b"), built.status("one-a")), ("file\n".into(), "ran"), "{}", built.run);
    }
    let built = apply(&project, &[]);
    assert_eq!(reasons(&built, "one-a"), json!([{ "kind": "input_unsettled", "steps": ["two-a"] }]), "{}", built.run);
}
