//! Checkpoints where a container sets none, the reasons that a failed build gives, and the bytes after a continued build.

use super::{MANIFEST, failing};
use crate::built::{Built, Gate, Running, project, wait_for};
use crate::runtime::runtime;

/// The default, without any setting.
#[test]
fn by_default_a_build_continues_after_steps_of_more_than_five_seconds_in_total() {
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
    let built = Built::succeed(&project);
    let ended = ["one", "two", "three", "four", "layer"].map(|step| built.status(step));
    assert_eq!(ended, ["cached", "cached", "ran", "ran", "ran"]);
    assert_eq!(built.lines("four"), ["one", "two", "three", "good"]);
}

#[test]
fn by_default_a_checkpoint_whose_copy_costs_too_much_is_skipped_with_the_reason() {
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
    assert_eq!(project.leftovers(failed.run.pid), Vec::<String>::new());
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
  - { name: slow, run: "cd /; i=0; while [ $i -lt 10000 ]; do echo $i > f$i; i=$((i + 1)); done" }
  - { name: quick, run: "rm /f*" }
  - { name: layer, snapshot: {} }
"#,
    );
    let built = Built::succeed(&project);
    let files = |directory: &str| std::fs::read_dir(project.store().join(directory)).unwrap().count();
    assert_eq!((files("layers/sha256"), files("keys"), files("building")), (1, 1, 0), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_slow_step_that_ends_after_a_failure_is_in_a_checkpoint() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro], cache: ignore }
  gate: { type: bind, source: gate, target: /gate, cache: ignore }
containers:
  a: { rootfs: $TOOLS, mounts: [gate], checkpoint: 200ms }
  b: { rootfs: $TOOLS, mounts: [src] }
steps:
  - { name: slow, container: a, run: "echo slow > /file; sh /gate/meet slow; sleep 0.3" }
  - { name: layer, container: a, snapshot: {} }
  - { name: other, container: b, run: "cat /src/good" }
"#,
    );
    project.write("src/other", "");
    let gate = Gate::new(&project);
    let build = Running::start(&project, &["-j", "2", "--log-file", "events.jsonl"]);
    gate.await_step("slow");
    wait_for("the other step to fail", || {
        let text = std::fs::read_to_string(project.path("events.jsonl")).unwrap_or_default();
        text.lines().any(|line| line.contains("\"step_finished\"") && line.contains("\"other\"")).then_some(())
    });
    gate.open("slow");
    let failed = build.end();
    let ended = ["slow", "layer", "other"].map(|step| failed.status(step));
    assert_eq!((failed.run.code, ended), (1, ["ran", "skipped", "failed"]), "{}", failed.run);
    let continues = &failed.all("build_finished")[0]["continues"];
    assert_eq!(continues.as_array().unwrap().len(), 1, "{}", failed.run);
    assert_eq!((&continues[0]["container"], &continues[0]["step"]), (&"a".into(), &"layer".into()));
    project.write("src/good", "good\n");
    let built = Built::succeed(&project);
    assert_eq!(["slow", "layer", "other"].map(|step| built.status(step)), ["cached", "ran", "ran"]);
    // A build that succeeds needs no such checkpoint.
    assert_eq!(built.all("checkpoint_written").len() + Built::succeed(&project).all("checkpoint_written").len(), 0);
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
    let built = Built::succeed(&project);
    assert_eq!(["slow", "layer"].map(|step| built.status(step)), ["cached", "cached"], "{}", built.run);
    assert!(project.path("out/layer.squashfs").exists());
}

#[test]
fn a_shell_before_a_step_starts_from_the_checkpoint_of_that_state() {
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
        let files = |directory: &str| std::fs::read_dir(project.store().join(directory)).unwrap().count();
        assert_eq!((files("layers/sha256"), files("keys")), (2, 2));
    }
}

/// Steps whose effects differ where a session is mounted again between them: the layer has each of them as without a checkpoint.
#[test]
fn a_build_continued_from_a_checkpoint_gives_the_same_layer() {
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
            true,
        ),
        ("node", "", "chmod 600 /dev/null", "stat -c %a /dev/null > /x", true),
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
        let is_checkpointed = is_checkpointed || runtime() != "embedded";
        assert_eq!(failed.all("checkpoint_written").len() == 1, is_checkpointed, "{name}: {}", failed.run);
        base.write("src/good", "");
        let (resumed, whole) = (of("cat /src/good", &[]), of("cat /src/good", &["--no-cache"]));
        assert_eq!((resumed.run.code, whole.run.code), (0, 0), "{name}: {}{}", resumed.run, whole.run);
        assert_eq!(resumed.digest("layer"), whole.digest("layer"), "{name}");
    }
}

also_with_runc! {
    a_build_continued_from_a_checkpoint_gives_the_same_layer,
}
