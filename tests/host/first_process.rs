//! `init: true`: a small first process of each step, which reaps orphans and passes signals on.

use std::fs;

use rustix::process::Signal;

use crate::built::{Built, Gate, Running, project};
use crate::project::Project;
use crate::pty::Terminal;
use crate::runtime::runtime;

fn of(container: &str, steps: &str) -> Project {
    let project = project(&format!(
        "mounts: {{ $GATE }}\ncontainers: {{ c: {{ rootfs: $TOOLS, mounts: [gate], {container} }} }}\nsteps:\n{steps}"
    ));
    fs::create_dir_all(project.path("gate")).unwrap();
    project
}

#[test]
fn a_signal_that_a_step_sends_to_itself_ends_it_as_under_a_shell() {
    for (container, code, printed) in [("init: true", 143, ""), ("init: false", 0, "still there\n")] {
        let project = of(container, "  - { name: s, run: 'kill -TERM $$; echo still there' }\n");
        let built = Built::of(&project, &[]);
        assert_eq!(
            (&built.ending("s")["exit_code"], built.text("s").as_str()),
            (&code.into(), printed),
            "{}",
            built.run
        );
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn signals_to_the_first_process_are_passed_on_and_its_program_is_another() {
    let script = r#"  - name: s
    run: |
      [ $$ != 1 ] || echo first
      trap 'echo passed on; touch /dev/shm/passed' USR1; kill -USR1 1
      until [ -e /dev/shm/passed ]; do sleep 0.02; done
      sleep 1000 & sleep 1000 & exit 7
"#;
    for container in ["init: true", "init: true, user: 1234"] {
        let project = of(container, script);
        let built = Built::of(&project, &[]);
        assert_eq!(
            (built.lines("s"), built.reason("s")),
            (vec!["passed on".to_owned()], "exit code 7"),
            "{}",
            built.run
        );
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn orphans_are_reaped() {
    // The program that the shell becomes waits for no child. Orphans that still exist after fifty looks are not reaped.
    let script = r#"  - name: s
    run: |
      mkfifo /end
      (sleep 0.1 & echo $! >> /orphans; sleep 0.1 & echo $! >> /orphans)
      (
        looks=0 left=both
        while [ -n "$left" ] && [ $looks -lt 50 ]; do
          looks=$((looks + 1)) left=; sleep 0.02
          for orphan in $(cat /orphans); do [ ! -e /proc/$orphan ] || left="$left $orphan"; done
        done
        for orphan in $left; do grep -h "^State:.*zombie" /proc/$orphan/status || :; done
        echo looked > /end
      ) &
      exec cat /end
"#;
    for (container, zombies) in [("init: true", false), ("init: false", true)] {
        let project = of(container, script);
        let built = Built::of(&project, &[]);
        let text = built.text("s");
        assert_eq!(
            (text.contains("zombie"), text.ends_with("looked\n")),
            (zombies, true),
            "{container}: {}",
            built.run
        );
    }
}

#[test]
fn a_command_that_cannot_be_executed_has_the_code_of_a_shell() {
    for (command, code, log) in [
        ("nothing", 127, "nothing: no such program"),
        ("/gate/not-executable", 126, "/gate/not-executable: permission"),
    ] {
        let project = of("init: true", &format!("  - {{ name: s, exec: [{command}] }}\n"));
        project.write("gate/not-executable", "#!/bin/sh\n");
        let built = Built::of(&project, &[]);
        assert_eq!(built.ending("s")["exit_code"], code, "{}", built.run);
        match runtime() {
            "embedded" => assert!(built.reason("s").starts_with("cannot start: "), "{}", built.run),
            _ => assert!(built.text("s").starts_with(&format!("runner-init: {log}")), "{}", built.run),
        }
    }
}

#[test]
fn the_end_of_a_step_waits_for_all_its_processes() {
    let steps = r#"  - name: s
    grace: 1h
    run: |
      (trap 'sleep 0.3; echo child >> /gate/finished; exit' TERM; touch /gate/child.here; while :; do sleep 0.02 || :; done) &
      touch /gate/parent.here
      sleep 1000
      echo next >> /gate/finished
"#;
    let project = of("init: true", steps);
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("child");
    gate.await_step("parent");
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!((built.run.code, built.reason("s")), (130, "interrupted"), "{}", built.run);
    assert_eq!(fs::read_to_string(project.path("gate/finished")).unwrap(), "child\n");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn orphans_are_reaped_and_the_programs_end_is_reported_while_a_step_is_to_end() {
    let steps = r#"  - name: s
    timeout: 2s
    grace: 1h
    run: |
      finish() {
        (sleep 0.1 & echo $! >> /orphans; sleep 0.1 & echo $! >> /orphans)
        for orphan in $(cat /orphans); do while [ -e /proc/$orphan ]; do sleep 0.02; done; done
        echo reaped; exit 5
      }
      trap finish TERM
      while :; do sleep 0.02 || :; done
"#;
    let project = of("init: true", steps);
    let built = Built::of(&project, &[]);
    assert_eq!(
        // A shell may report how the process ended that it waited for.
        (built.reason("s"), &built.ending("s")["exit_code"], built.text("s").replace("Terminated\n", "").as_str()),
        ("timed out after 2s", &5.into(), "reaped\n"),
        "{}",
        built.run
    );
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn nothing_inside_can_write_to_the_first_process_its_program_or_its_descriptors() {
    let script = r#"  - name: s
    run: |
      for file in /proc/1/exe /proc/1/root/dev/runner-init; do
        [ -e $file ] || continue
        (echo x > $file) 2> /dev/null && echo "$file is written" || :
      done
      ls /proc/1/fd 2> /dev/null || :
      echo tried
  - { name: next, run: echo works }
"#;
    for capabilities in ["[]", "[SYS_PTRACE]", "[SYS_PTRACE, SYS_ADMIN]"] {
        let project = of(&format!("init: true, capabilities: {{ add: {capabilities} }}"), script);
        let built = Built::of(&project, &[]);
        assert_eq!(
            (built.lines("s"), built.text("next").as_str()),
            (vec!["tried".to_owned()], "works\n"),
            "{}",
            built.run
        );
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn a_command_behind_the_first_process_has_the_terminal_in_its_hands() {
    let project = of("init: true", "  - { name: s, run: 'true' }\n");
    let script = "trap 'echo heard; exit 9' INT; test -t 0 && echo at a terminal; while :; do sleep 0.05 || :; done";
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", script]);
    terminal.await_text("at a terminal\r\n");
    terminal.press("\u{3}");
    terminal.await_text("heard\r\n");
    assert_eq!(terminal.end().code(), Some(9), "{}", terminal.shown);
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", "echo begins; exec sleep 1000"]);
    terminal.await_text("begins\r\n");
    terminal.press("\u{3}");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.shown);
    assert!(terminal.is_as_before());
}

also_with_runc! {
    a_signal_that_a_step_sends_to_itself_ends_it_as_under_a_shell,
    signals_to_the_first_process_are_passed_on_and_its_program_is_another,
    orphans_are_reaped,
    a_command_that_cannot_be_executed_has_the_code_of_a_shell,
    the_end_of_a_step_waits_for_all_its_processes,
    orphans_are_reaped_and_the_programs_end_is_reported_while_a_step_is_to_end,
    nothing_inside_can_write_to_the_first_process_its_program_or_its_descriptors,
    a_command_behind_the_first_process_has_the_terminal_in_its_hands,
}
