//! Shells into a build: in a step that failed, when it failed and later, and before any other step.

use std::fs;

use rustix::process::Signal;

use crate::built::{self, Gate, Running};
use crate::project::Project;
use crate::pty::Terminal;

const MANIFEST: &str = "
version: 1
mounts:
  tmp: { type: tmpfs, target: /tmp }
  src: { type: bind, source: src, target: /src, options: [ro] }
containers:
  base:
    rootfs: { programs: [/bin/sh, /bin/cat, /bin/ls, /bin/mkdir, /bin/chmod, /usr/bin/id] }
    env: { OF: container }
    mounts: [tmp, src]
    devices: [/dev/zero]
    checkpoint: auto
  above: { rootfs: { snapshot: layer } }
steps:
  - { name: one, container: base, run: echo one > /one }
  - { name: layer, container: base, snapshot: {} }
  - { name: two, container: base, run: echo two > /two; echo tmp > /tmp/two; mkdir /w; chmod 777 /w }
  - name: breaks
    container: base
    env: { A: b c }
    cwd: /w
    user: 1000:1000
    run: |
      echo three > three
      exit 3
  - { name: other, container: above, run: echo other > /other; exit 4 }
";

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.write("src/file", "from the host\n");
    project
}

/// Types commands, each after the answer to the one before, and leaves; returns the output.
fn typed(mut terminal: Terminal, commands: &[&str], code: i32) -> String {
    // Quoted so that the echo differs from the awaited text.
    terminal.press("PS1='rea''dy> '\r");
    let mut shown = terminal.await_text("ready> ");
    for command in commands {
        terminal.press(&format!("{command}\r"));
        shown += &terminal.await_text("ready> ");
    }
    terminal.press("exit 6\r");
    assert_eq!(terminal.end().code(), Some(code), "{shown}{}", terminal.shown);
    assert!(terminal.is_as_before());
    shown.replace('\r', "")
}

const LOOK: [&str; 4] =
    ["pwd; id -u; id -g", "echo $OF:$A", "cat /one /two /tmp/two three /src/file", "ls /dev/zero; echo x > more; ls"];

const SEEN: [&str; 4] =
    ["/w\n1000\n1000\n", "\ncontainer:b c\n", "\none\ntwo\ntmp\nthree\nfrom the host\n", "/dev/zero\nmore  three\n"];

#[test]
fn a_shell_in_a_failed_step_has_the_session_of_its_failure_until_the_next_build() {
    let project = project();
    let run = project.runner(&["apply", "--keep-going"]);
    assert_eq!(run.code, 1, "{run}");
    for step in ["breaks", "other"] {
        assert!(run.stdout.contains("  to open a shell in the failed session: "), "{run}");
        assert!(run.stdout.contains(&format!("runner shell {step}\n")), "{run}");
    }
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    for _ in 0..2 {
        // The second shell does not see the changes of the first one.
        let shown = typed(Terminal::new(&project, &["shell", "breaks"]), &LOOK, 6);
        for seen in SEEN {
            assert!(shown.contains(seen), "{seen:?} in {shown}");
        }
        assert!(shown.contains("breaks failed") && shown.contains("exit code 3\nits session as it was"), "{shown}");
    }
    let shown = typed(Terminal::new(&project, &["shell", "other"]), &["cat /one /other; ls /"], 6);
    assert!(shown.contains("one\nother\n") && !shown.contains("two"), "{shown}");

    // A change of the manifest since then is reported; the session is as it was.
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("A: b c", "A: new"));
    let shown = typed(Terminal::new(&project, &["shell", "breaks"]), &["echo $A; cat three"], 6);
    assert!(shown.contains("since then the manifest has changed: step breaks changed: env/A"), "{shown}");
    assert!(shown.contains("new\nthree\n"), "{shown}");

    project.write("build.yaml", &manifest.replace("exit 3", "exit 0").replace("exit 4", "exit 0"));
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(fs::read_dir(project.store().join("failed")).unwrap().count(), 0);
}

#[test]
fn a_step_that_failed_for_its_user_or_its_directory_has_a_shell_as_root() {
    let project = Project::new(
        "version: 1
containers: { c: { rootfs: { programs: [/bin/sh, /usr/bin/id] } } }
steps:
  - { name: user, needs: [], user: nobody, run: 'true' }
  - { name: directory, needs: [], cwd: /no/where, user: 1000:1000, run: 'true' }
",
    );
    let run = project.runner(&["apply", "--keep-going"]);
    assert_eq!(run.code, 1, "{run}");
    for (step, why) in
        [("user", "nobody is not in /etc/passwd of the rootfs"), ("directory", "/no/where: No such file")]
    {
        let mut terminal = Terminal::new(&project, &["shell", step]);
        // Keys typed before go to the program that could not be started.
        terminal.await_text("cannot start as the step's user (");
        terminal.await_text(why);
        let shown = typed(terminal, &["id -u; pwd"], 6);
        assert!(shown.contains("\n0\n/\n"), "{shown}");
    }
}

#[test]
fn a_shell_before_a_step_sees_the_results_of_the_steps_before_it() {
    let project = project();
    let commands = ["cat /two /tmp/two; echo $A; pwd; id -u", "ls /w/three"];
    let shown = typed(Terminal::new(&project, &["shell", "breaks"]), &commands, 6);
    assert!(shown.contains("\ntwo\ntmp\nb c\n/w\n1000\n") && shown.contains("the session before breaks"), "{shown}");
    assert!(shown.contains("/w/three': No such file"), "{shown}");
    // The layer below is in the store by now, and the steps after it are run again.
    let shown = typed(Terminal::new(&project, &["shell", "step:breaks"]), &commands[..1], 6);
    assert!(shown.contains("layer * cached") && shown.contains("two   * done"), "{shown}");
    let shown = typed(Terminal::new(&project, &["shell", "one"]), &["ls /one"], 6);
    assert!(shown.contains("/one': No such file"), "{shown}");
    let shown = typed(Terminal::new(&project, &["shell", "layer"]), &["cat /one; ls /two"], 6);
    assert!(shown.contains("\none\n") && shown.contains("/two': No such file"), "{shown}");
    assert_eq!(project.runner(&["store", "ls", "--json"]).code, 0);
    assert_eq!(fs::read_dir(project.store().join("failed")).unwrap().count(), 0);
}

#[test]
fn several_failures_have_a_shell_each_one_after_the_other() {
    let project = project();
    let mut terminal = Terminal::new(&project, &["apply", "--keep-going", "--shell-on-failure", "-j", "1"]);
    let mut shown = terminal.await_text("build failed");
    let looks = [
        ("cat /other; id -u; pwd", "other\r\n0\r\n/\r\n"),
        ("cat three; id -u; pwd; echo x > /tmp/left", "three\r\n1000\r\n/w\r\n"),
    ];
    for (n, (command, seen)) in looks.iter().enumerate() {
        shown += &terminal.await_text(&format!("which failed ({} of 2)", n + 1));
        terminal.press("PS1='rea''dy> '\r");
        shown += &terminal.await_text("ready> ");
        terminal.press(&format!("{command}\r"));
        shown += &terminal.await_text(seen);
        terminal.press("exit 9\r");
    }
    assert_eq!(terminal.end().code(), Some(1), "{shown}{}", terminal.shown);
    assert!(terminal.is_as_before());
    // Each state was stored before any shell looked at it.
    let shown = typed(Terminal::new(&project, &["shell", "breaks"]), &["ls /tmp"], 6);
    assert!(shown.contains("two\n") && !shown.contains("left"), "{shown}");
}

#[test]
fn a_shell_without_a_terminal_reads_its_commands_from_standard_input_and_needs_some() {
    let project = project();
    assert_eq!(project.runner(&["apply", "--target", "breaks"]).code, 1);
    project.write("script", &format!("{}\nexit 6\n", LOOK.join("\n")));
    for input in ["exec \"$@\" < script", "cat script | \"$@\""] {
        let run = project.runner_in_shell(input, &["shell", "breaks"]);
        assert_eq!(run.code, 6, "{run}");
        let stdout = run.stdout.replace("\n\n", "\n");
        assert_eq!(
            stdout,
            "/w\n1000\n1000\ncontainer:b c\none\ntwo\ntmp\nthree\nfrom the host\n/dev/zero\nmore\nthree\n"
        );
        assert!(run.stderr.contains("breaks failed") && run.stderr.contains("its session as it was then"), "{run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
    let run = project.runner_in_shell("echo 'cat /one; exit 7' | \"$@\"", &["shell", "two"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, "one\n"), "{run}");
    let run = project.runner(&["shell", "breaks"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
    let hint = "help: without a terminal, give the shell its commands on standard input: `echo id | runner shell NAME`";
    assert!(run.stderr.contains("is not a terminal") && run.stderr.contains(hint), "{run}");
}

#[test]
fn shell_on_failure_without_a_terminal_is_refused_before_anything_runs() {
    let project = project();
    let run = project.runner(&["apply", "--shell-on-failure"]);
    assert_eq!(run.code, 2, "{run}");
    let hint = "help: without a terminal, open a shell after the build: `runner shell STEP`";
    assert!(run.stderr.contains("is not a terminal") && run.stderr.contains(hint), "{run}");
    assert!(run.stdout.is_empty() && !project.store().exists(), "{run}");
}

#[test]
fn an_interrupted_build_stores_no_failed_session_and_gc_removes_stored_ones() {
    let project = built::project(
        "
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - { name: breaks, run: echo x > /file; sh /gate/meet breaks; exit 3 }
",
    );
    let gate = Gate::new(&project);
    let kept = || fs::read_dir(project.store().join("failed")).unwrap().count();
    let build = Running::start(&project, &[]);
    gate.await_step("breaks");
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!((built.run.code, kept()), (130, 0), "{}", built.run);
    gate.open("breaks");
    let built = Running::start(&project, &[]).end();
    assert_eq!((built.run.code, kept()), (1, 1), "{}", built.run);
    assert_eq!(built.ending("breaks")["failure"]["kept"], true);
    // It is of today.
    assert_eq!((project.runner(&["store", "gc"]).code, kept()), (0, 1));
    let run = project.runner(&["store", "gc", "--keep-days", "0", "--dry-run"]);
    assert!(run.stdout.contains("session of a failed step failed/"), "{run}");
    assert_eq!((project.runner(&["store", "gc", "--keep-days", "0"]).code, kept()), (0, 0));
    let built = Running::start(&project, &["--no-keep-failed"]).end();
    assert_eq!((built.run.code, kept()), (1, 0), "{}", built.run);
    assert_eq!(built.ending("breaks")["failure"]["kept"], false);
    // No user looks at it on a machine that ends with its job, unless a setting says so.
    for (variables, expected) in [(&[("CI", "true")][..], 0), (&[("CI", "true"), ("RUNNER_KEEP_FAILED", "true")], 1)] {
        let mut command = project.command(&["apply", "--progress", "json"]);
        command.envs(variables.iter().copied());
        let built = Running::spawn(command).end();
        assert_eq!((built.run.code, kept()), (1, expected), "{}", built.run);
    }
    project.write("runner.toml", "keep_failed = false\n");
    assert_eq!((Running::start(&project, &[]).end().run.code, kept()), (1, 0));
}

#[test]
fn a_shell_names_the_mounts_whose_files_stay_after_it() {
    let project = built::project(
        "
mounts:
  out: { type: bind, source: out, target: /out }
containers:
  c:
    rootfs: $TOOLS
    mounts: [out, { type: bind, source: ., target: /src, options: [ro] }, { type: cache, target: /cache }, { type: tmpfs, target: /tmp }]
  d: { rootfs: $TOOLS }
steps: [{ name: s, container: c, run: 'true' }, { name: t, container: d, run: 'true' }]
",
    );
    fs::create_dir(project.path("out")).unwrap();
    let shell = |name: &str| project.runner_in_shell("echo 'echo x > /out/x' | \"$@\"", &["shell", name]);
    let message = format!(
        "files written to these mounts stay: /out ({}), /cache (the cache /cache)\n",
        project.path("out").display()
    );
    for name in ["c", "s"] {
        let run = shell(name);
        assert!(run.code == 0 && run.stderr.ends_with(&message), "{run}");
        assert_eq!(fs::read_to_string(project.path("out/x")).unwrap(), "x\n");
    }
    let run = shell("d");
    assert!(!run.stderr.contains("stays"), "{run}");
}

#[test]
fn a_root_without_the_usual_shells_is_entered_by_the_shell_of_its_container_or_step() {
    let project = Project::new(
        "
version: 1
containers:
  c: { rootfs: { programs: [/bin/dash] }, shell: [/bin/dash, -ec] }
  d: { rootfs: { programs: [/bin/dash] } }
steps:
  - { name: s, container: c, run: 'true' }
  - { name: t, container: d, shell: [/bin/dash, -ec], run: 'true' }
  - { name: fails, container: d, run: 'true' }
",
    );
    for name in ["c", "s", "t"] {
        let run = project.runner_in_shell("echo 'echo in $0' | \"$@\"", &["shell", name]);
        assert!(run.code == 0 && run.stdout == "in /bin/dash\n", "{run}");
    }
    let run = project.runner_in_shell("echo 'echo in $0' | \"$@\"", &["shell", "d"]);
    assert!(run.code != 0 && run.stderr.contains("neither /bin/bash nor /bin/sh"), "{run}");
    let run = project.runner(&["apply", "--keep-going"]);
    assert!(run.code == 1 && run.stdout.contains("the root has no /bin/sh: name a shell that it has"), "{run}");
}

also_with_runc! {
    a_root_without_the_usual_shells_is_entered_by_the_shell_of_its_container_or_step,
    a_shell_in_a_failed_step_has_the_session_of_its_failure_until_the_next_build,
    a_step_that_failed_for_its_user_or_its_directory_has_a_shell_as_root,
    a_shell_before_a_step_sees_the_results_of_the_steps_before_it,
    several_failures_have_a_shell_each_one_after_the_other,
    a_shell_without_a_terminal_reads_its_commands_from_standard_input_and_needs_some,
}
