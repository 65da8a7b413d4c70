//! `runner lock --check` and `apply --locked` where the lock is of other inputs, or of a build with more steps.

use std::fs;

use crate::built::{Built, project};
use crate::project::{Project, Run};

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

fn check(project: &Project) -> Run {
    project.runner(&["lock", "--check"])
}

/// Replaces this text of the manifest with another one.
fn change(project: &Project, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    assert!(text.contains(from), "{text}");
    project.write("build.yaml", &text.replace(from, to));
}

#[test]
fn a_check_compares_the_inputs_of_a_snapshot_that_is_not_built_here() {
    for (file, from, to, cause) in [
        ("build.yaml", "cat /src/a >", "cat /src/a /src/a >", "step copy changed"),
        ("src/a", "one", "two", "the content of /src changed"),
        ("build.yaml", "A: one", "A: two", "env/A changed: one → two"),
        ("build.yaml", "1000", "2000", "source_date_epoch changed: 1000 → 2000"),
    ] {
        let project = locked(MANIFEST);
        let text = fs::read_to_string(project.path(file)).unwrap();
        project.write(file, &text.replace(from, to));
        // With the store that has the locked build, and without any.
        for with_store in [true, false] {
            if !with_store {
                fs::remove_dir_all(project.store()).unwrap();
            }
            let check = check(&project);
            assert_eq!((check.code, check.stdout.as_str()), (4, ""), "{cause}: {check}");
            let line = format!("  snapshot snap was locked for other inputs: {cause}");
            assert!(check.stderr.contains(&line), "{cause}: {check}");
            let last = check.stderr.trim_end().lines().last().unwrap();
            assert!(last.contains("runner lock`"), "{check}");
        }
        assert!(!project.store().exists());
        assert_eq!(project.runner(&["apply", "--locked"]).code, 4, "{cause}");
    }
}

#[test]
fn a_check_names_the_files_and_the_values_that_the_store_knows() {
    let project = locked(MANIFEST);
    project.write("src/a", "two\n");
    change(&project, "cat /src/a >", "cat /src/a /src/a >");
    let check_run = check(&project);
    let line = "snapshot snap was locked for other inputs: step copy changed: run: cat /src/a > /a; env >> /a → cat /src/a /src/a > /a; env >> /a; \
                the content of /src changed: a (content)\n";
    assert!(check_run.code == 4 && check_run.stderr.contains(line), "{check_run}");
}

#[test]
fn a_check_of_inputs_that_agree_says_that_nothing_was_built_and_ends_with_0() {
    let project = locked(MANIFEST);
    fs::remove_dir_all(project.store()).unwrap();
    let check_run = check(&project);
    assert_eq!(check_run.code, 0, "{check_run}");
    assert!(
        check_run.stdout.ends_with("runner.lock: nothing differs\nnot built here, so not compared: snap, top\n"),
        "{check_run}"
    );
    // The steps of a locked snapshot may have other names where nothing else differs: the lock is of those steps.
    change(&project, "name: more,", "name: other,");
    let run = check(&project);
    let line = "snapshot top was locked for other inputs: step other was added; step more was removed\n";
    assert!(run.code == 4 && run.stderr.contains(line), "{run}");
}

#[test]
fn a_check_with_another_tool_compares_the_fields_of_the_manifest() {
    let project = locked(MANIFEST);
    fs::remove_dir_all(project.store()).unwrap();
    let mksquashfs = "RUNNER_MKSQUASHFS=1 exec \"$@\"";
    let check_run = project.runner_in_shell(mksquashfs, &["lock", "--check"]);
    assert_eq!(check_run.code, 0, "{check_run}");
    change(&project, "A: one", "A: two");
    let run = project.runner_in_shell(mksquashfs, &["lock", "--check"]);
    assert!(run.code == 4 && run.stderr.contains("the tools changed: "), "{run}");
}

#[test]
fn a_check_compares_no_content_that_the_build_writes_first() {
    let manifest = r#"
mounts:
  out: { type: bind, source: stage, target: /out }
  in: { type: bind, source: stage, target: /in, options: [ro] }
containers:
  w: { rootfs: $TOOLS, mounts: [out] }
  r: { rootfs: $TOOLS, mounts: [in] }
steps:
  - { name: make, container: w, run: "echo made > /out/made" }
  - { name: take, container: r, needs: [make], run: "cat /in/made > /made" }
  - { name: snap, container: r, snapshot: {} }
"#;
    let project = project(manifest);
    fs::create_dir(project.path("stage")).unwrap();
    assert_eq!(project.runner(&["lock"]).code, 0);
    fs::remove_dir_all(project.store()).unwrap();
    fs::remove_file(project.path("stage/made")).unwrap();
    let check_run = check(&project);
    assert!(check_run.code == 0 && check_run.stdout.contains("not compared: snap\n"), "{check_run}");
    assert_eq!(project.runner(&["apply", "--locked"]).code, 0);
}

#[test]
fn a_bind_that_cannot_be_read_is_an_error_of_a_check() {
    let project = locked(MANIFEST);
    let has_been = fs::metadata(project.path("src/a")).unwrap().permissions();
    fs::set_permissions(project.path("src/a"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let check_run = crate::commands::by_nobody(&project, &["lock", "--check", "--store", "/nowhere"]);
    assert!(check_run.code == 3 && check_run.stderr.contains("src/a: Permission denied"), "{check_run}");
    fs::set_permissions(project.path("src/a"), has_been).unwrap();
}

#[test]
fn a_locked_snapshot_that_the_manifest_lacks_is_refused_before_anything_runs() {
    let project = locked(MANIFEST);
    fs::remove_dir_all(project.store()).unwrap();
    change(&project, "  - { name: top, container: d, snapshot: {} }\n", "");
    for arguments in [&["apply", "--locked"][..], &["lock", "--check"]] {
        let run = project.runner(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{run}");
        assert!(run.stderr.contains("  snapshot top: is locked, but not in the manifest\n"), "{run}");
        assert!(run.stderr.trim_end().lines().last().unwrap().contains("runner lock`"), "{run}");
    }
    // A target leaves it out.
    let run = project.runner(&["apply", "--locked", "--target", "snap"]);
    assert_eq!(run.code, 0, "{run}");
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
    assert!(last.starts_with("to accept the change, update the lock file: "), "{run}");
    assert!(last.ends_with(" lock sdk.yaml --lock-file sdk.lock"), "{run}");
    assert!(!shown.contains("to build again"), "{run}");
    let built = Built::of(&project, &["sdk.yaml", "--locked", "--lock-file", "sdk.lock"]);
    assert_eq!(built.ending("snap")["failure"]["mismatched"], true, "{}", built.run);
}
