//! What this host does not have or does not allow.

use std::fs;
use std::process::Command;

use crate::session::{How, Session};

#[test]
fn a_missing_privilege_is_told_with_how_to_get_it() {
    let mut session = Session::new();
    for line in ["apply", "lock", "run base -- true"] {
        session.tell_how(line, &How { by_nobody: true, ..How::default() });
    }
    session.compare("privilege");
}

#[test]
fn a_program_that_is_not_there_or_not_what_it_should_be_is_told_with_what_installs_it() {
    let mut session = Session::new();
    fs::create_dir(session.path("empty")).unwrap();
    session.write("empty/runk", "");
    // Written by another process: a child of another test could hold a descriptor of this one's, and what is open for
    // writing cannot be executed.
    let write = r"printf '#!/bin/sh\necho a tool\n' > tool; chmod 755 tool";
    let written = Command::new("sh").args(["-ec", write]).current_dir(session.path("")).status().unwrap();
    assert!(written.success());
    let path = [("PATH", "/nowhere"), ("RUNNER_MKSQUASHFS", "1")];
    for line in ["apply --runtime runc", "apply --runtime kata", "plan --runtime runc", "apply --progress quiet"] {
        session.tell_how(line, &How { env: &path, ..How::default() });
    }
    for line in ["apply --runtime /nowhere/crun", "apply --runtime ./empty/runk", "apply --runtime ./tool"] {
        session.tell(line);
    }
    session.compare("programs");
}
