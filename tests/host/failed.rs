//! Steps that fail: their dependents are skipped, outputs of earlier builds stay, and nothing remains on the host.

use rustix::process::{Pid, Signal, kill_process};

use crate::built::{Built, Gate, Running, compile, processes_of, project, unique_seconds};
use crate::project::Project;

const MANIFEST: &str = "
version: 1
containers:
  first: { rootfs: { programs: [/bin/sh, /bin/sleep] }, scratch: { disk: true } }
  second: { rootfs: { snapshot: done } }
steps:
  - { name: write, container: first, run: echo one > /file }
  - { name: done, container: first, snapshot: { output: out/done.squashfs } }
  - { name: fill, container: second, run: (sleep 99 &); echo last words >&2; exit 9 }
  - { name: rest, container: second, snapshot: { output: out/rest.squashfs } }
";

#[test]
fn a_skipped_step_says_whether_it_needs_the_failed_one() {
    let project = Project::new(
        "
version: 1
containers: { a: { rootfs: { programs: [/bin/sh] } }, b: { rootfs: { programs: [/bin/sh] } } }
steps:
  - { name: first, container: a, run: 'true' }
  - { name: fails, container: a, run: exit 1 }
  - { name: needs, container: a, run: 'true' }
  - { name: other, container: b, needs: [first], run: 'true' }
",
    );
    let run = project.runner(&["apply", "-j", "1"]);
    assert!(run.stdout.contains("needs * skipped: fails failed\n"), "{run}");
    let other = "other * skipped: fails failed; `--keep-going` runs the steps that do not need it\n";
    assert!(run.stdout.contains(other), "{run}");
    let run = project.runner(&["apply", "--keep-going"]);
    assert!(run.stdout.contains("needs * skipped: fails failed\n") && run.stdout.contains("2 ran"), "{run}");
}

#[test]
fn a_failed_step_skips_its_dependents_and_leaves_earlier_outputs() {
    let project = Project::new(MANIFEST);
    project.write("out/rest.squashfs", "of an earlier build");
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 1, "{run}");
    assert!(run.stdout.contains("step fill failed: exit code 9") && run.stdout.contains("last words"), "{run}");
    assert!(
        run.stdout.contains("[build.yaml:9:13]\n") && run.stdout.contains("╰── (sleep 99 &); echo last words"),
        "{run}"
    );
    assert!(run.stdout.contains("/runner apply\n"), "{run}");
    assert!(run.stdout.contains("fill.log") && run.stdout.contains("rest  * skipped: fill failed"), "{run}");
    assert!(project.path("out/done.squashfs").exists());
    assert_eq!(std::fs::read_to_string(project.path("out/rest.squashfs")).unwrap(), "of an earlier build");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn a_step_past_its_timeout_is_ended_with_all_its_processes() {
    let seconds = unique_seconds();
    let project = project(
        &r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - { name: quick, timeout: 10m, run: echo in time }
  - name: slow
    timeout: 1s500ms
    grace: 200ms
    run: |
      trap '' INT TERM HUP
      echo begun
      sleep SECONDS &
      setsid sleep SECONDS &
      sleep SECONDS
  - { name: after, run: echo never }
"#
        .replace("SECONDS", &seconds),
    );
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!((built.status("quick"), built.status("slow"), built.status("after")), ("ran", "failed", "skipped"));
    let reason = "timed out after 1s 500ms, and was killed 200ms after SIGTERM";
    assert_eq!((built.reason("slow"), built.text("slow").as_str()), (reason, "begun\n"));
    assert_eq!(processes_of(&format!("sleep {seconds}")), Vec::<String>::new());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    let plain = project.runner(&["apply"]);
    assert_eq!(plain.code, 1, "{plain}");
    assert!(
        plain.stdout.contains("step slow failed: timed out after 1s 500ms, and was killed 200ms after SIGTERM\n"),
        "{plain}"
    );
}

#[test]
fn a_failing_step_is_retried_as_often_as_allowed() {
    let project = project(
        r#"
mounts:
  out: { type: cache, target: /out }
containers:
  c: { rootfs: $TOOLS, mounts: [out] }
steps:
  - { name: second, retries: 5, run: "echo try >> /out/second; echo try >> /second; [ $(wc -l < /out/second) = 2 ]" }
  - { name: root, run: wc -l < /second }
  - { name: slow, retries: 1, timeout: 1s, run: "echo try >> /out/slow; [ $(wc -l < /out/slow) = 2 ] || sleep 1000" }
  - { name: never, retries: 2, run: echo try; exit 6 }
  - { name: after, run: echo never }
"#,
    );
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    let tries = |step: &str| {
        let started = built.all("step_started").into_iter().filter(|event| event["step"] == step);
        started.map(|event| event["attempt"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((built.status("second"), tries("second")), ("ran", vec![1, 2]));
    let stays = "begins with the root as it was; files that this one wrote to /out (the cache /out) stay";
    assert_eq!(built.warnings_of("second"), [format!("exit code 1; try 2 of 6 {stays}")]);
    assert_eq!(built.lines("root"), ["1"]);
    assert_eq!((built.status("slow"), tries("slow")), ("ran", vec![1, 2]));
    assert_eq!(built.warnings_of("slow"), [format!("timed out after 1s; try 2 of 2 {stays}")]);
    assert_eq!((built.reason("never"), tries("never")), ("exit code 6 (try 3 of 3)", vec![1, 2, 3]));
    assert_eq!(built.lines("never"), ["try"; 3]);
    assert_eq!(built.warnings_of("never"), [2, 3].map(|next| format!("exit code 6; try {next} of 3 {stays}")));
    assert_eq!((built.ending("never")["exit_code"].as_i64(), built.status("after")), (Some(6), "skipped"));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_ended_by_a_signal_is_reported_with_its_number_and_name() {
    // A process that no other test, here or elsewhere on this host, mistakes for its own.
    let sleep = format!("sleep {}", unique_seconds());
    let project = project(
        r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - { name: fault, exec: [/gate/crash, write] }
  - { name: division, needs: [], exec: [/gate/crash, divide] }
  - { name: child, needs: [], run: /gate/crash write; echo never }
  - { name: killed, needs: [], run: "touch /gate/killed.here; exec SLEEP" }
"#
        .replace("SLEEP", &sleep)
        .as_str(),
    );
    let gate = Gate::new(&project);
    let source = "int main(int n, char **argv) { volatile int zero = 0, *null = 0;\n\
        return argv[1][0] == 'w' ? *null = 1 : 7 / zero; }\n";
    compile(&project, "gate/crash", source, &["-O0"]);
    let build = Running::start(&project, &["--keep-going"]);
    gate.await_step("killed");
    let process = crate::built::wait_for("the step's process", || process_of(&sleep));
    kill_process(process, Signal::KILL).unwrap();
    let built = build.end();
    assert_eq!(built.run.code, 1, "{}", built.run);
    for (step, reason, code) in [
        ("fault", "killed by signal 11 (SIGSEGV)", 139),
        ("division", "killed by signal 8 (SIGFPE)", 136),
        ("child", "exit code 139", 139),
        ("killed", "killed by signal 9 (SIGKILL)", 137),
    ] {
        let ending = built.ending(step);
        assert_eq!((built.reason(step), ending["exit_code"].as_i64()), (reason, Some(code)), "{step}");
        assert_eq!(built.status(step), "failed");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

fn process_of(command: &str) -> Option<Pid> {
    let named = |entry: &std::fs::DirEntry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.replace('\0', " ").trim_end() == command
    };
    let found = std::fs::read_dir("/proc").unwrap().flatten().find(named)?;
    Pid::from_raw(found.file_name().to_str()?.parse().ok()?)
}

also_with_runc! {
    a_step_past_its_timeout_is_ended_with_all_its_processes,
    a_failing_step_is_retried_as_often_as_allowed,
    a_step_ended_by_a_signal_is_reported_with_its_number_and_name,
}
