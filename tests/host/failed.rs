//! Steps that fail: what depends on them stops, what was there before stays, and nothing is left.

use crate::project::Project;

const MANIFEST: &str = "
version: 1
containers:
  first: { rootfs: { programs: [/bin/sh, /bin/sleep] }, scratch: { disk: true } }
  second: { rootfs: { snapshot: done } }
steps:
  - { name: write, container: first, run: echo one > /file }
  - { name: done, container: first, snapshot: { output: out/done.squashfs } }
  - { name: fill, container: second, run: (sleep 99 &); echo last words >&2; exit 9 }
  - { name: rest, container: second, snapshot: { output: out/rest.squashfs } }
";

#[test]
fn a_step_that_fails_stops_what_needs_it_and_leaves_outputs_of_before() {
    let project = Project::new(MANIFEST);
    project.write("out/rest.squashfs", "of an earlier build");
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("step fill failed: exit code 9") && run.stdout.contains("last words"), "{run}");
    assert!(run.stdout.contains("fill.log") && run.stdout.contains("rest  * skipped: fill failed"), "{run}");
    assert!(project.path("out/done.squashfs").exists());
    assert_eq!(std::fs::read_to_string(project.path("out/rest.squashfs")).unwrap(), "of an earlier build");
    assert_eq!(project.left_over(run.pid), Vec::<String>::new());
}
