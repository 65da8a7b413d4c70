//! Caches with `sharing: locked`: one step at a time, in one build and in several runners on one store.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::built::{Built, Gate, Running, project};
use crate::project::Project;

/// Two containers whose steps lock the cache: the first one uses it until the gate is open.
const MANIFEST: &str = r#"
mounts:
  $GATE
  cache: { type: cache, id: db, target: /db, sharing: SHARING }
containers:
  a: { rootfs: $TOOLS, mounts: [gate, cache] }
  b: { rootfs: $TOOLS, mounts: [gate, cache] }
steps:
  - { name: one, container: a, run: "mkdir /db/lock; sh /gate/meet turn; rm -r /db/lock" }
  - { name: two, container: b, timeout: 1s, run: "mkdir /db/lock; sh /gate/meet turn; rm -r /db/lock" }
"#;

const WAITS: &str = "waiting for the cache db: another step uses it, here or in another runner, and `sharing: locked` lets \
                     one step at a time use it";

fn with_sharing(sharing: &str) -> (Project, Gate) {
    let project = project(&MANIFEST.replace("SHARING", sharing));
    let gate = Gate::new(&project);
    (project, gate)
}

/// Returns the events of a build up to the first one for which `is` is true.
fn until(lines: &mut impl Iterator<Item = String>, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut events = Vec::new();
    for line in lines {
        events.push(serde_json::from_str(&line).unwrap());
        if events.last().is_some_and(&is) {
            return events;
        }
    }
    panic!("it never came: {events:?}");
}

fn is_wait(event: &Value) -> bool {
    event["event"] == "step_waits" && event["cache"] == "db"
}

#[test]
fn steps_of_two_containers_use_a_locked_cache_in_turn() {
    let (project, gate) = with_sharing("locked");
    // The wait of the step with a timeout ends within that time.
    project.write(
        "build.yaml",
        &std::fs::read_to_string(project.path("build.yaml")).unwrap().replace(", timeout: 1s", ""),
    );
    let mut build = Running::start(&project, &["-j", "2"]);
    let pid = build.pid();
    let mut lines = BufReader::new(build.stdout()).lines().map(Result::unwrap);
    let events = until(&mut lines, is_wait);
    let waits = events.last().unwrap()["step"].as_str().unwrap().to_owned();
    gate.await_step("turn");
    gate.open("turn");
    let rest: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert_eq!(build.end().run.code, 0, "{rest:?}");
    assert!(!rest.iter().any(is_wait), "the wait of {waits} is shown once: {rest:?}");
    let has_turn = |event: &&Value| event["event"] == "step_has_turn" && event["step"] == waits.as_str();
    assert_eq!(rest.iter().filter(has_turn).count(), 1, "{rest:?}");
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

#[test]
fn steps_use_a_shared_cache_in_parallel() {
    let (project, gate) = with_sharing("shared");
    gate.open("turn");
    assert_eq!(Built::of(&project, &["-j", "2"]).all("warning"), Vec::<&Value>::new());
    let (project, gate) = with_sharing("shared");
    let build = Running::start(&project, &["-j", "1", "--target", "one"]);
    gate.await_step("turn");
    let other = Built::of(&project, &["--target", "two"]);
    assert_eq!((other.run.code, other.reason("two")), (1, "exit code 1"), "{}", other.run);
    gate.open("turn");
    assert_eq!(build.end().run.code, 0);
}

#[test]
fn a_timeout_does_not_run_while_a_step_waits_for_another_runner() {
    let (project, gate) = with_sharing("locked");
    let first = Running::start(&project, &["--target", "one"]);
    gate.await_step("turn");
    let mut second = Running::start(&project, &["--target", "two"]);
    let mut lines = BufReader::new(second.stdout()).lines().map(Result::unwrap);
    let events = until(&mut lines, is_wait);
    assert_eq!(events.last().unwrap()["step"], "two");
    thread::sleep(Duration::from_millis(1500));
    gate.open("turn");
    let events = until(&mut lines, |event| event["event"] == "step_finished");
    let ended = events.last().unwrap();
    assert_eq!(ended["status"], "ran", "{ended}");
    // The wait is no part of its duration.
    let time = |event: &Value| humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
    let turn = events.iter().find(|event| event["event"] == "step_has_turn").unwrap();
    let since_turn = time(ended).duration_since(time(turn)).unwrap();
    let duration = Duration::from_millis(ended["duration_ms"].as_u64().unwrap());
    assert!(duration <= since_turn + Duration::from_millis(5), "{events:#?}");
    drop(lines);
    assert_eq!((first.end().run.code, second.end().run.code), (0, 0));
}

#[test]
fn ctrl_c_ends_the_wait_for_a_cache_and_not_the_step_that_uses_it() {
    let (project, gate) = with_sharing("locked");
    let first = Running::start(&project, &["--target", "one"]);
    gate.await_step("turn");
    let mut second = Running::start(&project, &["--target", "two"]);
    let pid = second.pid();
    let mut lines = BufReader::new(second.stdout()).lines().map(Result::unwrap);
    until(&mut lines, is_wait);
    second.signal(Signal::INT);
    let ended = until(&mut lines, |event| event["event"] == "build_finished");
    assert_eq!(ended.last().unwrap()["status"], "interrupted");
    drop(lines);
    assert_eq!(second.end().run.code, 130);
    gate.open("turn");
    assert_eq!(first.end().run.code, 0);
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

#[test]
fn a_command_waits_for_a_locked_cache_until_the_runner_that_uses_it_is_killed() {
    let (project, gate) = with_sharing("locked");
    let first = Running::start(&project, &["--target", "one"]);
    gate.await_step("turn");
    let mut run = project.command(&["run", "b", "--", "sh", "-c", "ls /db; echo done"]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut notices = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(notices.next().as_deref(), Some(WAITS));
    first.signal(Signal::KILL);
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "lock\ndone\n");
}

#[test]
fn steps_with_several_locked_caches_never_wait_for_each_other() {
    let mount = |id: &str, target: &str| format!("{{ type: cache, id: {id}, target: /{target}, sharing: locked }}");
    // In one order and in the other, and one cache twice.
    let (a, b) =
        (format!("{}, {}", mount("x", "x"), mount("y", "y")), format!("{}, {}", mount("y", "y"), mount("x", "x")));
    let b = format!("{b}, {}", mount("x", "again"));
    let mut text = format!(
        "containers:\n  a: {{ rootfs: $TOOLS, mounts: [{a}] }}\n  b: {{ rootfs: $TOOLS, mounts: [{b}] }}\nsteps:\n"
    );
    for n in 0..20 {
        for container in ["a", "b"] {
            let run = "mkdir /x/lock /y/lock; rm -r /y/lock /x/lock";
            text += &format!("  - {{ name: {container}{n}, container: {container}, needs: [], run: \"{run}\" }}\n");
        }
    }
    let project = project(&text);
    let builds = [(); 2].map(|()| Running::start(&project, &["-j", "4"]));
    for build in builds {
        build.succeed();
    }
}

#[test]
fn a_lock_that_another_step_has_in_a_shared_cache_gets_the_hint() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: cache, target: /var/cache/apt }] }
steps:
  - { name: apt, run: "echo 'E: Could not get lock /var/cache/apt/archives/lock. It is held by process 0' >&2; exit 100" }
"#,
    );
    let built = Built::of(&project, &[]);
    assert_eq!(
        built.reason("apt"),
        "exit code 100; another step, here or in another runner, uses the cache /var/cache/apt too; `sharing: locked` in its \
         mount lets one step at a time use it"
    );
}
