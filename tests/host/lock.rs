//! `runner.lock`, builds that are held to it, and `runner verify`.

use std::fs;

use serde_json::Value;

use crate::built::{Built, project};
use crate::commands::by_nobody;
use crate::project::Project;

const MANIFEST: &str = r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
containers:
  base: { rootfs: $TOOLS, mounts: [src] }
  app: { rootfs: { snapshot: base-layer } }
steps:
  - { name: write, container: base, run: "cat /src/text > /text" }
  - { name: base-layer, container: base, snapshot: { output: out/base.squashfs } }
  - { name: more, container: app, run: "echo more >> /text" }
  - { name: image, container: app, snapshot: { mode: full, output: out/app.squashfs } }
"#;

fn locked() -> Project {
    let project = project(MANIFEST);
    project.write("src/text", "one\n");
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    project
}

#[test]
fn a_lock_holds_a_build_to_its_inputs_and_results_and_names_what_differs() {
    let project = locked();
    let text = fs::read_to_string(project.path("runner.lock")).unwrap();
    let lock: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!((lock["rootfs"].as_array().unwrap().len(), lock["snapshot"].as_array().unwrap().len()), (1, 2));
    assert_eq!(project.runner(&["lock", "--check"]).code, 0);
    let built = Built::of(&project, &["--locked"]);
    assert_eq!(built.run.code, 0, "{}", built.run);

    // Another input gives another layer: the output of before stays.
    let before = fs::read(project.path("out/base.squashfs")).unwrap();
    project.write("src/text", "two\n");
    let built = Built::of(&project, &["--locked"]);
    assert_eq!(built.run.code, 4, "{}", built.run);
    let reason = built.reason("base-layer");
    assert!(reason.starts_with("not as runner.lock says: snapshot base-layer: locked sha256:"), "{reason}");
    assert!(reason.ends_with("; where the change is meant, write the lock anew with `runner lock`"), "{reason}");
    assert_eq!(built.status("image"), "skipped");
    assert_eq!(fs::read(project.path("out/base.squashfs")).unwrap(), before);
    assert_eq!(project.left_over(built.run.pid), Vec::<String>::new());

    project.write("src/text", "one\n");
    let rootfs = lock["rootfs"][0]["digest"].as_str().unwrap();
    project.write("runner.lock", &text.replace(rootfs, &format!("sha256:{}", "0".repeat(64))));
    for arguments in [&["apply", "--locked"][..], &["lock", "--check"]] {
        let run = project.runner(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{run}");
        assert!(run.stderr.contains("the rootfs of container base: locked programs sha256:0000"), "{run}");
        assert!(run.stderr.contains("`runner lock`"), "{run}");
    }
}

#[test]
fn a_check_by_a_user_who_may_not_read_the_store_fails_unless_something_else_differs() {
    let project = locked();
    let check = by_nobody(&project, &["lock", "--check"]);
    assert_eq!((check.code, check.stdout.as_str()), (3, ""), "{check}");
    let why = format!("cannot read {}: Permission denied", project.store().join("format").display());
    let error = format!("error: cannot compare base-layer, image with runner.lock: {why}");
    assert!(check.stderr.starts_with(&error) && check.stderr.contains("  help: run as root, or"), "{check}");
    project.write("runner.lock", "version = 1\n");
    let check = by_nobody(&project, &["lock", "--check"]);
    assert!(check.code == 4 && check.stderr.contains("snapshot image: is not in the lock"), "{check}");
}

#[test]
fn lock_and_verify_show_a_build_as_asked_for_and_print_their_result_beside_events() {
    let project = locked();
    for (command, result) in [("lock", "runner.lock: 1 rootfs, 2 snapshots\n"), ("verify", "image: the same, sha256:")]
    {
        let run = project.runner(&[command, "--progress", "json"]);
        assert_eq!(run.code, 0, "{run}");
        let events: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.last().unwrap()["event"], "build_finished", "{run}");
        assert!(run.stderr.contains(result), "{run}");
        let run = project.runner(&[command, "--progress", "quiet"]);
        assert!(run.code == 0 && run.stderr.is_empty() && run.stdout.contains(result), "{run}");
        assert!(!run.stdout.contains("finished"), "{run}");
    }
}

#[test]
fn a_lock_that_is_missing_or_names_too_little_or_too_much_is_told() {
    let project = locked();
    let text = fs::read_to_string(project.path("runner.lock")).unwrap();
    fs::remove_file(project.path("runner.lock")).unwrap();
    for arguments in [&["apply", "--locked"][..], &["lock", "--check"]] {
        let run = project.runner(arguments);
        assert_eq!(run.code, 4, "{run}");
        assert!(run.stderr.contains("there is no ") && run.stderr.contains("`runner lock` writes it"), "{run}");
    }
    project.write("runner.lock", &text.replace("step = \"image\"", "step = \"gone\""));
    let check = project.runner(&["lock", "--check"]);
    assert_eq!(check.code, 4, "{check}");
    assert!(check.stderr.contains("snapshot image: is not in the lock"), "{check}");
    assert!(check.stderr.contains("snapshot gone: is locked, and not in the manifest"), "{check}");
    let apply = project.runner(&["apply", "--locked"]);
    assert_eq!((apply.code, apply.stdout.as_str()), (4, ""), "{apply}");
}

#[test]
fn a_verification_builds_again_and_names_the_files_that_differ() {
    let project = locked();
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 0, "{verified}");
    assert!(verified.stdout.contains("base-layer: the same, sha256:"), "{verified}");
    assert!(verified.stdout.contains("image: the same, sha256:"), "{verified}");
    assert_eq!(project.left_over(verified.pid), Vec::<String>::new());

    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("echo more >> /text", "cat /proc/sys/kernel/random/uuid > /random"));
    assert_eq!(project.runner(&["lock"]).code, 0);
    let outputs = fs::read(project.path("out/app.squashfs")).unwrap();
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 4, "{verified}");
    assert!(verified.stdout.contains("base-layer: the same"), "{verified}");
    assert!(verified.stdout.contains("image: expected sha256:"), "{verified}");
    assert!(verified.stdout.contains("  ~ /random  content: from byte "), "{verified}");
    assert_eq!(fs::read(project.path("out/app.squashfs")).unwrap(), outputs, "outputs are left alone");
    assert_eq!(project.runner(&["verify", "--target", "base-layer"]).code, 0);
    assert_eq!(project.left_over(verified.pid), Vec::<String>::new());
}

#[test]
fn without_anything_to_compare_with_a_verification_says_so() {
    let project = project(MANIFEST);
    project.write("src/text", "one\n");
    let verified = project.runner(&["verify"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (2, ""), "{verified}");
    assert!(verified.stderr.contains("there is nothing to compare `base-layer`, `image` with"), "{verified}");
    assert!(verified.stderr.contains("`runner apply`"), "{verified}");
}

#[test]
fn source_date_epoch_of_the_environment_has_the_last_word() {
    let project = project(
        "source_date_epoch: 1000\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: a, run: 'echo $SOURCE_DATE_EPOCH' }]\n",
    );
    let epoch = |value: &str| {
        let shell = format!("SOURCE_DATE_EPOCH={value} exec \"$@\"");
        project.runner_in_shell(&shell, &["apply", "--progress", "json"])
    };
    let printed = |stdout: &str| -> Vec<Value> {
        let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == "step_output").map(|event| event["line"].clone()).collect()
    };
    assert_eq!(printed(&epoch("2000").stdout), ["2000"]);
    assert_eq!(printed(&epoch("").stdout), ["1000"]);
    let wrong = epoch("soon");
    assert_eq!(wrong.code, 2, "{wrong}");
    assert!(wrong.stderr.contains("SOURCE_DATE_EPOCH is `soon`, and not a number of seconds"), "{wrong}");
}
