//! Containers that read a directory which the steps of another container write, with no order between them.

use std::fs;
use std::os::unix::fs::symlink;

use super::{edit, warnings};
use crate::built::{Built, Gate, Running, project, wait_for};

const MANIFEST: &str = r#"
mounts:
  write: { type: bind, source: stage, target: /out }
  read: { type: bind, source: link/deep, target: /in, options: [ro] }
containers:
  w: { rootfs: $TOOLS, mounts: [write] }
  r: { rootfs: $TOOLS, mounts: [read] }
steps:
  - { name: r1, container: r, run: "ls /in" }
  - { name: r2, container: r, run: ":" }
  - { name: w1, container: w, run: "echo new > /out/deep/file" }
  - { name: w2, container: w, run: ":" }
"#;

#[test]
fn an_unordered_read_of_another_containers_writes_gets_one_warning_with_the_missing_order() {
    let project = project(MANIFEST);
    fs::create_dir_all(project.path("stage/deep")).unwrap();
    symlink("stage", project.path("link")).unwrap();
    let source = project.path("link/deep");
    let warning = format!(
        "container r reads {}, which steps of container w write, and nothing orders them: the files may be those of the build \
         before; `needs: [w2]` in step r1 makes it wait",
        source.display()
    );
    let run = project.runner(&["plan"]);
    assert_eq!((run.code, run.stderr), (0, format!("warning: {warning}\n")));
    let run = project.runner(&["validate"]);
    assert!(run.code == 0 && run.stdout.ends_with("4 steps: 1 warning\n"), "{run}");
    assert!(run.says(&warning), "{run}");
    // The step that should wait has a caret.
    assert!(run.stderr.contains("- { name: r1,") && run.stderr.contains("── does not wait for w2\n"), "{run}");
    let messages =
        |built: &Built| warnings(built).into_iter().filter(|message| message.contains("orders")).collect::<Vec<_>>();
    let built = Built::of(&project, &[]);
    assert_eq!((built.run.code, messages(&built)), (0, vec![warning]), "{}", built.run);
    // A step that the plan leaves out writes nothing.
    let run = project.runner(&["plan", "--target", "r2"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    // The order that the warning names, and any other one.
    for (from, to) in [("name: r1,", "name: r1, needs: [w2],"), ("name: r1, needs: [w2],", "name: r1, needs: [w1],")] {
        edit(&project, from, to);
        let run = project.runner(&["validate"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{to}");
        assert_eq!(messages(&Built::of(&project, &[])), Vec::<String>::new());
    }
    edit(&project, "name: r1, needs: [w1],", "name: r1,");
    edit(&project, "name: w1,", "name: w1, needs: [r2],");
    assert_eq!(project.runner(&["validate"]).stderr, "");
    edit(&project, "name: w1, needs: [r2],", "name: w1,");
    assert_ne!(project.runner(&["validate"]).stderr, "");
    for (from, to) in [("target: /in,", "target: /in, cache: ignore,"), ("options: [ro]", "options: []")] {
        edit(&project, from, to);
        assert_eq!(project.runner(&["validate"]).stderr, "", "{to}");
        edit(&project, to, from);
    }
}

#[test]
fn an_input_that_a_step_of_the_same_build_writes_meanwhile_is_reported_with_the_order() {
    let project = project(
        r#"
mounts:
  gate: { type: bind, source: gate, target: /gate, cache: ignore }
  write: { type: bind, source: stage, target: /out }
  read: { type: bind, source: stage, target: /in, options: [ro] }
containers:
  w: { rootfs: $TOOLS, mounts: [gate, write] }
  r: { rootfs: $TOOLS, mounts: [gate, read] }
steps:
  - { name: r, container: r, run: "ls /in; sh /gate/meet read" }
  - { name: s, container: r, snapshot: {} }
  - { name: w, container: w, run: "sh /gate/meet write; echo new > /out/file" }
"#,
    );
    fs::create_dir(project.path("stage")).unwrap();
    let gate = Gate::new(&project);
    let build = Running::start(&project, &["-j", "2"]);
    gate.await_step("read");
    gate.await_step("write");
    gate.open("write");
    wait_for("what w writes", || project.path("stage/file").exists().then_some(()));
    gate.open("read");
    let built = build.succeed();
    let all = warnings(&built);
    let messages = all.iter().find(|warning| warning.contains("meanwhile")).unwrap_or_else(|| panic!("{all:?}"));
    let fix = "; container w writes there at the same time: `needs: [w]` in step r gives them an order";
    assert!(messages.starts_with("s is not stored") && messages.ends_with(fix), "{messages}");
}
