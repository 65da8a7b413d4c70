//! `source_date_epoch: git`, seen from outside.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::built::{Built, project};
use crate::cache::{apply, digests, edit, reasons, statuses};
use crate::project::Project;

const MANIFEST: &str = "
source_date_epoch: git
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: print, container: c, run: 'echo $SOURCE_DATE_EPOCH; touch /file' }
  - { name: layer, container: c, snapshot: {} }
";

fn git(project: &Project, arguments: &[&str], time: &str) {
    let settings = ["-c", "user.name=a", "-c", "user.email=a@b"];
    let mut command = Command::new("git");
    command
        .args(settings)
        .args(arguments)
        .current_dir(project.path("."))
        .env("GIT_COMMITTER_DATE", format!("@{time} +0000"));
    assert!(command.status().unwrap().success(), "{arguments:?}");
}

#[test]
fn a_build_has_the_time_of_the_last_commit_and_is_built_again_after_the_next_one() {
    let project = project(MANIFEST);
    git(&project, &["init", "-q"], "0");
    let run = project.runner(&["validate"]);
    assert!(run.code == 2 && run.stderr.contains("has no commit yet"), "{run}");
    assert!(run.stderr.contains("help: if there is no commit yet, make one; otherwise set SOURCE_DATE_EPOCH"), "{run}");
    for time in ["1700000000", "1700000001"] {
        git(&project, &["commit", "-q", "--allow-empty", "-m", "x"], time);
        let built = Built::succeed(&project);
        assert_eq!(built.lines("print"), [time]);
        assert_eq!(Built::succeed(&project).status("print"), "cached");
    }
    let run = project.runner_in_shell("SOURCE_DATE_EPOCH=1000 exec \"$@\"", &["apply", "--progress", "plain"]);
    assert!(run.code == 0 && run.stdout.contains("| 1000\n"), "{run}");
    git(&project, &["commit", "-q", "--allow-empty", "-m", "x"], "9999999999");
    let run = project.runner(&["validate"]);
    assert!(
        run.code == 2 && run.stderr.contains("it is 9999999999, and squashfs stores times up to 4294967295"),
        "{run}"
    );
}

#[test]
fn without_a_repository_the_epoch_is_refused_unless_the_environment_has_one() {
    let project = project(MANIFEST);
    for command in ["apply", "plan", "validate"] {
        let run = project.runner(&[command]);
        assert!(run.code == 2 && run.stderr.contains("is in no git repository"), "{run}");
        assert!(run.stderr.contains("source_date_epoch: git") && run.stderr.contains("has no time"), "{run}");
    }
    let run = project.runner_in_shell("SOURCE_DATE_EPOCH=1000 exec \"$@\"", &["apply", "--progress", "plain"]);
    assert!(run.code == 0 && run.stdout.contains("| 1000\n"), "{run}");
}

#[test]
fn a_fifo_that_a_step_left_in_a_repository_is_refused_at_once() {
    let project = project(MANIFEST);
    git(&project, &["init", "-q"], "0");
    fs::remove_file(project.path(".git/HEAD")).unwrap();
    mknodat(CWD, project.path(".git/HEAD"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let run = project.runner(&["plan"]);
    assert!(run.code == 2 && run.stderr.contains("FIFO, not a regular file"), "{run}");
}

/// The image of a copy has the times of the sources that are older than the last commit.
const COPY: &str = "
source_date_epoch: git
containers: { c: { rootfs: $TOOLS, mounts: [{ type: bind, source: src, target: /src, options: [ro] }] } }
steps:
  - { name: copy, container: c, run: 'cp -a /src /copy' }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
";

/// Sets the time of a file of the sources; later than 2023-11-14 is later than the last commit.
fn set_time(project: &Project, name: &str, seconds: u64) {
    let file = File::open(project.path("src").join(name)).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

#[test]
fn sources_older_than_the_commit_are_inputs_by_their_times_and_newer_ones_are_not() {
    let project = project(COPY);
    project.write("src/deep/file", "text");
    git(&project, &["init", "-q"], "0");
    git(&project, &["commit", "-q", "--allow-empty", "-m", "x"], "1700000000");
    set_time(&project, "deep/file", 1_000_000_000);
    let old = apply(&project, &[]);
    assert_eq!(project.runner(&["lock"]).code, 0);
    // As in a new clone.
    set_time(&project, "deep/file", 1_700_000_000);
    let locked = Built::of(&project, &["--locked"]);
    assert_eq!(locked.run.code, 4, "{}", locked.run);
    let cause = "; cause: the content of /src changed: deep/file (time)";
    assert!(locked.reason("layer").ends_with(cause), "{}", locked.run);
    assert_eq!(reasons(&locked, "copy")[0]["files"], serde_json::json!(["deep/file (time)"]), "{}", locked.run);
    // The layer is stored, though it is not the locked one.
    let new = apply(&project, &[]);
    assert_eq!(statuses(&new), "copy=cached layer=cached");
    assert_ne!(digests(&old), digests(&new));
    for (time, of) in [(1_900_000_000, &new), (1_000_000_000, &old)] {
        set_time(&project, "deep/file", time);
        let built = apply(&project, &[]);
        assert_eq!((statuses(&built), digests(&built)), ("copy=cached layer=cached".into(), digests(of)), "{time}");
    }
    // A directory has a time too.
    set_time(&project, "deep", 1_000_000_000);
    let built = apply(&project, &[]);
    assert_eq!(reasons(&built, "copy")[0]["files"], serde_json::json!(["deep (time)"]), "{}", built.run);
    // With `none` all times are in the image, and none is an input.
    edit(&project, "epoch: git", "epoch: none");
    apply(&project, &[]);
    set_time(&project, "deep/file", 1000);
    assert_eq!(statuses(&apply(&project, &[])), "copy=cached layer=cached");
}
