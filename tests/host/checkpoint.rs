//! Checkpoints: a build that fails goes on after its last slow step, and gives what it would have given at once.

use std::io::{BufRead, BufReader};

use crate::built::{Built, Gate, Running, project};
use crate::project::{Project, RUNTIME};

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
fn checkpoints_are_reported_when_they_are_stored_and_when_a_session_begins_with_one() {
    let project = failing();
    let failed = Built::of(&project, &[]);
    let of = |built: &Built, kind: &str, key: &str| {
        built.all(kind).iter().map(|event| event[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Each is written behind the next step, so one may overtake the other.
    let mut written = of(&failed, "checkpoint_written", "step");
    written.sort();
    assert_eq!(written, ["one", "two"]);
    assert!(failed.all("checkpoint_written").iter().all(|event| event["size"].as_u64() > Some(0)));
    project.write("src/good", "good\n");
    let resumed = Built::well(&project);
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
    // What the gate holds is no input.
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("target: /gate }", "target: /gate, cache: ignore }"));
    let gate = Gate::new(&project);
    let mut build = Running::start(&project, &[]);
    let mut lines = BufReader::new(build.stdout()).lines().map(Result::unwrap);
    let mut seen = Vec::new();
    gate.await_step("next");
    // While the next step runs, and has changed what the checkpoint holds.
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
    let built = Built::well(&project);
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

/// A container sees the output of a later step in a bind: a checkpoint of what it did with the one before is no use then.
#[test]
fn a_checkpoint_from_before_a_step_wrote_what_the_session_sees_is_not_restored() {
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
    let built = Built::well(&project);
    assert_eq!((built.status("two"), built.status("three")), ("ran", "ran"), "{}", built.run);
}

/// As without any setting.
#[test]
fn by_default_a_build_continues_behind_the_steps_that_took_over_five_seconds_together() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
containers:
  c: { rootfs: $TOOLS, mounts: [src] }
steps:
  - { name: one, run: "echo one > /file; sleep 2.6" }
  - { name: two, run: "echo two >> /file; sleep 2.6" }
  - { name: three, run: "echo three >> /file" }
  - { name: four, run: "cat /file; cat /src/good" }
  - { name: layer, snapshot: {} }
"#,
    );
    project.write("src/other", "");
    let failed = Built::of(&project, &[]);
    assert_eq!(failed.run.code, 1, "{}", failed.run);
    let written: Vec<_> = failed.all("checkpoint_written").iter().map(|event| event["step"].clone()).collect();
    assert_eq!(written, ["two"]);
    let continues = &failed.all("build_finished")[0]["continues"][0];
    assert_eq!(continues["step"], "three");
    assert_eq!(continues["again"], 1);
    let plain = project.runner(&["apply"]);
    assert!(plain.stdout.contains("\n  runs again from step three on (1 step, 0."), "{plain}");
    project.write("src/good", "good\n");
    let built = Built::well(&project);
    let ended = ["one", "two", "three", "four", "layer"].map(|step| built.status(step));
    assert_eq!(ended, ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!(built.lines("four"), ["one", "two", "three", "good"]);
}

#[test]
fn by_default_no_build_waits_for_a_copy_that_takes_long_beside_its_steps() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - name: many
    run: |
      mkdir /many; cd /many
      i=0; while [ $i -lt 40000 ]; do : > $i; i=$((i + 1)); done
      sleep 5.1
  - { name: next, run: exit 1 }
  - { name: layer, snapshot: {} }
"#,
    );
    let failed = Built::of(&project, &[]);
    assert_eq!((failed.run.code, failed.status("many")), (1, "ran"), "{}", failed.run);
    assert_eq!(failed.all("checkpoint_written").len() + failed.all("warning").len(), 0, "{}", failed.run);
    let continues = &failed.all("build_finished")[0]["continues"][0];
    assert_eq!((&continues["step"], &continues["again"]), (&"many".into(), &1.into()));
    let why = continues["why"].as_str().unwrap();
    assert!(why.starts_with("a copy of their changes takes over 2% of the time that they took; "), "{why}");
    assert_eq!(project.left_over(failed.run.pid), Vec::<String>::new());
}

#[test]
fn a_build_that_fails_gives_the_reason_for_which_steps_run_again() {
    let text = MANIFEST.replace("mkdir -p /d/deep", "echo x > /tmp/x; mkdir -p /d/deep");
    let of = |text: &str| {
        let project = project(text);
        project.write("src/other", "");
        let failed = Built::of(&project, &[]);
        let continues = &failed.all("build_finished")[0]["continues"][0];
        let of = |key: &str| continues[key].as_str().unwrap_or_default().to_owned();
        (of("step"), of("why"))
    };
    assert_eq!(of(&text), ("one".into(), "files are left in /tmp, which is in no layer".into()));
    let off = MANIFEST.replace("checkpoint: 200ms", "checkpoint: off");
    assert_eq!(of(&off), ("one".into(), "the container has `checkpoint: off`".into()));
    let (kept, _) = MANIFEST.split_once("  - { name: layer").unwrap();
    assert_eq!(of(kept), ("one".into(), "no snapshot follows them".into()));
}

#[test]
fn a_checkpoint_that_is_still_being_written_when_its_snapshot_is_there_leaves_nothing() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, checkpoint: 100ms }
steps:
  - { name: slow, run: "cd /; i=0; while [ $i -lt 30000 ]; do echo $i > f$i; i=$((i + 1)); done" }
  - { name: quick, run: "rm /f*" }
  - { name: layer, snapshot: {} }
"#,
    );
    let built = Built::well(&project);
    let files = |folder: &str| std::fs::read_dir(project.store().join(folder)).unwrap().count();
    assert_eq!((files("layers/sha256"), files("keys"), files("building")), (1, 1, 0), "{}", built.run);
    assert_eq!(project.left_over(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_slow_step_that_ends_after_the_build_has_failed_is_in_a_checkpoint_though_its_snapshot_is_skipped() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
containers:
  a: { rootfs: $TOOLS, checkpoint: 200ms }
  b: { rootfs: $TOOLS, mounts: [src] }
steps:
  - { name: slow, container: a, run: "echo slow > /file; sleep 1.5" }
  - { name: layer, container: a, snapshot: {} }
  - { name: other, container: b, run: "sleep 0.3; cat /src/good" }
"#,
    );
    project.write("src/other", "");
    let failed = Built::of(&project, &["-j", "2"]);
    let ended = ["slow", "layer", "other"].map(|step| failed.status(step));
    assert_eq!((failed.run.code, ended), (1, ["ran", "skipped", "failed"]), "{}", failed.run);
    let continues = &failed.all("build_finished")[0]["continues"];
    assert_eq!(continues.as_array().unwrap().len(), 1, "{}", failed.run);
    assert_eq!((&continues[0]["container"], &continues[0]["step"]), (&"a".into(), &"layer".into()));
    project.write("src/good", "good\n");
    let built = Built::well(&project);
    assert_eq!(["slow", "layer", "other"].map(|step| built.status(step)), ["cached", "ran", "ran"]);
    // A build that goes well has no use for one there.
    assert_eq!(built.all("checkpoint_written").len() + Built::well(&project).all("checkpoint_written").len(), 0);
}

#[test]
fn a_layer_whose_output_cannot_be_written_is_not_built_again() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - { name: slow, run: "echo slow > /file" }
  - { name: layer, snapshot: { output: out/layer.squashfs } }
"#,
    );
    std::fs::create_dir(project.path("out")).unwrap();
    let full =
        "exec unshare -m sh -c 'mount -t tmpfs -o size=4k,nr_inodes=1 none \"$PROJECT/out\" && exec \"$@\"' sh \"$@\"";
    let full = full.replace("$PROJECT", project.path(".").to_str().unwrap());
    let failed = Built::from_run(project.runner_in_shell(&full, &["apply", "--progress", "json"]));
    assert_eq!((failed.run.code, failed.status("layer")), (3, "failed"), "{}", failed.run);
    assert_eq!(failed.all("build_finished")[0]["continues"], serde_json::Value::Null, "{}", failed.run);
    let built = Built::well(&project);
    assert_eq!(["slow", "layer"].map(|step| built.status(step)), ["cached", "cached"], "{}", built.run);
    assert!(project.path("out/layer.squashfs").exists());
}

#[test]
fn a_shell_in_the_state_before_a_step_begins_with_the_checkpoint_that_holds_it() {
    let project = failing();
    assert_eq!(Built::of(&project, &["--no-keep-failed"]).run.code, 1);
    let run = project.runner_in_shell("echo 'cat /d/file' | \"$@\"", &["shell", "three"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "one\ntwo\n"), "{run}");
    assert!(!run.stderr.contains("started"), "{run}");
}

#[test]
fn a_checkpoint_that_is_made_again_leaves_no_image_of_the_first_one() {
    let project = failing();
    for _ in 0..2 {
        assert_eq!(Built::of(&project, &["--no-cache", "--no-keep-failed"]).run.code, 1);
        let files = |folder: &str| std::fs::read_dir(project.store().join(folder)).unwrap().count();
        assert_eq!((files("layers/sha256"), files("keys")), (2, 2));
    }
}

/// Steps whose effects differ where a session is mounted anew between them: each of them is in the layer as without.
#[test]
fn what_only_a_mount_or_a_container_knows_makes_no_difference_to_a_layer() {
    let steps = |last: &str| {
        format!(
            r#"
mounts:
  src: {{ type: bind, source: src, target: /src, options: [ro], cache: ignore }}
containers:
  c:
    rootfs: {{ squashfs: base.squashfs }}
    mounts: [src]
    checkpoint: 100ms
    $MORE
steps:
  - {{ name: one, run: "rm -r /a; $ONE; sleep 0.2" }}
  - {{ name: two, run: "rm -r /b; $TWO; {last}" }}
  - {{ name: layer, snapshot: {{}} }}
"#
        )
    };
    for (name, more, one, two, is_checkpointed) in [
        ("whiteouts", "", "true", "true", true),
        (
            "dev",
            "",
            "mkdir /dev/build; echo 42 > /dev/build/answer",
            "cat /dev/build/answer > /x || echo none > /x",
            false,
        ),
        ("node", "", "chmod 600 /dev/null", "stat -c %a /dev/null > /x", false),
        (
            "network",
            "capabilities: { add: [NET_ADMIN] }",
            "ip addr add 10.1.2.3/32 dev lo",
            "ip -o addr show dev lo | grep -o 10.1.2.3 > /x || echo none > /x",
            false,
        ),
        (
            "flags",
            "capabilities: { add: [LINUX_IMMUTABLE] }",
            "echo original > /imm; chattr +i /imm",
            "(echo changed > /imm) || true; cat /imm > /x",
            true,
        ),
        ("late", "", "touch -d @20000000000 /late", "stat -c %Y /late > /x", true),
        ("early", "", "mkdir /early; touch -d @-5000000000 /early", "stat -c %Y /early > /x", true),
    ] {
        let base = project(
            "
containers: { c: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/mkdir, /bin/rm, /bin/sleep, /bin/chmod, /bin/touch, /bin/grep,
  /usr/bin/stat, /usr/bin/chattr, /sbin/ip] } } }
steps:
  - { name: fill, run: mkdir -p /a/deep /b }
  - { name: base, snapshot: { mode: full, output: base.squashfs } }
",
        );
        base.apply();
        let of = |last: &str, arguments: &[&str]| {
            let text = steps(last).replace("$MORE", more).replace("$ONE", one).replace("$TWO", two);
            base.write("build.yaml", &format!("version: 1\n{text}"));
            Built::of(&base, arguments)
        };
        base.write("src/other", "");
        let failed = of("cat /src/good", &["--no-keep-failed"]);
        assert_eq!(failed.run.code, 1, "{name}: {}", failed.run);
        // With an external runtime each step has a container of its own.
        let is_checkpointed = is_checkpointed || RUNTIME != "embedded";
        assert_eq!(failed.all("checkpoint_written").len() == 1, is_checkpointed, "{name}: {}", failed.run);
        base.write("src/good", "");
        let (resumed, whole) = (of("cat /src/good", &[]), of("cat /src/good", &["--no-cache"]));
        assert_eq!((resumed.run.code, whole.run.code), (0, 0), "{name}: {}{}", resumed.run, whole.run);
        assert_eq!(digest(&resumed), digest(&whole), "{name}");
    }
}
