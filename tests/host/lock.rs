//! `runner.lock`, builds that are checked against it, and `runner verify`.

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
fn a_locked_build_fails_when_an_input_or_a_result_differs_and_names_it() {
    let project = locked();
    let text = fs::read_to_string(project.path("runner.lock")).unwrap();
    let lock: toml::Table = toml::from_str(&text).unwrap();
    let section = &lock["manifest"][0];
    let count = |key: &str| section[key].as_array().unwrap().len();
    assert_eq!((section["path"].as_str().unwrap(), count("rootfs"), count("snapshot")), ("build.yaml", 1, 2));
    assert_eq!(project.runner(&["lock", "--check"]).code, 0);
    let built = Built::of(&project, &["--locked"]);
    assert_eq!(built.run.code, 0, "{}", built.run);

    // Another input gives another layer: the output of the build before stays.
    let before = fs::read(project.path("out/base.squashfs")).unwrap();
    project.write("src/text", "two\n");
    let built = Built::of(&project, &["--locked"]);
    assert_eq!(built.run.code, 4, "{}", built.run);
    let reason = built.reason("base-layer");
    assert!(reason.starts_with("differs from the lock: locked sha256:"), "{reason}");
    assert!(reason.ends_with("; cause: the content of /src changed: text (content)"), "{reason}");
    let hint = built.ending("base-layer")["failure"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("if the change is intended, write the lock again with `runner lock`"), "{hint}");
    assert_eq!(built.status("image"), "skipped");
    assert_eq!(fs::read(project.path("out/base.squashfs")).unwrap(), before);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());

    project.write("src/text", "one\n");
    let rootfs = section["rootfs"][0]["digests"][0].as_str().unwrap();
    project.write("runner.lock", &text.replace(rootfs, &format!("sha256:{}", "0".repeat(64))));
    for arguments in [&["apply", "--locked"][..], &["lock", "--check"]] {
        let run = project.runner(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{run}");
        assert!(run.stderr.contains("the rootfs of container base: locked programs sha256:0000"), "{run}");
        assert!(run.stderr.contains("runner lock`; if not, undo the change\n"), "{run}");
    }
}

#[test]
fn a_check_without_access_to_the_store_fails_unless_something_else_differs() {
    let project = locked();
    let check = by_nobody(&project, &["lock", "--check"]);
    assert_eq!((check.code, check.stdout.as_str()), (3, ""), "{check}");
    let why = format!("cannot read {}: Permission denied", project.store().join("format").display());
    let lock = project.path("runner.lock");
    let error = format!("error: cannot compare base-layer, image with {}: {why}", lock.display());
    assert!(check.stderr.starts_with(&error) && check.stderr.contains("  help: run as root, or"), "{check}");
    project.write("runner.lock", "version = 2\n[[manifest]]\npath = 'build.yaml'\nrunner = '1'\n");
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
fn a_lock_that_is_missing_or_names_too_little_or_too_much_is_reported() {
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
    assert!(check.stderr.contains("snapshot gone: is locked, but not in the manifest"), "{check}");
    let apply = project.runner(&["apply", "--locked"]);
    assert_eq!((apply.code, apply.stdout.as_str()), (4, ""), "{apply}");
}

/// Builds with JSON events and these variables of the environment.
fn locked_build(project: &Project, variables: &str) -> Built {
    let shell = format!("{variables} exec \"$@\"");
    Built::from_run(project.runner_in_shell(&shell, &["apply", "--locked", "--progress", "json"]))
}

#[test]
fn a_mismatch_names_the_changed_field_with_its_values_if_the_store_has_the_locked_build() {
    let project = locked();
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    let causes = |from: &str, to: &str| {
        project.write("build.yaml", &text.replace(from, to));
        let built = locked_build(&project, "");
        assert_eq!(built.run.code, 4, "{}", built.run);
        let failed = ["base-layer", "image"].into_iter().find(|step| built.status(step) == "failed").unwrap();
        let reason = built.reason(failed).to_owned();
        reason.split("; cause: ").nth(1).unwrap_or_else(|| panic!("{reason}")).to_owned()
    };
    assert_eq!(
        causes("cat /src/text > /text", "echo two > /text"),
        ("step write changed: run: cat /src/text > /text → echo two > /text")
    );
    assert_eq!(
        causes("echo more >> /text", "uname -n >> /text"),
        ("step more changed: run: echo more >> /text → uname -n >> /text")
    );
}

#[test]
fn a_mismatch_names_the_changed_part_if_the_store_is_another_one() {
    let project = locked();
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    fs::remove_dir_all(project.store()).unwrap();
    for (from, to, cause) in [
        ("cat /src/text > /text", "echo two > /text", "step write changed"),
        ("{ name: write,", "{ name: written,", "step written was added; step write was removed"),
        ("mounts: [src] }", "mounts: [src], env: { A: b } }", "env/A changed: nothing → b"),
    ] {
        // So that the bytes differ in any case.
        let other = text.replace(from, to).replace("cat /src/text > /text", "env > /text; cat /src/text >> /text");
        project.write("build.yaml", &if cause == "step write changed" { text.replace(from, to) } else { other });
        let built = locked_build(&project, "");
        assert_eq!(built.run.code, 4, "{}", built.run);
        assert!(
            built.reason("base-layer").contains("; cause: ") && built.reason("base-layer").contains(cause),
            "{}",
            built.reason("base-layer")
        );
    }
}

#[test]
fn a_mismatch_names_another_tool_or_an_unknown_cause() {
    let project = locked();
    let built = locked_build(&project, "RUNNER_MKSQUASHFS=1");
    assert_eq!(built.run.code, 4, "{}", built.run);
    let reason = built.reason("base-layer");
    assert!(
        reason.contains("; cause: writer changed: squashfs ") && reason.contains(" → mksquashfs sha256:"),
        "{reason}"
    );

    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    project.write("runner.lock", &lock.replace("runner = \"", "runner = \"9."));
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("cat /src/text > /text", "cat /proc/sys/kernel/random/uuid > /text"));
    let built = locked_build(&project, "");
    assert!(built.reason("base-layer").contains("; runner 9."), "{}", built.reason("base-layer"));

    assert_eq!(project.runner(&["lock"]).code, 0);
    let built = Built::of(&project, &["--locked", "--no-cache"]);
    let reason = built.reason("base-layer");
    assert!(reason.contains("; cause: unknown; ") && reason.contains("`runner verify`"), "{reason}");
}

#[test]
fn a_check_names_the_base_of_a_snapshot_that_is_another_one() {
    let project = locked();
    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    project.write("src/text", "two\n");
    assert_eq!(project.runner(&["apply"]).code, 0);
    let check = project.runner(&["lock", "--check"]);
    assert_eq!(check.code, 4, "{check}");
    assert!(check.stderr.contains("  snapshot base-layer: locked sha256:"), "{check}");
    assert!(check.stderr.contains("; cause: the content of /src changed: text (content)\n"), "{check}");
    assert!(check.stderr.contains("; cause: it is built on snapshot base-layer, which differs\n"), "{check}");
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 4, "{verified}");
    assert!(verified.stdout.contains("  cause: the content of /src changed\n"), "{verified}");
    assert!(verified.stdout.contains("  cause: it is built on snapshot base-layer, which differs\n"), "{verified}");
    assert_eq!(fs::read_to_string(project.path("runner.lock")).unwrap(), lock);
}

#[test]
fn a_mismatch_names_the_files_of_a_bind_that_changed_as_far_as_they_are_known() {
    let manifest = MANIFEST.replace("source: src,", "source: .,").replace("out/app.squashfs", "image.squashfs");
    let project = project(&manifest);
    project.write("text", "one\n");
    assert_eq!(project.runner(&["lock"]).code, 0);
    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    assert!(lock.contains("[manifest.snapshot.inputs.binds]\n\"/src\" = \"sha256:"), "{lock}");
    // Files that runner has written there itself are no change: the lock is the same with and without them.
    for written in ["runner.lock", "out/base.squashfs", "image.squashfs"] {
        fs::remove_file(project.path(written)).unwrap();
        assert_eq!(project.runner(&["lock"]).code, 0);
        assert_eq!(fs::read_to_string(project.path("runner.lock")).unwrap(), lock, "{written}");
    }
    let reason = |store: bool| {
        if !store {
            fs::remove_dir_all(project.store()).unwrap();
        }
        let built = Built::of(&project, &["--locked"]);
        assert_eq!(built.run.code, 4, "{}", built.run);
        built.reason("base-layer").split("; ").find(|part| part.starts_with("cause: ")).unwrap().to_owned()
    };
    project.write("text", "two\n");
    project.write("more", "new\n");
    assert_eq!(reason(true), "cause: the content of /src changed: more (added), text (content)");
    assert_eq!(reason(false), "cause: the content of /src changed");
}

#[test]
fn one_lock_file_has_a_section_for_each_manifest_and_each_set_of_variables() {
    let with_variable =
        MANIFEST.replace("mounts:\n", "vars: { word: more }\nmounts:\n").replace("echo more", "echo ${{ word }}");
    let project = project(&with_variable);
    project.write("src/text", "one\n");
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("other.yaml", &text.replace("echo ${{ word }}", "echo other"));
    let all = [
        &["build.yaml"][..],
        &["build.yaml", "--set", "word=less"],
        &["other.yaml", "--set", "word=a b"],
        &["other.yaml"],
    ];
    for arguments in all {
        assert_eq!(project.runner(&[&["lock"], arguments].concat()).code, 0);
    }
    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    for arguments in all {
        let run = project.runner(&[&["apply", "--locked"], arguments].concat());
        assert_eq!(run.code, 0, "{run}");
        let run = project.runner(&[&["lock", "--check"], arguments].concat());
        assert_eq!(run.code, 0, "{run}");
    }
    // The order in which they are locked does not matter, and locking one again does not change the others.
    for arguments in all {
        assert_eq!(project.runner(&[&["lock"], arguments].concat()).code, 0);
        assert_eq!(fs::read_to_string(project.path("runner.lock")).unwrap(), lock);
    }
    project.write("src/text", "two\n");
    assert_eq!(project.runner(&["lock", "other.yaml"]).code, 0);
    assert_eq!(project.runner(&["apply", "--locked", "other.yaml"]).code, 0);
    assert_eq!(project.runner(&["apply", "--locked", "build.yaml"]).code, 4);

    let run = project.runner(&["apply", "--locked", "--set", "word=none"]);
    assert_eq!(run.code, 4, "{run}");
    let message = "runner.lock has no section of build.yaml --set word=none, only of build.yaml, build.yaml --set word=less, \
                other.yaml, other.yaml --set 'word=a b'\n  help: `runner lock build.yaml --set word=none` adds it";
    assert!(run.stderr.contains(message), "{run}");
}

#[test]
fn a_lock_file_can_be_in_another_place_by_flag_variable_or_settings() {
    let project = project(MANIFEST);
    project.write("src/text", "one\n");
    fs::create_dir(project.path("locks")).unwrap();
    let run = project.runner(&["lock", "--lock-file", "locks/a.lock"]);
    assert!(run.code == 0 && run.stdout.contains("locks/a.lock: 1 rootfs, 2 snapshots\n"), "{run}");
    assert!(!project.path("runner.lock").exists());
    let text = fs::read_to_string(project.path("locks/a.lock")).unwrap();
    assert!(text.contains("path = \"../build.yaml\""), "{text}");
    assert_eq!(project.runner(&["apply", "--locked", "--lock-file", "locks/a.lock"]).code, 0);
    assert_eq!(project.runner(&["lock", "--check", "--lock-file", "locks/a.lock"]).code, 0);
    assert_eq!(project.runner(&["verify", "--lock-file", "locks/a.lock"]).code, 0);
    let run = project.runner(&["apply", "--locked"]);
    assert!(run.code == 4 && run.stderr.contains("there is no "), "{run}");
    assert_eq!(project.runner_in_shell("RUNNER_LOCK_FILE=locks/a.lock exec \"$@\"", &["apply", "--locked"]).code, 0);
    project.write("runner.toml", "lock_file = 'locks/a.lock'\n");
    assert_eq!(project.runner(&["apply", "--locked"]).code, 0);
    let run = project.runner(&["lock", "--check", "--lock-file", "none/b.lock"]);
    assert!(run.code == 4 && run.stderr.contains("there is no ") && run.stderr.contains("none/b.lock"), "{run}");
    // A collection of the store removes no layer that the lock file names.
    assert_eq!(project.runner(&["store", "gc", "--max-size", "0"]).code, 0);
    assert_eq!(Built::of(&project, &["--locked"]).status("base-layer"), "cached");

    project.write("text", "not a lock\n");
    let run = project.runner(&["lock", "--lock-file", "text"]);
    assert!(run.code == 2 && run.stdout.is_empty(), "{run}");
    assert_eq!(fs::read_to_string(project.path("text")).unwrap(), "not a lock\n");
}

#[test]
fn a_lock_of_the_former_format_is_refused_until_it_is_written_again() {
    let project = project(MANIFEST);
    project.write("src/text", "one\n");
    project.write("runner.lock", "version = 1\n\n[[snapshot]]\nstep = \"image\"\ndigest = \"sha256:00\"\n");
    for arguments in [&["apply", "--locked"][..], &["lock", "--check"], &["verify"]] {
        let run = project.runner(arguments);
        assert!(run.code == 4 && run.stderr.contains("has the former format"), "{run}");
        assert!(run.stderr.contains("help: write it again with `runner lock`"), "{run}");
    }
    assert_eq!(project.runner(&["lock"]).code, 0);
    assert_eq!(project.runner(&["apply", "--locked"]).code, 0);
}

#[test]
fn a_verification_builds_again_and_names_the_files_that_differ() {
    let project = locked();
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 0, "{verified}");
    assert!(verified.stdout.contains("base-layer: the same, sha256:"), "{verified}");
    assert!(verified.stdout.contains("image: the same, sha256:"), "{verified}");
    assert_eq!(project.leftovers(verified.pid), Vec::<String>::new());

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
    assert_eq!(project.leftovers(verified.pid), Vec::<String>::new());
}

#[test]
fn a_verification_reports_that_it_has_nothing_to_compare() {
    let project = project(MANIFEST);
    project.write("src/text", "one\n");
    let verified = project.runner(&["verify"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (2, ""), "{verified}");
    assert!(
        verified.stderr.contains("cannot compare `base-layer`, `image`: no digest in the lock or in the store"),
        "{verified}"
    );
    assert!(verified.stderr.contains("`runner apply`"), "{verified}");
}

#[test]
fn source_date_epoch_of_the_environment_overrides_the_manifest() {
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
    assert!(wrong.stderr.contains("SOURCE_DATE_EPOCH is `soon`, which is not a number of seconds"), "{wrong}");
}
