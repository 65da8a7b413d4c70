//! Parallel builds of one manifest on one store: each step runs once in all.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{apply, digests, edit, statuses};
use crate::built::{Built, Gate, Running, descendants, project, wait_for};
use crate::project::Project;

/// Three containers in a chain, and two beside them. Each step records in a cache mount that it ran.
const MANIFEST: &str = r#"
mounts:
  ran: { type: cache, target: /ran }
  tmp: { type: tmpfs, target: /tmp }
containers:
  one: { rootfs: $TOOLS, mounts: [ran, tmp] }
  two: { rootfs: { snapshot: one-s }, mounts: [ran, tmp] }
  three: { rootfs: { snapshot: two-s }, mounts: [ran] }
  beside: { rootfs: $TOOLS, mounts: [ran] }
  other: { rootfs: $TOOLS, mounts: [ran], scratch: { disk: true } }
steps:
  - { name: one-a, container: one, run: "echo one-a >> /ran/ran; mkdir /d; echo 1 > /d/one" }
  - { name: one-s, container: one, snapshot: { output: out/one.squashfs } }
  - { name: two-a, container: two, run: "echo two-a >> /ran/ran; echo 2 > /d/two; rm /d/one" }
  - { name: two-m, container: two, snapshot: {} }
  - { name: two-b, container: two, run: "echo two-b >> /ran/ran; echo 3 > /d/two; head -c 1000000 /dev/zero > /d/big" }
  - { name: two-s, container: two, snapshot: { mode: full, output: out/two.squashfs } }
  - { name: three-a, container: three, run: "echo three-a >> /ran/ran; cat /d/two; echo 4 > /d/two" }
  - { name: three-s, container: three, snapshot: { output: out/three.squashfs } }
  - { name: three-b, container: three, cache: true, run: "echo three-b >> /ran/ran; ls /d" }
  - { name: beside-a, container: beside, run: "echo beside-a >> /ran/ran; echo > /beside" }
  - { name: beside-s, container: beside, snapshot: { output: out/beside.squashfs } }
  - { name: other-a, container: other, run: "echo other-a >> /ran/ran; echo > /other" }
  - { name: other-s, container: other, snapshot: { compression: gzip } }
"#;

fn caches(project: &Project) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.store().join("cache")).into_iter().flatten().flatten();
    // The files beside a directory are its locks.
    entries.map(|cache| cache.path()).filter(|path| path.is_dir()).collect()
}

/// Returns whether the store has a record of the layer that the step wrote.
fn is_recorded(project: &Project, step: &str) -> bool {
    let name = format!("\"{step}\"");
    let records = fs::read_dir(project.store().join("keys")).into_iter().flatten().flatten();
    // Half-written records of a killed build lie beside the records.
    let mut records = records.map(|record| record.path()).filter(|path| path.extension().is_some());
    records.any(|record| fs::read_to_string(record).is_ok_and(|text| text.contains(&name)))
}

/// Returns how often each step has run in all.
fn ran(project: &Project) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for cache in caches(project) {
        for step in fs::read_to_string(cache.join("ran")).unwrap_or_default().split_whitespace() {
            *counts.entry(step.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn once_each(counts: &BTreeMap<String, usize>) -> bool {
    counts.len() == 7 && counts.values().all(|count| *count == 1)
}

#[track_caller]
fn check(project: &Project, builds: &[Built]) {
    let expected = digests(&builds[0]);
    assert_eq!(expected.len(), 6);
    for built in builds {
        assert_eq!(built.run.code, 0, "{}", built.run);
        assert_eq!(digests(built), expected);
    }
    // It removes the files of a killed build.
    let again = apply(project, &[]);
    assert_eq!((again.events.last().unwrap()["ran"].as_u64(), digests(&again)), (Some(0), expected));
    for built in builds.iter().chain([&again]) {
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
    assert_eq!(fs::read_dir(project.store().join("building")).unwrap().count(), 0);
}

#[test]
fn of_eight_builds_at_once_one_runs_each_step_and_all_give_the_same() {
    for arguments in [&[][..], &["-j", "1"]] {
        let project = project(MANIFEST);
        let running: Vec<Running> = (0..8).map(|_| Running::start(&project, arguments)).collect();
        let builds: Vec<Built> = running.into_iter().map(Running::end).collect();
        check(&project, &builds);
        let counts = ran(&project);
        assert!(once_each(&counts), "{arguments:?}: {counts:?}");
        let started = builds.iter().map(|built| built.all("step_started").len()).sum::<usize>();
        assert_eq!(started, 13, "{arguments:?}");
    }
}

#[test]
fn when_one_of_eight_builds_is_killed_another_continues() {
    let until_killed = "echo two-b >> /ran/ran; until [ -e /ran/killed ]; do sleep 0.02; done";
    let project = project(&MANIFEST.replace("echo two-b >> /ran/ran", until_killed));
    let mut running: Vec<Running> = (0..8).map(|_| Running::start(&project, &[])).collect();
    wait_for("the step to be killed", || ran(&project).contains_key("two-b").then_some(()));
    // The layer below is recorded while the step already runs.
    wait_for("the record of the layer below", || is_recorded(&project, "one-s").then_some(()));
    // The build that runs the step has a process that none of the others has: a child of its helper.
    let builder = running.iter().position(|build| has_step(build.pid(), "two-b")).expect("one of them runs it");
    let killed = running.remove(builder);
    killed.signal(Signal::KILL);
    let pid = killed.pid();
    drop(killed);
    for cache in caches(&project) {
        fs::write(cache.join("killed"), "").unwrap();
    }
    let builds: Vec<Built> = running.into_iter().map(Running::end).collect();
    let counts = ran(&project);
    assert_eq!(counts["two-b"], 2, "{counts:?}");
    let [once, twice] = ["one-a", "three-b"].map(|step| counts[step]);
    assert_eq!((once, twice), (1, 1), "{counts:?}");
    check(&project, &builds);
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

/// Returns whether a process below that one has a command line with this word.
fn has_step(pid: u32, word: &str) -> bool {
    let line = |child: &u32| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
    descendants(pid).iter().any(|child| line(child).contains(word))
}

#[test]
fn a_failed_build_neither_waits_for_another_runner_nor_starts_a_step() {
    let project = project(
        r#"
containers:
  slow: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }] }
  fails: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }] }
steps:
  - { name: slow, container: slow, run: "sh /gate/meet slow" }
  - { name: slow-s, container: slow, snapshot: {} }
  - { name: fails, container: fails, run: "if [ -e /gate/fail ]; then sh /gate/meet fails; exit 3; fi" }
  - { name: fails-s, container: fails, snapshot: {} }
"#,
    );
    let gate = Gate::new(&project);
    let first = Running::start(&project, &["--target", "slow-s"]);
    gate.await_step("slow");
    fs::write(project.path("gate/fail"), "").unwrap();
    let second = Running::start(&project, &[]);
    gate.await_step("fails");
    gate.open("fails");
    // It ends while the first one still builds the layer that it was waiting for.
    let second = second.end();
    assert_eq!(second.run.code, 1, "{}", second.run);
    assert_eq!((second.status("slow"), second.status("slow-s")), ("skipped", "skipped"));
    gate.open("slow");
    assert_eq!(first.end().run.code, 0);
    fs::remove_file(project.path("gate/fail")).unwrap();
    assert_eq!(statuses(&apply(&project, &[])), "fails-s=ran fails=ran slow-s=cached slow=cached");
}

#[test]
fn a_step_that_failed_with_keep_going_can_be_built_by_another_runner() {
    let project = project(
        r#"
containers:
  slow: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }] }
  fails: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }] }
steps:
  - { name: slow, container: slow, run: "sh /gate/meet slow" }
  - { name: slow-s, container: slow, snapshot: {} }
  - { name: fails, container: fails, run: "if [ -e /gate/fail ]; then touch /gate/failed; exit 3; fi" }
  - { name: fails-s, container: fails, snapshot: {} }
"#,
    );
    let gate = Gate::new(&project);
    fs::write(project.path("gate/fail"), "").unwrap();
    let first = Running::start(&project, &["--keep-going", "-j", "2"]);
    gate.await_step("slow");
    wait_for("the step to fail", || project.path("gate/failed").exists().then_some(()));
    fs::remove_file(project.path("gate/fail")).unwrap();
    let second = apply(&project, &["--target", "fails-s"]);
    assert_eq!(statuses(&second), "fails-s=ran fails=ran");
    gate.open("slow");
    assert_eq!(first.end().run.code, 1);
}

#[test]
fn segments_that_wait_for_each_others_steps_do_not_wait_for_each_others_locks() {
    let alike = project(
        r#"
containers:
  one: { rootfs: $TOOLS, hostname: same }
  two: { rootfs: $TOOLS, hostname: same }
steps:
  - { name: one-a, container: one, run: "echo 0" }
  - { name: one-b, container: one, needs: [one-a, two-a], run: ":" }
  - { name: one-s, container: one, snapshot: {} }
  - { name: two-a, container: two, run: "echo 0" }
  - { name: two-b, container: two, run: ":" }
  - { name: two-s, container: two, snapshot: {} }
"#,
    );
    let crossed = project(
        r#"
containers:
  one: { rootfs: $TOOLS }
  two: { rootfs: $TOOLS }
steps:
  - { name: one-a, container: one, run: "echo 0; sleep 0.1" }
  - { name: two-a, container: two, run: "echo 0; sleep 0.1" }
  - { name: one-b, container: one, needs: [one-a, two-a], run: ":" }
  - { name: one-s, container: one, snapshot: {} }
  - { name: two-b, container: two, needs: [two-a, one-b], run: ":" }
  - { name: two-s, container: two, snapshot: {} }
"#,
    );
    for n in 0..4 {
        let builds = [&alike, &crossed, &crossed].map(|project| Running::start(project, &[]));
        for built in builds.map(Running::end) {
            assert_eq!(built.run.code, 0, "{}", built.run);
        }
        for project in [&alike, &crossed] {
            edit(project, &format!("echo {n}"), &format!("echo {}", n + 1));
        }
    }
}
