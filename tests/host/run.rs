//! `runner run`: one command in a fresh session, its exit code, its input and its output.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use crate::built::project;
use crate::project::{Project, Run};

const MANIFEST: &str = r#"
mounts:
  tmp: { type: tmpfs, target: /tmp }
containers:
  base: { rootfs: $TOOLS, mounts: [tmp], env: { NAME: value }, cwd: /tmp }
  next: { rootfs: { snapshot: layer }, user: "1000:1000" }
steps:
  - { name: write, container: base, run: echo from the step; echo one > /file; echo one > /tmp/file }
  - { name: layer, container: base, snapshot: {} }
"#;

/// Runs a command in a container; nothing of it remains.
#[track_caller]
fn run(project: &Project, container: &str, command: &[&str]) -> Run {
    let run = project.runner(&[&["run", container, "--"], command].concat());
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new(), "{run}");
    run
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let project = project(MANIFEST);
    for code in [0, 1, 2, 3, 7, 125, 255] {
        let run = run(&project, "base", &["sh", "-c", &format!("exit {code}")]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (code, "", ""), "{run}");
    }
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_be_executed_126() {
    let project = project(MANIFEST);
    for (command, code, text) in [
        ("nosuch", 127, "error: cannot start: nosuch does not exist"),
        ("/no/such", 127, "error: cannot start: /no/such does not exist"),
        ("/proc/self/status", 126, "error: cannot start: /proc/self/status cannot be executed: Permission denied"),
        ("/bin", 126, "error: cannot start: /bin cannot be executed: "),
    ] {
        let run = run(&project, "base", &[command]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{run}");
        // runc has reported it too.
        assert!(run.stderr.lines().last().unwrap().starts_with(text), "{run}");
    }
    let run = run(&project, "bose", &["true"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("did you mean `base`?"), "{run}");
}

#[test]
fn a_session_of_its_own_has_the_containers_root_mounts_user_and_environment() {
    let project = project(MANIFEST);
    // None of the manifest's own steps has run, and no command sees the files of another one.
    let look = "echo $NAME; pwd; for file in /file /tmp/file; do [ -e $file ] && echo $file; echo > $file; done";
    for _ in 0..2 {
        let run = run(&project, "base", &["sh", "-c", look]);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "value\n/tmp\n", ""), "{run}");
    }
    let arguments = run(&project, "base", &["sh", "-c", "for a; do echo \"[$a]\"; done", "sh", "-x", "", "a b", "--"]);
    assert_eq!(arguments.stdout, "[-x]\n[]\n[a b]\n[--]\n");

    // The layer below is built first, and the output of its steps is not part of the command's output.
    let next = run(&project, "next", &["sh", "-c", "cat /file; id -u; echo aside >&2; exit 7"]);
    assert_eq!((next.code, next.stdout.as_str()), (7, "one\n1000\n"), "{next}");
    assert!(next.stderr.contains("write * started in base") || next.stderr.contains("write | from the step"), "{next}");
    assert!(next.stderr.ends_with("aside\n"), "{next}");
}

#[test]
fn standard_input_is_passed_through_byte_by_byte_to_its_end() {
    let project = project(MANIFEST);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut command = project.command(&["run", "base", "--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = thread::spawn(move || stdin.write_all(&sent));
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == bytes, "{} bytes came back of {}", output.stdout.len(), bytes.len());
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

#[test]
fn a_command_ends_when_its_output_pipe_is_closed() {
    let project = project("\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: []\n");
    let run = project.runner_in_shell(
        "timeout 60 \"$@\" | head -n 1; echo \"ended ${PIPESTATUS:-}\"",
        &["run", "c", "--", "sh", "-c", "while echo again; do :; done"],
    );
    assert!(run.stdout.starts_with("again\nended"), "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn a_build_works_with_ignored_sigchld_and_a_mount_name_that_is_not_utf8() {
    let project = project(
        "\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo > /f }, { name: l, snapshot: {} }]\n",
    );
    let strange = "unshare -m sh -c 'mkdir odd; mount -t tmpfs \"$(printf \"a\\377\")\" odd; trap \"\" CHLD; exec \"$@\"' sh \"$@\"";
    let run = project.runner_in_shell(strange, &["apply"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

also_with_runc! {
    the_exit_code_is_the_commands_own,
    a_command_that_is_not_there_is_127_and_one_that_cannot_be_executed_126,
    a_session_of_its_own_has_the_containers_root_mounts_user_and_environment,
    standard_input_is_passed_through_byte_by_byte_to_its_end,
    a_command_ends_when_its_output_pipe_is_closed,
    a_build_works_with_ignored_sigchld_and_a_mount_name_that_is_not_utf8,
}
