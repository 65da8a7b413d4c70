//! Features that this host lacks or does not allow.

use std::fs;
use std::process::Command;

use crate::session::{Environment, Session};

#[test]
fn a_missing_privilege_is_reported_with_the_fix() {
    let mut session = Session::new();
    for line in ["apply", "lock", "run base -- true"] {
        session.run_in(line, &Environment { by_nobody: true, ..Environment::default() });
    }
    session.compare("privilege");
}

#[test]
fn a_missing_or_wrong_program_is_reported_with_the_command_that_installs_it() {
    let mut session = Session::new();
    fs::create_dir(session.path("empty")).unwrap();
    session.write("empty/runk", "");
    // Written by another process: a child of another test could have a copy of a descriptor of this one's, and a file that is
    // open for writing cannot be executed.
    let write = r"printf '#!/bin/sh\necho a tool\n' > tool; chmod 755 tool";
    let written = Command::new("sh").args(["-ec", write]).current_dir(session.path("")).status().unwrap();
    assert!(written.success());
    let path = [("PATH", "/nowhere"), ("RUNNER_MKSQUASHFS", "1")];
    for line in ["apply --runtime runc", "apply --runtime kata", "plan --runtime runc", "apply --progress quiet"] {
        session.run_in(line, &Environment { env: &path, ..Environment::default() });
    }
    for line in ["apply --runtime /nowhere/crun", "apply --runtime ./empty/runk", "apply --runtime ./tool"] {
        session.run(line);
    }
    session.compare("programs");
}
