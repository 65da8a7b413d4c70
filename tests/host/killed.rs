//! However a build ends, nothing of it is left: after a failure, SIGINT, and SIGKILL in a step and in a snapshot.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::project::Project;

const MANIFEST: &str = "
version: 1
containers:
  first: { rootfs: { programs: [/bin/sh, /bin/sleep, /usr/bin/head] }, scratch: { disk: true } }
  second: { rootfs: { snapshot: done } }
steps:
  - { name: write, container: first, run: echo one > /file }
  - { name: done, container: first, snapshot: { output: out/done.squashfs } }
  - { name: fill, container: second, run: head -c 60000000 /dev/urandom > /noise; echo filled; (sleep 99 &); test ! -e /wait }
  - { name: rest, container: second, run: echo resting; sleep 99 }
";

/// The same, but the last step is a snapshot that takes a while.
fn with_slow_snapshot() -> String {
    let last = "  - { name: rest, container: second, snapshot: { output: out/rest.squashfs, compression: xz } }\n";
    let steps = MANIFEST.find("  - { name: rest").unwrap();
    format!("{}{last}", &MANIFEST[..steps])
}

/// Starts a build and waits until it says a word.
fn build_until(project: &Project, word: &str) -> Child {
    let mut child = project.spawn(&["apply"]);
    let stdout = child.stdout.take().unwrap();
    let seen = BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.contains(word));
    assert!(seen, "the build ended before it said {word:?}");
    child
}

/// Waits until nothing but files and cgroups is left of it, which only the next start removes.
fn processes_are_gone(project: &Project, pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let left = project.left_over(pid);
        let left: Vec<_> = left.iter().filter(|what| what.starts_with("process") || what.starts_with("loop")).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn end(child: &mut Child, signal: Signal) -> Option<i32> {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    child.wait().unwrap().code()
}

/// Kills the build when it says `word`; the next runner on the store clears what is left.
fn killed_at(manifest: &str, word: &str) {
    let project = Project::new(manifest);
    let mut child = build_until(&project, word);
    assert_eq!(end(&mut child, Signal::SIGKILL), None);
    processes_are_gone(&project, child.id());
    assert!(!project.path("out/rest.squashfs").exists());
    project.write(
        "next.yaml",
        "{version: 1, containers: {c: {rootfs: {programs: [/bin/true]}}}, steps: [{name: s, exec: ['true']}]}",
    );
    let run = project.runner(&["apply", "next.yaml"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.left_over(child.id()), Vec::<String>::new());
}

#[test]
fn killed_in_a_step_it_leaves_no_process_and_the_next_start_clears_the_rest() {
    killed_at(MANIFEST, "| resting");
}

#[test]
fn killed_in_a_snapshot_it_leaves_no_half_written_image() {
    killed_at(&with_slow_snapshot(), "rest  * started");
}

#[test]
fn interrupted_it_ends_with_130_and_leaves_nothing() {
    for (manifest, word) in [(MANIFEST.to_owned(), "| resting"), (with_slow_snapshot(), "rest  * started")] {
        let project = Project::new(&manifest);
        let mut child = build_until(&project, word);
        assert_eq!(end(&mut child, Signal::SIGINT), Some(130));
        assert_eq!(project.left_over(child.id()), Vec::<String>::new());
        assert!(project.path("out/done.squashfs").exists() && !project.path("out/rest.squashfs").exists());
    }
}

#[test]
fn a_step_that_fails_stops_what_needs_it_and_leaves_outputs_of_before() {
    let project = Project::new(&MANIFEST.replace("test ! -e /wait", "echo last words >&2; exit 9"));
    project.write("out/rest.squashfs", "of an earlier build");
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("step fill failed: exit code 9") && run.stdout.contains("last words"), "{run}");
    assert!(run.stdout.contains("fill.log") && run.stdout.contains("rest  * skipped: fill failed"), "{run}");
    assert!(project.path("out/done.squashfs").exists());
    assert_eq!(std::fs::read_to_string(project.path("out/rest.squashfs")).unwrap(), "of an earlier build");
    assert_eq!(project.left_over(run.pid), Vec::<String>::new());
}
