//! Attacks through files beside the manifest and programs in PATH: no file of another user is trusted, and no look runs a
//! program.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::built::{Built, Running, project};
use crate::project::{Project, Run};

const ONE: &str =
    "\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo it runs }, { name: i, snapshot: {} }]\n";

/// A program that leaves a trace when it is run, under this name in `bin`.
fn evil(project: &Project, name: &str) {
    let name = format!("bin/{name}");
    let trace = project.path("trace");
    project.write(&name, &format!("#!/bin/sh\necho \"$0 $*\" >> {}\necho runc version 1.9\n", trace.display()));
    fs::set_permissions(project.path(&name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn runner(project: &Project, arguments: &[&str], change: impl FnOnce(&mut Command) -> &mut Command) -> Run {
    let mut command = project.command(arguments);
    change(&mut command);
    Run::new(0, &command.output().unwrap())
}

#[track_caller]
fn assert_nothing_ran(project: &Project) {
    assert_eq!(fs::read_to_string(project.path("trace")).unwrap_or_default(), "");
}

#[test]
fn runner_toml_cannot_name_a_program() {
    let project = project(ONE);
    evil(&project, "evil");
    project.write("runner.toml", "jobs = 1\nruntime = \"./bin/evil\"\n");
    for command in
        [&["apply"][..], &["plan"], &["graph"], &["lock"], &["lock", "--check"], &["doctor"], &["store", "ls"]]
    {
        let run = runner(&project, command, |command| command.env_remove("RUNNER_RUNTIME"));
        assert_eq!(run.code, 2, "{command:?}: {run}");
        assert!(run.stderr.contains("runner.toml:2:1"), "{command:?}: {run}");
        assert!(run.stderr.contains("a file cannot name a program: give it by `--runtime` or RUNNER_RUNTIME"), "{run}");
    }
    assert_nothing_ran(&project);
}

#[test]
fn a_plan_a_graph_and_a_comparison_with_the_lock_run_no_program() {
    let project = project(ONE);
    let lock = project.runner(&["lock"]);
    assert_eq!(lock.code, 0, "{lock}");
    for name in ["runc", "crun", "docker-runc", "mksquashfs", "sh"] {
        evil(&project, name);
    }
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    for command in [&["validate"][..], &["plan"], &["plan", "--json"], &["graph"], &["lock", "--check"]] {
        for runtime in ["bin/runc", "crun", "runc"] {
            for mksquashfs in ["", "1"] {
                let run = runner(&project, command, |command| {
                    let command = command.env("PATH", &path).env("RUNNER_RUNTIME", runtime);
                    command.env("RUNNER_MKSQUASHFS", mksquashfs)
                });
                assert_eq!(run.code, 0, "{command:?}: {run}");
            }
        }
    }
    assert_nothing_ran(&project);
    let plan = runner(&project, &["plan"], |command| {
        command.env("PATH", &path).env("RUNNER_RUNTIME", "crun").env("RUNNER_MKSQUASHFS", "1")
    });
    assert!(plan.stdout.contains("runtime changed: ") && plan.stdout.contains("→ crun sha256:"), "{plan}");
    assert!(
        plan.stdout.contains("writer changed: squashfs ") && plan.stdout.contains("→ mksquashfs sha256:"),
        "{plan}"
    );
}

#[test]
fn doctor_runs_no_unnamed_program_of_another_user() {
    let project = project(ONE);
    for name in ["runc", "crun", "mksquashfs"] {
        evil(&project, name);
        chown(project.path("bin").join(name), Some(12345), None).unwrap();
    }
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let run = runner(&project, &["doctor"], |command| command.env("PATH", &path).env("RUNNER_RUNTIME", "embedded"));
    assert_nothing_ran(&project);
    assert!(run.stdout.contains("is not tried: user 12345 owns"), "{run}");
}

#[test]
fn a_workspace_of_another_user_builds_and_its_runner_toml_counts_only_under_sudo() {
    let project = project(ONE);
    project.write("runner.toml", "progress = 'quiet'\n");
    for name in ["", "build.yaml", "runner.toml"] {
        chown(project.path(name), Some(12345), Some(12345)).unwrap();
    }
    // As in a CI job: root, in a checkout of another user.
    let built = Running::spawn(project.command(&["apply", "--progress", "json"])).end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("s"), ["it runs"]);
    let warnings = built.all("warning");
    let text = warnings[0]["message"].as_str().unwrap();
    assert!(text.contains("runner.toml is not read: user 12345 owns it"), "{text}");
    let run = runner(&project, &["plan"], |command| command);
    assert!(run.code == 0 && run.stderr.starts_with("warning: ") && run.stderr.contains("is not read"), "{run}");
    // As `sudo runner apply` in one's own checkout.
    let run = runner(&project, &["apply", "--no-cache"], |command| command.env("SUDO_UID", "12345"));
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""), "{run}");
    assert!(Built::of(&project, &[]).all("warning").len() == 1);
}
