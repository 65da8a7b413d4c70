//! `runner lock --check` and `apply --locked` where the lock is of other inputs, or of a build of more steps.

use std::fs;

use crate::built::{Built, project};
use crate::project::Project;

const MANIFEST: &str = r#"
source_date_epoch: 1000
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
containers:
  c: { rootfs: $TOOLS, mounts: [src], env: { A: one } }
  d: { rootfs: { snapshot: snap } }
steps:
  - { name: copy, container: c, run: "cat /src/a > /a; env >> /a" }
  - { name: snap, container: c, snapshot: {} }
  - { name: more, container: d, run: "echo more > /more" }
  - { name: top, container: d, snapshot: {} }
"#;

fn locked(manifest: &str) -> Project {
    let project = project(manifest);
    project.write("src/a", "one\n");
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    project
}

#[test]
fn a_mismatch_ends_with_the_command_that_accepts_it() {
    let project = locked(MANIFEST);
    fs::rename(project.path("build.yaml"), project.path("sdk.yaml")).unwrap();
    assert_eq!(project.runner(&["lock", "sdk.yaml", "--lock-file", "sdk.lock"]).code, 0);
    project.write("src/a", "two\n");
    let run = project.runner(&["apply", "sdk.yaml", "--locked", "--lock-file", "sdk.lock"]);
    assert_eq!(run.code, 4, "{run}");
    let shown = format!("{}{}", run.stdout, run.stderr);
    let last = shown.trim_end().lines().last().unwrap();
    assert!(last.starts_with("if the change is meant, write the lock anew: "), "{run}");
    assert!(last.ends_with(" lock sdk.yaml --lock-file sdk.lock"), "{run}");
    assert!(!shown.contains("to build again"), "{run}");
    let built = Built::of(&project, &["sdk.yaml", "--locked", "--lock-file", "sdk.lock"]);
    assert_eq!(built.ending("snap")["failure"]["mismatched"], true, "{}", built.run);
}
