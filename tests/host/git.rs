//! `source_date_epoch: git`, from outside.

use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::built::{Built, project};
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
    assert!(run.stderr.contains("help: where there is no commit yet, make one; else set SOURCE_DATE_EPOCH"), "{run}");
    for time in ["1700000000", "1700000001"] {
        git(&project, &["commit", "-q", "--allow-empty", "-m", "x"], time);
        let built = Built::well(&project);
        assert_eq!(built.lines("print"), [time]);
        assert_eq!(Built::well(&project).status("print"), "cached");
    }
    let run = project.runner_in_shell("SOURCE_DATE_EPOCH=1000 exec \"$@\"", &["apply", "--progress", "plain"]);
    assert!(run.code == 0 && run.stdout.contains("| 1000\n"), "{run}");
    git(&project, &["commit", "-q", "--allow-empty", "-m", "x"], "9999999999");
    let run = project.runner(&["validate"]);
    assert!(
        run.code == 2 && run.stderr.contains("it is 9999999999, and squashfs holds times up to 4294967295"),
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
    std::fs::remove_file(project.path(".git/HEAD")).unwrap();
    mknodat(CWD, project.path(".git/HEAD"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let run = project.runner(&["plan"]);
    assert!(run.code == 2 && run.stderr.contains("it is a FIFO"), "{run}");
}
