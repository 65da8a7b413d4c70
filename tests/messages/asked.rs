//! Wrong requests: the command line, the manifest's file, settings.

use crate::session::{Environment, Session};

#[test]
fn a_wrong_command_line_is_reported_with_the_right_one() {
    let mut session = Session::new();
    for line in [
        "aply",
        "apply --targt x",
        "apply a b",
        "apply -f build.yaml",
        "run base -f build.yaml -- ls",
        "apply --set x",
        "apply -j 0",
        "apply --progress loud",
        "apply --report out.pdf",
        "apply --target leyer --target nothing",
        "plan --target nothing",
        "graph --format png",
        "run base ls",
        "run bsae -- ls",
        "run layer -- ls",
        "run nothing -- ls",
        "run -t base -- ls",
        "shell base",
        "store",
        "store gc --max-size 3x",
        "store gc --keep-days soon",
        "schema event",
        "completions csh",
    ] {
        session.run(line);
    }
    session.compare("command-line");
}

#[test]
fn named_files_that_cannot_be_used_are_reported_with_the_reason() {
    let mut session = Session::new();
    std::fs::create_dir(session.path("sub")).unwrap();
    session.write("sub/build.yaml", "");
    session.write("wide.yaml", b"version: 1\nname: \xff\n");
    for line in [
        "validate nothing.yaml",
        "plan sub",
        "plan /",
        "plan build.yaml/x",
        "plan wide.yaml",
        "apply --log-file no/such/folder/events.json",
        "apply --report no/report.html",
        "apply --report build.yaml/report.html",
        "man build.yaml/x",
    ] {
        session.run(line);
    }
    session.compare("files");
}

#[test]
fn invalid_settings_are_reported_with_their_source() {
    let mut session = Session::new();
    session.run_in(
        "plan",
        &Environment { env: &[("RUNNER_JOBS", "0"), ("RUNNER_PROGRESS", "loud")], ..Environment::default() },
    );
    session.run_in("plan", &Environment { env: &[("SOURCE_DATE_EPOCH", "today")], ..Environment::default() });
    session.run_in("plan", &Environment { env: &[("RUNNER_STORE", "")], by_nobody: true });
    session.write("runner.toml", "jobs = 'two'\ncolour = 'red'\nprogres = 'json'\n");
    session.run("plan");
    session.write("runner.toml", b"store = '\xff'");
    session.run("plan");
    std::fs::remove_file(session.path("runner.toml")).unwrap();
    std::fs::create_dir(session.path("runner.toml")).unwrap();
    session.run("plan");
    session.compare("settings");
}
