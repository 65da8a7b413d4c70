//! Checkpoints: a build that fails goes on after its last slow step, and gives what it would have given at once.

use crate::built::{Built, project};
use crate::project::Project;

/// Two slow steps, with all that a layer can say in them, and one that fails as long as there is no `good` in the source.
const MANIFEST: &str = r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
  tmp: { type: tmpfs, target: /tmp }
containers:
  c:
    rootfs: $TOOLS
    mounts: [src, tmp]
    checkpoint: 200ms
steps:
  - name: one
    run: |
      mkdir -p /d/deep; echo one > /d/file; ln /d/file /d/deep/again; ln -s /nowhere /d/link
      rm -r /root; mkdir /root; echo new > /root/new; chmod 4750 /d/file; mkfifo /d/fifo
      sleep 0.3
  - { name: two, run: "cat /d/deep/again; echo two >> /d/file; rm /etc/group; sleep 0.3" }
  - { name: three, run: "cat /d/deep/again; ls /root; [ ! -e /etc/group ]; cat /src/good" }
  - { name: quick, run: "echo four > /d/four" }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#;

fn digest(built: &Built) -> String {
    built.all("snapshot_written")[0]["digest"].as_str().unwrap().to_owned()
}

fn failing() -> Project {
    let project = project(MANIFEST);
    project.write("src/other", "");
    project
}

fn statuses(built: &Built) -> Vec<&str> {
    ["one", "two", "three", "quick", "layer"].iter().map(|step| built.status(step)).collect()
}

#[test]
fn a_build_that_failed_goes_on_after_its_last_slow_step_and_gives_the_same_bytes() {
    let project = failing();
    let failed = Built::of(&project, &[]);
    assert_eq!(failed.run.code, 1, "{}", failed.run);
    assert_eq!(statuses(&failed), ["ran", "ran", "failed", "skipped", "skipped"]);
    assert_eq!(project.left_over(failed.run.pid), Vec::<String>::new());

    project.write("src/good", "good\n");
    let plan = project.runner(&["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let fresh: Vec<bool> = plan["steps"].as_array().unwrap().iter().map(|step| step["fresh"] == true).collect();
    assert_eq!(fresh, [true, true, false, false, false]);

    let resumed = Built::well(&project);
    assert_eq!(statuses(&resumed), ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!(resumed.lines("three"), ["one", "two", "new", "good"]);

    let at_once = failing();
    at_once.write("src/good", "good\n");
    let built = Built::well(&at_once);
    assert_eq!(statuses(&built), ["ran"; 5]);
    assert_eq!(digest(&resumed), digest(&built));
}

#[test]
fn a_checkpoint_of_steps_that_have_changed_is_not_gone_on_from() {
    let project = failing();
    assert_eq!(Built::of(&project, &[]).run.code, 1);
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("src/good", "good\n");
    // Of the two checkpoints the first one still holds.
    project.write("build.yaml", &text.replace("echo two", "echo TWO"));
    let built = Built::well(&project);
    assert_eq!(statuses(&built), ["cached", "ran", "ran", "ran", "ran"]);
    assert_eq!(built.lines("three"), ["one", "TWO", "new", "good"]);
    project.write("build.yaml", &text.replace("echo one", "echo ONE"));
    assert_eq!(statuses(&Built::well(&project)), ["ran"; 5]);
    let again = Built::of(&project, &["--no-cache"]);
    assert_eq!((again.run.code, statuses(&again)), (0, vec!["ran"; 5]));
}

#[test]
fn a_build_of_a_target_continues_from_the_checkpoints_of_whole_builds_and_makes_its_own() {
    let project = failing();
    let of_target = Built::of(&project, &["--target", "two"]);
    assert_eq!((of_target.run.code, of_target.status("one"), of_target.status("two")), (0, "ran", "ran"));
    // The target itself runs: no snapshot follows it here, and that it does so is what is asked for.
    let again = Built::of(&project, &["--target", "two"]);
    assert_eq!((again.run.code, again.status("one"), again.status("two")), (0, "cached", "ran"), "{}", again.run);
    project.write("src/good", "good\n");
    let third = Built::of(&project, &["--target", "three"]);
    let ended = ["one", "two", "three"].map(|step| third.status(step));
    assert_eq!((third.run.code, ended), (0, ["cached", "cached", "ran"]), "{}", third.run);
    assert_eq!(third.lines("three"), ["one", "two", "new", "good"]);
    let whole = Built::well(&project);
    assert_eq!(statuses(&whole)[..2], ["cached"; 2]);
    let at_once = failing();
    at_once.write("src/good", "good\n");
    assert_eq!(digest(&whole), digest(&Built::well(&at_once)));
}

#[test]
fn steps_after_the_last_snapshot_run_every_time_however_slow() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, checkpoint: 100ms }
steps:
  - { name: layer, snapshot: {} }
  - { name: slow, run: sleep 0.2 }
  - { name: last, run: "true" }
"#,
    );
    for _ in 0..2 {
        let built = Built::well(&project);
        assert_eq!((built.status("slow"), built.status("last")), ("ran", "ran"));
    }
}

#[test]
fn a_checkpoint_goes_when_the_snapshot_above_it_is_there() {
    let project = failing();
    assert_eq!(Built::of(&project, &[]).run.code, 1);
    let files = |folder: &str| std::fs::read_dir(project.store().join(folder)).unwrap().count();
    assert_eq!((files("layers/sha256"), files("keys")), (2, 2));
    project.write("src/good", "good\n");
    // One that it continues from, and one that it makes.
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("cat /src/good", "cat /src/good; sleep 0.3"));
    let built = Built::well(&project);
    assert_eq!(statuses(&built), ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!((files("layers/sha256"), files("keys")), (1, 1));
    assert_eq!(statuses(&Built::well(&project)), ["cached"; 5]);
}

#[test]
fn where_files_are_left_in_a_tmpfs_there_is_no_checkpoint_and_that_is_told() {
    let text = MANIFEST.replace("mkdir -p /d/deep", "echo x > /tmp/x; mkdir -p /d/deep");
    let project = project(&text);
    project.write("src/other", "");
    let failed = Built::of(&project, &[]);
    let told: Vec<&str> = failed.all("warning").iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(told, ["no checkpoint after it: files are left in /tmp, which is in no layer"; 2]);
    project.write("src/good", "good\n");
    assert_eq!(statuses(&Built::well(&project)), ["ran"; 5]);
}
