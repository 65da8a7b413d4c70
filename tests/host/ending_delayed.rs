//! Steps whose processes delay their end: hostile ones, and ones that signals reach late.

use std::fs;

use crate::built::{Built, compile, processes_of, project};
use crate::ending::{assert_nothing_left, read, sleep};

/// Each of these would prevent an end that waits for all processes: the step ends with its grace.
#[test]
fn hostile_processes_delay_an_end_by_their_grace_and_no_longer() {
    let (command, mark) = sleep();
    for (what, limits, script) in [
        ("ignore SIGTERM, and clone", "{}", "trap '' TERM; while :; do sleep $MARK & sleep 0.01; done"),
        (
            "clone at each end",
            "{}",
            "sh -c \"trap '' TERM; while :; do (sleep $MARK &); sleep 0.01; done\" & sleep $MARK",
        ),
        (
            "continue a first process that is stopped",
            "{}",
            "sh -c \"trap '' TERM; while :; do kill -CONT 1; done\" & sleep $MARK",
        ),
        (
            "leave no process for anything else",
            "{ pids: 20 }",
            "sh -c 'while :; do sleep $MARK & done' 2> /dev/null || while :; do :; done",
        ),
        ("stop what tells them", "{}", "sh -c \"trap '' TERM; while :; do kill -STOP -1; done\" & sleep $MARK"),
    ] {
        let script = script.replace("$MARK", &mark);
        let project = project(&format!(
            "containers: {{ c: {{ rootfs: $TOOLS, limits: {limits} }} }}\n\
             steps:\n  - name: s\n    timeout: 1s\n    grace: 1s\n    run: |\n      {script}\n"
        ));
        let built = Built::of(&project, &[]);
        assert_eq!(built.run.code, 1, "{what}: {}", built.run);
        assert!(built.reason("s").starts_with("timed out after 1s"), "{what}: {}", built.reason("s"));
        assert_eq!(processes_of(&command), Vec::<String>::new(), "{what}");
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_profile_that_refuses_to_send_signals_delays_no_end() {
    let (command, mark) = sleep();
    for refused in ["kill", "clone", "seccomp", "setns"] {
        let project = project(&format!(
            "containers: {{ c: {{ rootfs: $TOOLS, seccomp: profile.json }} }}\n\
             steps: [{{ name: s, exec: [sleep, \"{mark}\"], timeout: 1s, grace: 1h }}]\n"
        ));
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{refused}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
        );
        project.write("profile.json", &profile);
        let built = Built::of(&project, &[]);
        assert_eq!(built.reason("s"), "timed out after 1s", "{refused}: {}", built.run);
        assert_eq!(processes_of(&command), Vec::<String>::new(), "{refused}");
        assert_nothing_left(&project, &built);
    }
}

/// Takes SIGTERM by sigwait(3), on request in a second thread that outlives the first one, and cleans up.
const WAITS: &str = r#"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
static const char *file;
static void *wait_for_it(void *none) {
    sigset_t all;
    int came = 0;
    sigfillset(&all);
    while (came != SIGTERM) sigwait(&all, &came);
    usleep(400000);
    close(open(file, O_CREAT | O_WRONLY, 0644));
    _exit(5);
    return none;
}
int main(int count, char **words) {
    sigset_t all;
    pthread_t second;
    file = words[count - 1];
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    if (strcmp(words[1], "thread")) wait_for_it(0);
    pthread_create(&second, 0, wait_for_it, 0);
    pthread_exit(0);
}
"#;

#[test]
fn a_process_that_waits_for_sigterm_in_any_of_its_threads_takes_it() {
    for (step, code) in [
        ("exec: [/out/waits, process, /out/finished]", 5),
        ("run: /out/waits process /out/finished; touch /out/next", 137),
        ("run: /out/waits thread /out/finished; touch /out/next", 137),
    ] {
        let project = project(&format!(
            "mounts: {{ out: {{ type: bind, source: out, target: /out }} }}\n\
             containers: {{ c: {{ rootfs: $TOOLS, mounts: [out] }} }}\n\
             steps: [{{ name: s, {step}, timeout: 1s, grace: 1h }}]\n",
        ));
        fs::create_dir(project.path("out")).unwrap();
        compile(&project, "out/waits", WAITS, &["-static", "-pthread"]);
        let built = Built::of(&project, &[]);
        assert_eq!(built.reason("s"), "timed out after 1s", "{step}: {}", built.run);
        assert_eq!(built.ending("s")["exit_code"], code, "{step}: {}", built.run);
        assert!(read(&project, "out/finished").is_some(), "{step}: {}", built.run);
        assert_eq!(read(&project, "out/next"), None, "{step}");
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_step_at_its_process_limit_is_sent_sigterm_as_soon_as_a_process_ends() {
    // The shell in brackets ends when it can make no process, and the one outside takes its place in the count.
    let project = project(
        r#"
mounts: { out: { type: bind, source: out, target: /out } }
containers: { c: { rootfs: $TOOLS, mounts: [out], init: true, limits: { pids: 20 } } }
steps:
  - name: s
    timeout: 2s
    grace: 1h
    run: |
      trap 'echo whole > /out/caught; exit 5' TERM
      sleep 0.5
      (while :; do sleep 4 & done) 2> /dev/null || :
      sleep 4 &
      while :; do :; done
"#,
    );
    fs::create_dir(project.path("out")).unwrap();
    let built = Built::of(&project, &[]);
    assert_eq!(
        (built.reason("s"), &built.ending("s")["exit_code"]),
        ("timed out after 2s", &5.into()),
        "{}",
        built.run
    );
    assert_eq!(read(&project, "out/caught").as_deref(), Some("whole\n"), "{}", built.run);
    assert_nothing_left(&project, &built);
}

also_with_runc! {
    hostile_processes_delay_an_end_by_their_grace_and_no_longer,
    a_profile_that_refuses_to_send_signals_delays_no_end,
    a_process_that_waits_for_sigterm_in_any_of_its_threads_takes_it,
    a_step_at_its_process_limit_is_sent_sigterm_as_soon_as_a_process_ends,
}
