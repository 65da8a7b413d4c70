//! Checkpoints: a build that fails continues after its last slow step, and gives the same result as an uninterrupted one.

mod by_default;

use std::io::{BufRead, BufReader};

use crate::built::{Built, Gate, Running, project};
use crate::project::Project;

/// Two slow steps, with every kind of entry that a layer can contain, and one that fails until the source has `good`.
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

fn failing() -> Project {
    let project = project(MANIFEST);
    project.write("src/other", "");
    project
}

fn statuses(built: &Built) -> Vec<&str> {
    ["one", "two", "three", "quick", "layer"].iter().map(|step| built.status(step)).collect()
}

#[test]
fn a_failed_build_continues_after_its_last_slow_step_and_gives_the_same_bytes() {
    let project = failing();
    let failed = Built::of(&project, &[]);
    assert_eq!(failed.run.code, 1, "{}", failed.run);
    assert_eq!(statuses(&failed), ["ran", "ran", "failed", "skipped", "skipped"]);
    assert_eq!(project.leftovers(failed.run.pid), Vec::<String>::new());

    project.write("src/good", "good\n");
    let plan = project.runner(&["plan", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let fresh: Vec<bool> = plan["steps"].as_array().unwrap().iter().map(|step| step["fresh"] == true).collect();
    assert_eq!(fresh, [true, true, false, false, false]);

    let resumed = Built::succeed(&project);
    assert_eq!(statuses(&resumed), ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!(resumed.lines("three"), ["one", "two", "new", "good"]);

    let at_once = failing();
    at_once.write("src/good", "good\n");
    let built = Built::succeed(&at_once);
    assert_eq!(statuses(&built), ["ran"; 5]);
    assert_eq!(resumed.digest("layer"), built.digest("layer"));
}

#[test]
fn a_build_does_not_continue_from_a_checkpoint_of_changed_steps() {
    let project = failing();
    assert_eq!(Built::of(&project, &[]).run.code, 1);
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("src/good", "good\n");
    // Of the two checkpoints the first one is still valid.
    project.write("build.yaml", &text.replace("echo two", "echo TWO"));
    let built = Built::succeed(&project);
    assert_eq!(statuses(&built), ["cached", "ran", "ran", "ran", "ran"]);
    assert_eq!(built.lines("three"), ["one", "TWO", "new", "good"]);
    project.write("build.yaml", &text.replace("echo one", "echo ONE"));
    assert_eq!(statuses(&Built::succeed(&project)), ["ran"; 5]);
    let again = Built::of(&project, &["--no-cache"]);
    assert_eq!((again.run.code, statuses(&again)), (0, vec!["ran"; 5]));
}

#[test]
fn a_build_of_a_target_continues_from_the_checkpoints_of_whole_builds_and_makes_its_own() {
    let project = failing();
    let of_target = Built::of(&project, &["--target", "two"]);
    assert_eq!((of_target.run.code, of_target.status("one"), of_target.status("two")), (0, "ran", "ran"));
    // The target itself runs: no snapshot follows it here, and a requested target runs.
    let again = Built::of(&project, &["--target", "two"]);
    assert_eq!((again.run.code, again.status("one"), again.status("two")), (0, "cached", "ran"), "{}", again.run);
    project.write("src/good", "good\n");
    let third = Built::of(&project, &["--target", "three"]);
    let ended = ["one", "two", "three"].map(|step| third.status(step));
    assert_eq!((third.run.code, ended), (0, ["cached", "cached", "ran"]), "{}", third.run);
    assert_eq!(third.lines("three"), ["one", "two", "new", "good"]);
    let whole = Built::succeed(&project);
    assert_eq!(statuses(&whole)[..2], ["cached"; 2]);
    let at_once = failing();
    at_once.write("src/good", "good\n");
    assert_eq!(whole.digest("layer"), Built::succeed(&at_once).digest("layer"));
}

#[test]
fn slow_steps_after_the_last_snapshot_run_in_every_build() {
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
        let built = Built::succeed(&project);
        assert_eq!((built.status("slow"), built.status("last")), ("ran", "ran"));
    }
}

#[test]
fn a_checkpoint_is_removed_once_its_snapshot_is_stored() {
    let project = failing();
    assert_eq!(Built::of(&project, &[]).run.code, 1);
    let files = |dir: &str| std::fs::read_dir(project.store().join(dir)).unwrap().count();
    assert_eq!((files("layers/sha256"), files("keys")), (2, 2));
    project.write("src/good", "good\n");
    // One that the build continues from, and one that it makes.
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("cat /src/good", "cat /src/good; sleep 0.3"));
    let built = Built::succeed(&project);
    assert_eq!(statuses(&built), ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!((files("layers/sha256"), files("keys")), (1, 1));
    assert_eq!(statuses(&Built::succeed(&project)), ["cached"; 5]);
}

#[test]
fn checkpoints_are_reported_when_they_are_stored_and_when_a_session_begins_with_one() {
    let project = failing();
    let failed = Built::of(&project, &[]);
    let of = |built: &Built, kind: &str, key: &str| {
        built.all(kind).iter().map(|event| event[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Each is written during the next step, so one may overtake the other.
    let mut written = of(&failed, "checkpoint_written", "step");
    written.sort();
    assert_eq!(written, ["one", "two"]);
    assert!(failed.all("checkpoint_written").iter().all(|event| event["size"].as_u64() > Some(0)));
    project.write("src/good", "good\n");
    let resumed = Built::succeed(&project);
    assert_eq!(of(&resumed, "checkpoint_restored", "step"), ["three"]);
    assert_eq!(of(&resumed, "checkpoint_restored", "after"), ["two"]);
    let project = failing();
    let plain = project.runner(&["apply"]);
    assert!(plain.stdout.contains("two   * checkpoint stored (4."), "{plain}");
    let listed = project.runner(&["store", "ls"]);
    assert!(listed.stdout.contains("/c/two (checkpoint)"), "{listed}");
    assert!(listed.stdout.contains("2 layers, ") && listed.stdout.contains("; sessions of failed steps, "), "{listed}");
}

#[test]
fn a_checkpoint_is_written_behind_the_next_step_from_its_copy() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate], checkpoint: 100ms }
steps:
  - { name: slow, run: "echo slow > /file; sleep 0.2" }
  - { name: next, run: "echo next > /file; echo more > /more; sh /gate/meet next; exit 1" }
  - { name: last, snapshot: {} }
"#,
    );
    // The content of the gate is no input.
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("target: /gate }", "target: /gate, cache: ignore }"));
    let gate = Gate::new(&project);
    let mut build = Running::start(&project, &[]);
    let mut lines = BufReader::new(build.stdout()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    gate.await_step("next");
    // While the next step runs, and has changed files of the checkpoint.
    for line in lines.by_ref() {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        seen.push(format!("{} {}", event["event"].as_str().unwrap(), event["step"].as_str().unwrap_or_default()));
        if event["event"] == "checkpoint_written" {
            break;
        }
    }
    assert!(!seen.contains(&"step_finished next".to_owned()), "{seen:?}");
    gate.open("next");
    drop(lines);
    assert_eq!(build.end().run.code, 1);
    project.write(
        "build.yaml",
        &std::fs::read_to_string(project.path("build.yaml"))
            .unwrap()
            .replace("echo next > /file; echo more > /more; sh /gate/meet next; exit 1", "cat /file; [ ! -e /more ]"),
    );
    let built = Built::succeed(&project);
    assert_eq!((built.status("slow"), built.lines("next")), ("cached", vec!["slow".to_owned()]));
}

#[test]
fn a_checkpoint_whose_copy_has_no_room_in_the_store_is_written_before_the_next_step() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, checkpoint: 100ms }
steps:
  - { name: slow, run: "head -c 20000000 /dev/zero | tr '\\0' x > /file; sleep 0.2" }
  - { name: next, run: exit 1 }
  - { name: last, snapshot: {} }
"#,
    );
    std::fs::create_dir(project.store()).unwrap();
    let mount =
        "exec unshare -m sh -c 'mount -t tmpfs -o size=8m,mode=700 none \"$RUNNER_STORE\" && exec \"$@\"' sh \"$@\"";
    let run = project.runner_in_shell(mount, &["apply", "--progress", "json", "--no-keep-failed"]);
    let built = Built::from_run(run);
    assert_eq!((built.run.code, built.status("slow"), built.status("next")), (1, "ran", "failed"), "{}", built.run);
    let stored = built.all("checkpoint_written");
    assert!(stored.len() == 1 && stored[0]["size"].as_u64() < Some(8 << 20), "{}", built.run);
    assert_eq!(built.all("warning"), Vec::<&serde_json::Value>::new());
}

#[test]
fn files_in_a_tmpfs_prevent_a_checkpoint_with_a_warning() {
    let text = MANIFEST.replace("mkdir -p /d/deep", "echo x > /tmp/x; mkdir -p /d/deep");
    let project = project(&text);
    project.write("src/other", "");
    let failed = Built::of(&project, &[]);
    let messages: Vec<&str> = failed.all("warning").iter().map(|event| event["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["no checkpoint after it: files are left in /tmp, which is in no layer"; 2]);
    project.write("src/good", "good\n");
    assert_eq!(statuses(&Built::succeed(&project)), ["ran"; 5]);
}

/// A container sees the output of a later step in a bind: a checkpoint of the steps before that one is no use then.
#[test]
fn a_checkpoint_older_than_a_write_to_a_bind_of_the_session_is_not_restored() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
  img: { type: bind, source: img, target: /img, options: [ro] }
containers:
  a:
    rootfs: { programs: [/bin/sh, /bin/cat, /bin/cp, /bin/sleep, /usr/bin/cmp] }
    mounts: [src, img]
    checkpoint: 100ms
  b: { rootfs: { scratch: true }, env: { WORD: first } }
steps:
  - { name: one, container: a, run: "true" }
  - { name: x, container: b, needs: [one], snapshot: { mode: full, output: img/x } }
  - { name: two, container: a, needs: [one, x], run: "cp /img/x /seen; sleep 0.2" }
  - { name: three, container: a, run: "cat /src/good; cmp /img/x /seen" }
  - { name: layer, container: a, snapshot: {} }
"#,
    );
    for directory in ["img", "src"] {
        std::fs::create_dir_all(project.path(directory)).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(Built::of(&project, &[]).status("three"), "failed");
    }
    project.write("src/good", "good\n");
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("{ mode: full, output", "{ mode: full, compression: gzip, output"));
    let built = Built::succeed(&project);
    assert_eq!((built.status("two"), built.status("three")), ("ran", "ran"), "{}", built.run);
}

also_with_runc! {
    a_failed_build_continues_after_its_last_slow_step_and_gives_the_same_bytes,
}
