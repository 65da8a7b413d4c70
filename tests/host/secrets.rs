//! Attacks and accidents with secrets: a step that prints one, in each way that a tool does, and every place that shows its
//! output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::built::{Built, Running, project};
use crate::project::{Project, Run};
use crate::pty::Terminal;

const ONE_LINE: &str = "hunter2-of-a-variable";
const LINES: &str = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7\nab\nQIDAQABAoIBAF0p\n-----END KEY-----\n";

/// The texts that reveal a secret: itself, its lines, and beginnings of its base64 at each place in three bytes.
const TRACES: [&str; 7] = [
    ONE_LINE,
    "MIIEpAIBAAKCAQEA7",
    "QIDAQABAoIBAF0p",
    "aHVudGVyMi1vZi1hLXZhcmlhYmxl",
    "h1bnRlcjItb2YtYS12YXJpYWJsZ",
    "odW50ZXIyLW9mLWEtdmFyaWFib",
    "TUlJRXBBSUJBQUtDQVFFQTcKYWIKUUlEQVFBQkFvSUJBRj",
];

const MANIFEST: &str = r#"
mounts:
  variable: { type: secret, env: TOKEN_OF_TEST, target: /run/secrets/token }
  lines: { type: secret, source: key, target: /run/secrets/key }
  other: { type: bind, source: other, target: /other, options: [ro] }
containers:
  c:
    rootfs: { programs: [/bin/sh, /bin/cat, /bin/sleep, /usr/bin/base64, /usr/bin/head, /usr/bin/tail, /usr/bin/touch, /usr/bin/id] }
    mounts: [variable, lines]
  without: { rootfs: { programs: [/bin/sh, /bin/cat] }, mounts: [other] }
steps:
  # It prints a secret of another container, which has not begun by then.
  - { name: early, container: without, run: cat /other/copy }
  - name: print
    container: c
    needs: [early]
    run: |
      token=$(cat /run/secrets/token)
      echo "control: begin"
      echo "the token is $token."; echo "$token" >&2
      printf '%s' hunter2; sleep 0.3; printf '%s\n' -of-a-variable
      printf '%s' "$token" | base64; printf 'x%s' "$token" | base64; printf 'xy%s' "$token" | base64 -w 0
      echo; cat /run/secrets/key /run/secrets/key; base64 /run/secrets/key
      # As programs colour what they have found, and with a link in it.
      printf 'coloured: hunter2\033[01;31m\033[K-of-a\033[m\033[K-variable\n'
      printf 'linked: hunter2-of\033]8;;http://x\033\\-a-variable\033]8;;\033\\\n'
      # Many of them, over the borders of what is read at once.
      n=0; while [ $n -lt 9000 ]; do echo "$token $token $token"; n=$((n+1)); done
      echo "hunter3 is none, hunter2-of-a"; printf "hunter2-of-a"
      exit 1
"#;

fn run_with(project: &Project, arguments: &[&str]) -> Run {
    let mut command = project.command(arguments);
    Run::new(0, &command.env("TOKEN_OF_TEST", ONE_LINE).output().unwrap())
}

fn prepared() -> Project {
    let project = project(MANIFEST);
    project.write("key", LINES);
    project.write("other/copy", LINES);
    project
}

#[track_caller]
fn assert_masked(place: &str, text: &str) {
    for trace in TRACES {
        let at = text.find(trace);
        assert_eq!(at, None, "{place} has {trace}: {:?}", at.map(|at| &text[at.saturating_sub(60)..at]));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_secret_that_a_step_prints_is_masked_on_the_screen_in_logs_events_and_reports() {
    let project = prepared();
    let files = ["report.html", "report.xml", "report.json", "events.log"];
    let reports = ["--report", files[0], "--report", files[1], "--report", files[2], "--log-file", files[3]];
    let mut command = project.command(&[&["apply", "--progress", "json"], &reports[..]].concat());
    command.env("TOKEN_OF_TEST", ONE_LINE);
    let built = Running::spawn(command).end();
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_masked("standard output", &built.run.stdout);
    assert_masked("standard error", &built.run.stderr);
    let log = built.text("print");
    assert_masked("the log", &log);
    for line in
        ["control: begin", "the token is ***.", "***", "*** *** ***", "hunter3 is none, hunter2-of-a", "coloured: ***"]
    {
        assert!(log.lines().any(|found| found == line), "{line}: {}", &log[..2000.min(log.len())]);
    }
    assert!(log.ends_with("\nhunter2-of-a"));
    assert!(log.lines().any(|line| line.starts_with("linked: ***")), "no word of the link");
    assert_eq!(log.lines().filter(|line| *line == "*** *** ***").count(), 9000);
    assert_masked("the log of another container", &built.text("early"));
    for file in files {
        let text = fs::read_to_string(project.path(file)).unwrap();
        assert_masked(file, &text);
        // A report in JSON has no output.
        let has_output = text.contains("hunter3 is none");
        assert_eq!(has_output, file != "report.json", "{file}");
        assert_eq!(mode(&project.path(file)), 0o600, "{file}");
    }
    let found = Command::new("grep").args(["-rlaF", "-e", ONE_LINE]).arg(project.store()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    for progress in ["plain", "quiet"] {
        let run = run_with(&project, &["apply", "--progress", progress]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert_masked(progress, &run.stdout);
        assert_masked(progress, &run.stderr);
    }
}

#[test]
fn reports_of_a_build_without_secrets_are_as_any_file() {
    let project = project("\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo hunter2 }]\n");
    let run = project.runner(&["apply", "--report", "report.json", "--log-file", "events.log"]);
    assert_eq!(run.code, 0, "{run}");
    for file in ["report.json", "events.log"] {
        assert_eq!(mode(&project.path(file)) & 0o600, 0o600);
        assert_ne!(mode(&project.path(file)) & 0o044, 0, "the umask of the tests lets others read: {file}");
    }
}

#[test]
fn a_secret_is_masked_in_the_output_of_a_command_on_a_pipe_and_on_a_terminal() {
    let project = prepared();
    let script = "cat /run/secrets/token /run/secrets/key; base64 /run/secrets/key; cat /run/secrets/token >&2";
    let run = run_with(&project, &["run", "c", "--", "sh", "-c", script]);
    assert_eq!(run.code, 0, "{run}");
    assert_masked("standard output", &run.stdout);
    assert_eq!(run.stderr, "***");

    // This runner does not get the variable.
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("env: TOKEN_OF_TEST", "source: key"));
    let script = "cat /run/secrets/key; printf 'MIIEpAI'; sleep 0.2; printf 'BAAKCAQEA7 end\\n'; read line; echo done";
    let mut terminal = Terminal::new(&project, &["run", "-t", "c", "--", "sh", "-c", script]);
    let text = terminal.await_text("end\r\n");
    assert_masked("the terminal", &text);
    assert!(text.contains("***\r\n***\r\nab\r\n***\r\n***\r\n*** end"), "{text:?}");
    // Each key of a typed secret is echoed, up to its third.
    terminal.press("MII");
    terminal.await_text("MII");
    terminal.press("EpAIBAAKCAQEA7\r");
    let text = terminal.await_text("done\r\n");
    assert_masked("the terminal", &text);
    assert_eq!(terminal.end().code(), Some(0));
}

const ABSENT: &str = r#"
mounts:
  unset: { type: secret, env: RUNNER_TEST_TOKN, target: /run/token }
containers:
  base: { rootfs: $TOOLS, mounts: [unset] }
  with: { rootfs: { snapshot: layer }, mounts: [{ type: secret, source: keyy, target: /run/key }] }
  without: { rootfs: $TOOLS }
steps:
  - { name: token, container: base, run: cat /run/token }
  - { name: layer, container: base, snapshot: {} }
  - { name: key, container: with, run: cat /run/key }
  - { name: other, container: without, run: echo it runs }
"#;

/// With a variable and a file whose names are near those of the manifest.
fn absent() -> Project {
    let project = project(ABSENT);
    project.write("key", "a key of the tests\n");
    project
}

fn with_token(project: &Project, arguments: &[&str]) -> Run {
    project.runner_in_shell("RUNNER_TEST_TOKEN=a-token-of-the-tests exec env \"$@\"", arguments)
}

#[test]
fn missing_secrets_are_all_reported_with_their_places_before_their_steps_run() {
    let project = absent();
    let variable = [
        "× the variable `RUNNER_TEST_TOKN` of the secret is not set",
        "unset: { type: secret, env: RUNNER_TEST_TOKN, target: /run/token }",
        "╰── not in the environment of runner",
        "help: did you mean `RUNNER_TEST_TOKEN`, which is set? Otherwise run `export RUNNER_TEST_TOKN=…` first; sudo",
    ];
    let file = ["keyy` does not exist", "╰── not found", "/key`?"];
    for (arguments, words) in [
        (&["apply", "--keep-going"][..], [&variable[..], &file].concat()),
        (&["lock"], [&variable[..], &file].concat()),
        (&["apply", "--target", "layer"], variable.to_vec()),
        (&["run", "base", "--", "sh"], variable.to_vec()),
        (&["run", "with", "--", "sh"], file.to_vec()),
    ] {
        let run = with_token(&project, arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}: {run}");
        for words in words {
            assert!(run.stderr.contains(words), "{arguments:?}: {words}: {run}");
        }
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
    // A container that does not run needs no secret.
    let run = with_token(&project, &["apply", "--target", "other"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(with_token(&project, &["run", "without", "--", "sh"]).code, 0);
}

#[test]
fn a_missing_secret_stops_no_command_that_runs_nothing() {
    let project = absent();
    let warnings = [
        "the variable RUNNER_TEST_TOKN of a secret is not set, so no step of base can start; run `export \
         RUNNER_TEST_TOKN=…` before a build",
        "/keyy does not exist, or this user cannot see it, so no step of with can start; make it before a build",
    ];
    for command in ["validate", "plan", "graph"] {
        let run = project.runner(&[command]);
        assert_eq!(run.code, 0, "{run}");
        let warns = command != "graph";
        assert!(warnings.iter().all(|warning| run.says(warning) == warns), "{run}");
    }
    let run = project.runner(&["validate"]);
    assert!(run.stdout.ends_with(": 2 warnings\n"), "{run}");
    for (line, label) in [("RUNNER_TEST_TOKN", "── not in the environment of runner\n"), ("keyy", "── not found\n")]
    {
        assert!(run.stderr.contains(line) && run.stderr.contains(label), "{line}: {run}");
    }
}

#[test]
fn a_container_whose_results_are_in_the_store_needs_no_secret() {
    let project = absent();
    let script = "RUNNER_TEST_TOKN=a-token-of-the-tests exec \"$@\"";
    let run = project.runner_in_shell(script, &["apply", "--target", "layer"]);
    assert_eq!(run.code, 0, "{run}");
    let run = project.runner(&["apply", "--target", "layer"]);
    assert!(run.code == 0 && run.stdout.contains("cached"), "{run}");
    // Above that layer, from a container of its own.
    project.write("keyy", "a key of the tests\n");
    assert_eq!(project.runner(&["run", "with", "--", "sh"]).code, 0);
    let run = project.runner(&["apply", "--no-cache", "--target", "layer"]);
    assert!(run.code == 2 && run.stderr.contains("`RUNNER_TEST_TOKN` of the secret is not set"), "{run}");
}

#[test]
fn a_secret_belongs_to_the_user_of_each_step_unless_its_options_name_an_owner() {
    let project = project(
        r#"
mounts:
  own: { type: secret, env: TOKEN_OF_TEST, target: /run/own }
  wide: { type: secret, env: TOKEN_OF_TEST, target: /run/wide, options: [mode=0440, gid=7] }
  fixed: { type: secret, env: TOKEN_OF_TEST, target: /run/fixed, options: [uid=5] }
containers: { c: { rootfs: $TOOLS, user: "1000:1001", mounts: [own, wide, fixed] } }
steps:
  - { name: container, run: "stat -c '%u:%g %a' /run/own /run/wide /run/fixed; cat /run/own | wc -c" }
  - { name: step, user: "2000", run: "stat -c '%u:%g %a' /run/own /run/wide /run/fixed; cat /run/own | wc -c" }
  - { name: root, user: "0", run: "stat -c '%u:%g %a' /run/own; cat /run/own /run/fixed | wc -c" }
  - { name: other, user: "1000", run: "cat /run/fixed" }
"#,
    );
    let mut command = project.command(&["apply", "--progress", "json"]);
    let built = Built::from_run(Run::new(0, &command.env("TOKEN_OF_TEST", ONE_LINE).output().unwrap()));
    let length = ONE_LINE.len().to_string();
    assert_eq!(built.lines("container"), ["1000:1001 400", "1000:7 440", "5:1001 400", &length]);
    assert_eq!(built.lines("step"), ["2000:0 400", "2000:7 440", "5:0 400", &length]);
    assert_eq!(built.lines("root"), ["0:0 400", &(2 * ONE_LINE.len()).to_string()]);
    assert!(built.text("other").contains("Permission denied"), "{}", built.run);
}

also_with_runc! {
    a_secret_is_masked_in_the_output_of_a_command_on_a_pipe_and_on_a_terminal,
    a_secret_belongs_to_the_user_of_each_step_unless_its_options_name_an_owner,
}
