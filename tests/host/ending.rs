//! How steps end that time out or are interrupted: they get a signal, time, and are killed; and the files that they leave.
//!
//! Where a step must end by itself its grace is an hour: a build that waited for it would hang.

use std::fs;

use rustix::process::Signal;

use crate::built::{Built, Gate, Running, processes_of, project, unique_seconds, wait_for};
use crate::project::Project;

/// A root with make(1) beside the usual programs.
const MAKE: &str = "{ programs: [/bin/sh, /bin/cat, /bin/mv, /bin/sleep, /bin/touch, /usr/bin/make, /usr/bin/setsid] }";

/// Writes half of its target, meets the gate, and waits for ever.
const MAKEFILE: &str = "product: part\n\tcat part part > product; touch /gate/half.here; sleep $(MARK); cat part >> product\n\
                        part:\n\techo whole > part\n";

pub fn read(project: &Project, name: &str) -> Option<String> {
    fs::read_to_string(project.path(name)).ok()
}

/// Returns a command that no other process of this host runs, and its argument.
pub fn sleep() -> (String, String) {
    let seconds = unique_seconds();
    (format!("sleep {seconds}"), seconds)
}

#[track_caller]
pub fn assert_nothing_left(project: &Project, built: &Built) {
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{}", built.run);
}

/// Returns a build whose step is stopped at the gate `half`: by its timeout of three seconds, or by Ctrl-C.
#[track_caller]
pub fn stopped(project: &Project, gate: &Gate, step: &str, is_timeout: bool) -> Built {
    let build = Running::start(project, &[]);
    gate.await_step("half");
    if !is_timeout {
        build.signal(Signal::INT);
    }
    let built = build.end();
    let (code, reason) = if is_timeout { (1, "timed out after 3s") } else { (130, "interrupted") };
    assert_eq!((built.run.code, built.reason(step)), (code, reason), "{}", built.run);
    built
}

/// Returns the processes below one that have ended and whose exit status no process has read.
fn zombies_below(pid: u32) -> Vec<u32> {
    let stat = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default().to_owned();
        let mut words = after.split_whitespace().map(str::to_owned);
        (words.next().unwrap_or_default(), words.next().and_then(|parent| parent.parse::<u32>().ok()))
    };
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_below = |mut at: u32| {
        while let Some(parent) = stat(at).1.filter(|_| at != pid) {
            at = parent;
        }
        at == pid
    };
    all.filter(|process| stat(*process).0 == "Z" && is_below(*process)).collect()
}

#[test]
fn make_leaves_no_half_written_target_and_its_shell_starts_nothing_more() {
    for (step, is_timeout) in [
        ("exec: [make, -C, /out, $MARK], timeout: 3s", true),
        ("run: 'make -C /out $MARK; touch /out/next', timeout: 3s", true),
        ("run: 'cd /out; make $MARK || touch /out/next', timeout: 3s", true),
        ("exec: [make, -C, /out, $MARK]", false),
        ("run: 'make -C /out $MARK; touch /out/next'", false),
    ] {
        let (command, mark) = sleep();
        let project = project(
            &r#"
mounts:
  $GATE
  out: { type: bind, source: out, target: /out }
containers:
  c: { rootfs: $MAKE, mounts: [gate, out] }
steps:
  - { name: make, $STEP, grace: 1h }
  - { name: image, snapshot: { output: image.squashfs } }
"#
            .replace("$MAKE", MAKE)
            .replace("$STEP", step)
            .replace("$MARK", &format!("MARK={mark}")),
        );
        let gate = Gate::new(&project);
        project.write("out/Makefile", MAKEFILE);
        let built = stopped(&project, &gate, "make", is_timeout);
        assert_eq!(built.status("image"), "skipped", "{step}");
        assert_eq!(read(&project, "out/product"), None, "{step}");
        assert_eq!(read(&project, "out/next"), None, "{step}");
        assert_eq!(read(&project, "out/part").as_deref(), Some("whole\n"), "{step}");
        assert_eq!(processes_of(&command), Vec::<String>::new(), "{step}");
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_first_process_without_a_handler_for_sigterm_is_killed_without_grace() {
    for run in ["exec: [sleep, $MARK]", "run: exec sleep $MARK", "run: sleep $MARK; sleep $MARK"] {
        let (command, mark) = sleep();
        for user in ["0", "1234"] {
            let step = run.replace("$MARK", &mark);
            let project = project(&format!(
                "containers: {{ c: {{ rootfs: $TOOLS, user: {user} }} }}\n\
                 steps: [{{ name: s, {step}, timeout: 1s, grace: 1h }}]\n",
            ));
            let built = Built::of(&project, &[]);
            assert_eq!(built.reason("s"), "timed out after 1s", "{run} {user}: {}", built.run);
            assert_eq!(built.ending("s")["exit_code"], 137, "{run}");
            assert_eq!(processes_of(&command), Vec::<String>::new());
            assert_nothing_left(&project, &built);
        }
    }
}

#[test]
fn every_process_of_a_step_gets_sigterm_and_time_to_finish_and_no_other_step_does() {
    let (command, mark) = sleep();
    let script = "finish() { sleep 0.3; echo $1 >> /gate/finished; exit 3; }\n";
    let project = project(
        &r#"
mounts: { $GATE }
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - { name: other, needs: [], run: "trap 'touch /gate/wrong' TERM; sh /gate/meet other" }
  - name: several
    needs: []
    timeout: 2s
    grace: 1h
    run: |
      . /gate/finish
      child() { trap "finish $1" TERM; touch /gate/$1.here; while :; do sleep 0.02 || :; done; }
      child one &
      setsid sh -c ". /gate/finish; trap 'finish two' TERM; touch /gate/two.here; while :; do sleep 0.02 || :; done" &
      # In a group of processes that is stopped: it takes the signal when it continues.
      child three & until [ -e /gate/three.here ]; do sleep 0.02; done; kill -STOP $!
      touch /gate/three.stopped
      sleep $MARK &
      wait
      echo next >> /gate/finished
"#
        .replace("$MARK", &mark),
    );
    let gate = Gate::new(&project);
    project.write("gate/finish", script);
    let build = Running::start(&project, &["-j", "2", "--keep-going"]);
    for name in ["other", "one", "two", "three"] {
        gate.await_step(name);
    }
    let pid = build.pid();
    wait_for("the end of the step that takes too long", || {
        let finished = read(&project, "gate/finished").unwrap_or_default();
        (finished.lines().count() >= 3 && processes_of(&command).is_empty()).then_some(())
    });
    wait_for("the processes that let it continue", || zombies_below(pid).is_empty().then_some(()));
    gate.open("other");
    let built = build.end();
    assert_eq!(built.reason("several"), "timed out after 2s", "{}", built.run);
    assert_eq!(built.status("other"), "ran", "{}", built.run);
    let mut finished: Vec<_> = read(&project, "gate/finished").unwrap().lines().map(str::to_owned).collect();
    finished.sort();
    assert_eq!(finished, ["one", "three", "two"], "{}", built.run);
    assert_eq!(read(&project, "gate/wrong"), None, "the other step got the signal too");
    assert_nothing_left(&project, &built);
}

#[test]
fn a_writer_that_ignores_sigterm_is_killed_after_its_grace_and_one_that_catches_it_finishes() {
    let (command, mark) = sleep();
    let project = project(
        &r#"
mounts: { $GATE }
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - name: ignores
    timeout: 1s
    grace: 1s500ms
    run: |
      trap '' TERM
      sleep $MARK &
      while :; do echo half >> /gate/ignored; sleep 0.1; done
  - name: catches
    needs: []
    timeout: 1s
    grace: 1h
    run: |
      trap 'echo whole > /gate/caught; exit 5' TERM
      echo half > /gate/caught
      while :; do sleep 0.05 || :; done
  - { name: without-grace, needs: [], timeout: 1s, grace: 0s, run: "trap 'touch /gate/wrong' TERM; while :; do sleep 0.05 || :; done" }
"#
        .replace("$MARK", &mark),
    );
    fs::create_dir(project.path("gate")).unwrap();
    let built = Built::of(&project, &["--keep-going", "-j", "3"]);
    assert_eq!(built.reason("ignores"), "timed out after 1s, and was killed 1s 500ms after SIGTERM", "{}", built.run);
    assert_eq!((built.reason("catches"), &built.ending("catches")["exit_code"]), ("timed out after 1s", &5.into()));
    assert_eq!(read(&project, "gate/caught").as_deref(), Some("whole\n"));
    assert_eq!(built.reason("without-grace"), "timed out after 1s and was killed, because its grace is 0s");
    assert_eq!(read(&project, "gate/wrong"), None);
    let left = serde_json::json!([{ "target": "/gate", "what": project.path("gate") }]);
    assert_eq!(built.ending("ignores")["failure"]["half_written"], left, "{}", built.run);
    let warned = built.all("warning").iter().any(|warning| {
        let message = warning["message"].as_str().unwrap_or_default();
        warning["step"] == "ignores" && message.starts_with("it was sent SIGTERM and still runs; it is killed in ")
    });
    assert!(warned, "{}", built.run);
    assert_eq!(processes_of(&command), Vec::<String>::new());
    assert_nothing_left(&project, &built);
}

#[test]
fn a_second_interrupt_ends_the_grace_and_the_build_in_order() {
    let project = project(
        r#"
mounts: { $GATE }
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - name: stays
    grace: 1h
    run: |
      trap 'touch /gate/asked.here' TERM
      sh /gate/meet begun &
      while :; do sleep 0.05 || :; done
"#,
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("begun");
    build.signal(Signal::INT);
    gate.await_step("asked");
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!((built.run.code, built.reason("stays")), (130, "interrupted, and was killed"), "{}", built.run);
    assert_eq!(built.events.last().unwrap()["status"], "interrupted", "{}", built.run);
    assert_nothing_left(&project, &built);
}

#[test]
fn a_command_that_is_interrupted_may_end_by_itself() {
    let project = project("mounts: { $GATE }\ncontainers: { c: { rootfs: $TOOLS, mounts: [gate] } }\nsteps: []\n");
    let gate = Gate::new(&project);
    let script =
        "trap 'sleep 0.3; touch /gate/finished; exit 4' TERM; sh /gate/meet begun & while :; do sleep 0.05 || :; done";
    let child = project.spawn(&["run", "c", "--", "sh", "-c", script]);
    gate.await_step("begun");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    let pid = child.id();
    let run = crate::project::Run::new(pid, &child.wait_with_output().unwrap());
    assert_eq!(run.code, 130, "{run}");
    assert!(project.path("gate/finished").exists(), "{run}");
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

also_with_runc! {
    make_leaves_no_half_written_target_and_its_shell_starts_nothing_more,
    a_first_process_without_a_handler_for_sigterm_is_killed_without_grace,
    every_process_of_a_step_gets_sigterm_and_time_to_finish_and_no_other_step_does,
    a_writer_that_ignores_sigterm_is_killed_after_its_grace_and_one_that_catches_it_finishes,
    a_second_interrupt_ends_the_grace_and_the_build_in_order,
    a_command_that_is_interrupted_may_end_by_itself,
}
