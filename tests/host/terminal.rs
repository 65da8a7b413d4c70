//! Commands on a terminal: a real one inside, with keys and output passed on, and the caller's terminal restored.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcsetwinsize;

use crate::built::{unique_seconds, wait_for};
use crate::project::Project;
use crate::pty::{Terminal, size};

const MANIFEST: &str = "
version: 1
containers:
  c:
    rootfs: { programs: [/bin/sh, /bin/bash, /bin/cat, /bin/sleep, /bin/stty, /bin/ls, /usr/bin/tty, /usr/bin/id, /usr/bin/seq] }
    mounts: [{ type: tmpfs, target: /tmp }]
  plain:
    rootfs: { programs: [/bin/sh, /usr/bin/tty, /usr/bin/id] }
    user: 1234:5678
  none:
    rootfs: { programs: [/bin/cat] }
steps:
  - { name: step, container: c, run: 'true' }
";

#[test]
fn a_command_has_a_real_terminal_of_the_callers_size_and_follows_it() {
    let project = Project::new(MANIFEST);
    // Not bash: readline writes back the size that it has read, which undoes a change in between.
    let script = r#"trap 'echo changed' WINCH
tty; stty size; echo ready; read line; echo "read $line"
until [ "$(stty size)" = '33 77' ]; do sleep 0.05; done; echo followed
until [ "$(stty size)" = '40 100' ]; do sleep 0.05; done; exit 42"#;
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", script]);
    let text = terminal.await_text("ready\r\n");
    assert!(text.contains("/dev/pts/0\r\n21 93\r\n"), "{text}");
    assert!(!terminal.is_as_before());
    terminal.press("a word\r");
    terminal.await_text("read a word\r\n");
    tcsetwinsize(&terminal.screen, size(33, 77)).unwrap();
    let text = terminal.await_text("followed\r\n");
    assert!(text.contains("changed"), "{text}");
    tcsetwinsize(&terminal.screen, size(40, 100)).unwrap();
    assert_eq!(terminal.end().code(), Some(42), "{}", terminal.shown);
    assert!(terminal.is_as_before());
}

/// Returns of the sleep of that many seconds whether it is in the foreground of its terminal, and whether it is stopped; see stat
/// in proc(5).
fn sleep_state(seconds: &str) -> Option<(bool, bool)> {
    let of_sleep = |path: &Path| {
        let line = std::fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        line == format!("sleep\0{seconds}\0")
    };
    let process =
        std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).find(|path| of_sleep(path))?;
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some((fields[2] == fields[5], fields[0] == "T"))
}

#[test]
fn ctrl_c_and_ctrl_z_reach_the_command_inside() {
    let project = Project::new(MANIFEST);
    let seconds = unique_seconds();
    let await_sleep = |wished| wait_for("the sleep", || (sleep_state(&seconds) == Some(wished)).then_some(()));
    let mut terminal = Terminal::new(&project, &["shell", "c"]);
    // Quoted so that the echo differs from the awaited text.
    terminal.press("PS1='rea''dy> '\r");
    terminal.await_text("ready> ");
    terminal.press(&format!("sleep {seconds}\r"));
    await_sleep((true, false));
    terminal.press("\u{1a}");
    await_sleep((false, true));
    terminal.await_text("ready> ");
    terminal.press("fg\r");
    await_sleep((true, false));
    terminal.press("\u{3}");
    wait_for("the end of the sleep", || sleep_state(&seconds).is_none().then_some(()));
    terminal.await_text("ready> ");
    terminal.press("echo still he''re\r");
    terminal.await_text("still here\r\n");
    terminal.press("exit 6\r");
    assert_eq!(terminal.end().code(), Some(6), "{}", terminal.shown);
    assert!(terminal.is_as_before());
}

#[test]
fn ctrl_c_ends_a_command_that_has_no_handler_and_no_other() {
    let project = Project::new(MANIFEST);
    let seconds = unique_seconds();
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sleep", &seconds]);
    wait_for("the sleep", || (sleep_state(&seconds) == Some((true, false))).then_some(()));
    wait_for("raw mode", || (!terminal.is_as_before()).then_some(()));
    terminal.press("\u{3}");
    assert_eq!(terminal.end().code(), Some(130));
    assert!(terminal.is_as_before());

    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", script]);
    terminal.await_text("ready\r\n");
    terminal.press("\u{3}");
    assert_eq!(terminal.end().code(), Some(9), "{}", terminal.shown);
    assert!(terminal.shown.contains("caught"), "{}", terminal.shown);
}

#[test]
fn the_terminal_is_restored_however_runner_ends() {
    for (signal, code) in
        [(Signal::TERM, Some(130)), (Signal::INT, Some(130)), (Signal::QUIT, Some(130)), (Signal::KILL, None)]
    {
        let project = Project::new(MANIFEST);
        let seconds = unique_seconds();
        let script = format!("echo started; sleep {seconds}");
        let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", &script]);
        terminal.await_text("started\r\n");
        assert!(!terminal.is_as_before());
        // setsid(1) has become runner.
        kill_process(Pid::from_raw(terminal.process.id().cast_signed()).unwrap(), signal).unwrap();
        assert_eq!(terminal.end().code(), code, "{signal:?}");
        wait_for("the terminal", || terminal.is_as_before().then_some(()));
        wait_for("the command's end", || sleep_state(&seconds).is_none().then_some(()));
    }
}

#[test]
fn all_output_before_the_end_is_shown() {
    let project = Project::new(MANIFEST);
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "seq", "200000"]);
    assert!(terminal.end().success());
    let lines: Vec<&str> = terminal.shown.lines().collect();
    assert_eq!(lines.len(), 200_000);
    assert_eq!((lines[0], lines[99_999], lines[199_999]), ("1", "100000", "200000"));
}

#[test]
fn a_user_may_use_the_terminal_that_it_is_given() {
    let project = Project::new(MANIFEST);
    let mut terminal =
        Terminal::new(&project, &["run", "-t", "plain", "--", "sh", "-c", "id -u; tty; echo own > $(tty)"]);
    assert!(terminal.end().success(), "{}", terminal.shown);
    assert_eq!(terminal.shown, "1234\r\n/dev/pts/0\r\nown\r\n");
}

#[test]
fn a_shell_is_bash_where_the_root_has_it_and_leaves_no_layer() {
    let project = Project::new(MANIFEST);
    for (container, options, expected) in
        [("c", &[][..], "/bin/bash"), ("plain", &[][..], "/bin/sh"), ("c", &["--shell", "sh"][..], "sh")]
    {
        let mut terminal = Terminal::new(&project, &[&["shell", container][..], options].concat());
        terminal.press("echo new > /tmp/new; echo this is $0.\r");
        terminal.await_text(&format!("this is {expected}.\r\n"));
        terminal.press("exit 5\r");
        assert_eq!(terminal.end().code(), Some(5));
    }
    let layers = std::fs::read_dir(project.store().join("layers/sha256")).map_or(0, Iterator::count);
    assert_eq!(layers, 0);
    let mut terminal = Terminal::new(&project, &["shell", "none"]);
    assert_eq!(terminal.end().code(), Some(3));
    assert!(terminal.shown.contains("the root has neither /bin/bash nor /bin/sh"), "{}", terminal.shown);
    let mut terminal = Terminal::new(&project, &["run", "-t", "none", "--", "nope"]);
    assert_eq!(terminal.end().code(), Some(127));
    assert!(terminal.shown.contains("cannot start: ") && terminal.is_as_before(), "{}", terminal.shown);
}

#[test]
fn run_t_and_shell_without_a_terminal_are_refused() {
    let project = Project::new(MANIFEST);
    for arguments in [&["shell", "c"][..], &["run", "-t", "c", "--", "sh"][..]] {
        let run = project.runner(arguments);
        assert_eq!(run.code, 2, "{run}");
        assert!(run.stderr.contains("standard input or standard output is not a terminal"), "{run}");
    }
    let run = project.runner(&["run", "step", "--", "true"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("a step has that name, in the container `c`"), "{run}");
}

also_with_runc! {
    a_command_has_a_real_terminal_of_the_callers_size_and_follows_it,
    ctrl_c_and_ctrl_z_reach_the_command_inside,
    ctrl_c_ends_a_command_that_has_no_handler_and_no_other,
    the_terminal_is_restored_however_runner_ends,
    all_output_before_the_end_is_shown,
    a_user_may_use_the_terminal_that_it_is_given,
    a_shell_is_bash_where_the_root_has_it_and_leaves_no_layer,
}
