//! What is asked for: the command line, the manifest's file, settings.

use crate::session::{How, Session};

#[test]
fn a_command_line_that_cannot_be_is_told_with_what_can() {
    let mut session = Session::new();
    for line in [
        "aply",
        "apply --targt x",
        "apply a b",
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
        session.tell(line);
    }
    session.compare("command-line");
}

#[test]
fn files_that_are_named_and_cannot_be_used_are_told_with_why() {
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
        session.tell(line);
    }
    session.compare("files");
}

#[test]
fn settings_that_cannot_be_are_told_with_where_they_come_from() {
    let mut session = Session::new();
    session.tell_how("plan", &How { env: &[("RUNNER_JOBS", "0"), ("RUNNER_PROGRESS", "loud")], ..How::default() });
    session.tell_how("plan", &How { env: &[("SOURCE_DATE_EPOCH", "today")], ..How::default() });
    session.tell_how("plan", &How { env: &[("RUNNER_STORE", "")], by_nobody: true });
    session.write("runner.toml", "jobs = 'two'\ncolour = 'red'\nprogres = 'json'\n");
    session.tell("plan");
    session.write("runner.toml", b"store = '\xff'");
    session.tell("plan");
    std::fs::remove_file(session.path("runner.toml")).unwrap();
    std::fs::create_dir(session.path("runner.toml")).unwrap();
    session.tell("plan");
    session.compare("settings");
}
