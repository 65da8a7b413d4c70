//! The commands that build nothing, the arguments of `apply`, and the sources of settings.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::built::{Built, Running, project};
use crate::project::{Project, Run};

const MANIFEST: &str = r#"
vars: { word: of the manifest }
containers:
  base: { rootfs: $TOOLS }
  other: { rootfs: $TOOLS }
  next: { rootfs: { snapshot: layer } }
steps:
  - { name: write, container: base, run: "echo ${{ word }} > /file" }
  - { name: layer, container: base, snapshot: { output: out/layer.squashfs } }
  - { name: aside, container: other, exec: [cat, /nosuch] }
  - { name: read, container: next, exec: [cat, /file] }
  - { name: last, container: next, exec: [cat, /file] }
"#;

/// Runs runner as a user without rights, by a descriptor: the program may lie in a directory that the user may not enter.
pub fn by_nobody(project: &Project, arguments: &[&str]) -> Run {
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all";
    let shell = format!("exec 9< \"$1\"; shift; exec {nobody} /proc/self/fd/9 \"$@\"");
    project.runner_in_shell(&shell, arguments)
}

#[test]
fn a_plan_of_a_user_without_a_store_names_that_store_and_the_one_of_root() {
    let project = project(MANIFEST);
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all";
    let shell = format!("exec 9< \"$1\"; shift; unset RUNNER_STORE; HOME=$PWD exec {nobody} /proc/self/fd/9 \"$@\"");
    let store = project.path(".cache/runner");
    let note = format!(
        "note: this user has no store in {}; `--store /var/cache/runner` selects the store of root\n",
        store.display()
    );
    for command in [&["plan"][..], &["plan", "--json"], &["graph"]] {
        let run = project.runner_in_shell(&shell, command);
        assert_eq!((run.code, run.stderr.as_str()), (0, note.as_str()), "{run}");
    }
    let named = project.runner_in_shell(&shell, &["plan", "--store", "none"]);
    assert_eq!((named.code, named.stderr.as_str()), (0, ""), "{named}");
    assert!(!store.exists());
}

#[test]
fn plan_validate_and_schema_need_no_privilege_and_apply_asks_for_root() {
    let project = project(MANIFEST);
    let plan = by_nobody(&project, &["plan"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (0, ""), "{plan}");
    let steps = plan.stdout.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let lines: Vec<Vec<&str>> = steps.map(|line| line.split_whitespace().collect()).collect();
    assert!(plan.stdout.contains("never built"), "{plan}");
    let order: Vec<&str> = lines.iter().map(|line| line[1]).collect();
    assert_eq!(order, ["write", "layer", "aside", "read", "last"]);
    assert!(lines[3].ends_with(&["(after", "2)"]), "{plan}");

    let plan = by_nobody(&project, &["plan", "--json", "--target", "read"]);
    assert_eq!((plan.code, plan.stderr.as_str()), (0, ""), "{plan}");
    let json: Value = serde_json::from_str(&plan.stdout).unwrap();
    let steps: Vec<&str> =
        json["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["write", "layer", "read"]);

    let validate = by_nobody(&project, &["validate"]);
    assert_eq!((validate.code, validate.stdout.as_str()), (0, "build.yaml: 3 containers, 5 steps: nothing wrong\n"));
    let schema = by_nobody(&project, &["schema"]);
    assert_eq!((schema.code, schema.stdout.as_str()), (0, include_str!("../../schemas/manifest.v1.schema.json")));

    let apply = by_nobody(&project, &["apply"]);
    assert_eq!((apply.code, apply.stdout.as_str()), (3, ""), "{apply}");
    assert!(apply.stderr.contains("needs root") && apply.stderr.contains("run it with sudo"), "{apply}");
    assert!(!project.store().exists());
}

#[test]
fn a_plan_without_access_to_the_store_reports_the_reason() {
    let project = project(MANIFEST);
    assert_eq!(Built::of(&project, &["--target", "read"]).run.code, 0);
    for arguments in [&["plan"][..], &["plan", "--json"]] {
        let plan = by_nobody(&project, arguments);
        assert_eq!(plan.code, 0, "{plan}");
        let why = format!("cannot read {}: Permission denied", project.store().join("format").display());
        let is_known =
            plan.stdout.contains("the contents of the store are unknown") || plan.stdout.contains("store_unreadable");
        assert!(plan.stdout.contains(&why) && is_known, "{plan}");
        assert!(!plan.stdout.contains("never built"), "{plan}");
    }
    // It may read all of the store but the records of what was built.
    fs::set_permissions(project.store(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(project.store().join("format"), fs::Permissions::from_mode(0o644)).unwrap();
    let plan = by_nobody(&project, &["plan"]);
    assert!(plan.stdout.contains("are unknown: cannot read") && plan.stdout.contains("/keys: "), "{plan}");
}

#[test]
fn a_wrong_manifest_ends_every_command_that_reads_it_with_2_before_anything_runs() {
    let project = project(&MANIFEST.replace("snapshot: layer", "snapshot: leyer"));
    for arguments in [&["apply"][..], &["plan"], &["validate"], &["run", "base", "--", "true"]] {
        let run = project.runner(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run}");
        for text in ["unknown step `leyer`", "build.yaml:7:31", "╰── no step has this name", "did you mean `layer`?"]
        {
            assert!(run.stderr.contains(text), "{arguments:?}: {text}: {run}");
        }
    }
    assert!(!project.store().exists());
}

#[test]
fn a_build_of_a_target_runs_only_the_steps_that_it_needs_with_the_variables_of_the_command_line() {
    let project = project(MANIFEST);
    let built = Built::of(&project, &["--target", "read", "--set", "word=of the command line"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    let mut done: Vec<&str> = built.all("step_finished").iter().map(|event| event["step"].as_str().unwrap()).collect();
    done.sort_unstable();
    assert_eq!(done, ["layer", "read", "write"]);
    assert_eq!(built.text("read"), "of the command line\n");
}

#[test]
fn with_keep_going_steps_that_do_not_depend_on_a_failed_one_run() {
    let project = project(MANIFEST);
    let built = Built::of(&project, &["--keep-going", "-j", "1"]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    let statuses = ["write", "layer", "aside", "read", "last"].map(|step| built.status(step));
    assert_eq!(statuses, ["ran", "ran", "failed", "ran", "ran"]);
    let last = built.events.last().unwrap();
    assert_eq!((&last["status"], &last["ran"], &last["failed"]), (&"failed".into(), &4.into(), &1.into()));
}

#[test]
fn the_store_is_that_of_the_flag_else_of_the_variable_else_of_the_settings_file() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS } }
steps: [{ name: image, snapshot: {} }]
"#,
    );
    project.write("runner.toml", "store = \"of-file\"\nprogress = \"quiet\"\n");
    let flag = project.path("of-flag").display().to_string();
    let layers = || {
        let stores = ["of-file", "store", "of-flag"].into_iter();
        stores.filter(|store| project.path(store).join("layers/sha256").exists()).collect::<Vec<_>>()
    };
    let run = |arguments: &[&str], variable: bool| {
        let mut command = project.command(arguments);
        if !variable {
            command.env_remove("RUNNER_STORE");
        }
        let output = command.output().unwrap();
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    };
    run(&["apply"], false);
    assert_eq!(layers(), ["of-file"]);
    run(&["apply"], true);
    assert_eq!(layers(), ["of-file", "store"]);
    run(&["apply", "--store", &flag], true);
    assert_eq!(layers(), ["of-file", "store", "of-flag"]);
    // The events come in spite of the file's `quiet`: a flag overrides it.
    let built = Running::start(&project, &[]).end();
    assert_eq!(built.all("snapshot_written").len(), 1, "{}", built.run);

    project.write("runner.toml", "sture = \"elsewhere\"\n");
    let run = project.runner(&["apply"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
    assert!(run.stderr.contains("runner.toml:1:1") && run.stderr.contains("did you mean `store`?"), "{run}");
}

#[test]
fn doctor_finds_that_this_host_can_build_and_leaves_nothing() {
    let project = project(MANIFEST);
    let doctor = project.runner(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor}");
    assert!(doctor.stdout.ends_with("\nthis host can build\n") && !doctor.stdout.contains("missing"), "{doctor}");
    let has_erofs = fs::read_to_string("/proc/filesystems").unwrap().contains("erofs");
    assert_eq!(doctor.stdout.contains("erofs         the kernel mounts it\n"), has_erofs, "{doctor}");
    assert_eq!(project.leftovers(doctor.pid), Vec::<String>::new());
    let doctor = by_nobody(&project, &["doctor"]);
    assert_eq!(doctor.code, 3, "{doctor}");
    assert!(doctor.stdout.contains("fix: run it with sudo"), "{doctor}");
    let without = project.runner_in_shell("export RUNNER_RUNTIME=embedded PATH=/nowhere; exec \"$@\"", &["doctor"]);
    assert_eq!(without.code, 0, "{without}");
    assert!(without.stdout.contains("not in PATH; runner writes images itself"), "{without}");
    let shell = "export RUNNER_RUNTIME=embedded RUNNER_MKSQUASHFS=1 PATH=/nowhere; exec \"$@\"";
    let without = project.runner_in_shell(shell, &["doctor"]);
    assert_eq!(without.code, 3, "{without}");
    let fix = "fix: unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools";
    assert!(without.stdout.contains(fix), "{without}");
    fs::create_dir(project.path("bin")).unwrap();
    std::os::unix::fs::symlink("/usr/sbin/runc", project.path("bin/runc")).unwrap();
    let without = project
        .runner_in_shell("export RUNNER_MKSQUASHFS=1 PATH=$PWD/bin; exec \"$@\"", &["apply", "--target", "layer"]);
    assert_eq!(without.code, 3, "{without}");
    // Reported before anything runs.
    let reason =
        "step write failed: mksquashfs is not in PATH; unset RUNNER_MKSQUASHFS, or apt-get install squashfs-tools\n";
    assert!(without.stdout.contains(reason), "{without}");
    assert_eq!(project.leftovers(without.pid), Vec::<String>::new());
}

#[test]
fn on_a_terminal_of_40_columns_no_line_is_wider_but_one_of_a_single_word() {
    let project = project(MANIFEST);
    let built = Built::of(&project, &["--target", "layer"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    // script(1) gives a terminal, and ends with the exit code of the command on it.
    let on_terminal = "RUN=\"$*\"; exec script -qec \"stty cols 40 rows 24; exec $RUN\" /dev/null";
    for (arguments, line) in
        [(&["plan"][..], "3  aside  other  runs"), (&["doctor"], "this host can build"), (&["store", "ls"], "  built ")]
    {
        let run = project.runner_in_shell(on_terminal, arguments);
        let lines: Vec<&str> = run.stdout.lines().map(|line| line.trim_end_matches('\r')).collect();
        assert_eq!(run.code, 0, "{run}");
        let is_narrow = |line: &str| line.chars().count() <= 40 || !line.trim_start().contains(' ');
        assert!(lines.iter().all(|line| is_narrow(line)), "{run}");
        assert!(lines.len() > 2 && lines.iter().any(|found| found.starts_with(line)), "{line}: {run}");
    }
}

also_with_runc! {
    doctor_finds_that_this_host_can_build_and_leaves_nothing,
}
