//! Steps that fail for other reasons than their programs.

use std::fs;

use crate::session::{MANIFEST, Session};

const ROOT: &str = "rootfs: { programs: [/bin/sh] }";

fn with(container: &str) -> String {
    MANIFEST.replace(ROOT, container)
}

fn with_step(step: &str) -> String {
    MANIFEST.replace("{ name: greet, run: echo hello > /greeting }", step)
}

#[test]
fn a_rootfs_that_cannot_be_used_is_reported_with_the_file_and_the_reason() {
    let mut session = Session::new();
    session.write("junk", "neither an image nor an archive");
    session.write("hsqs", [b"hsqs".as_slice(), &[0x55; 4096]].concat());
    session.write("empty", "");
    for (about, rootfs) in [
        ("no image", "rootfs: { squashfs: junk }"),
        ("a damaged image", "rootfs: { squashfs: hsqs }"),
        ("an empty image", "rootfs: { squashfs: empty }"),
        ("no archive", "rootfs: { tar: junk }"),
        ("an image for an archive", "rootfs: { tar: hsqs }"),
        ("an empty archive", "rootfs: { tar: empty }"),
        ("no program", "rootfs: { programs: [/etc/passwd] }"),
        ("too little room", "scratch: { tmpfs: 64KiB }, rootfs: { programs: [/bin/sh] }"),
    ] {
        session.build(about, &with(rootfs));
    }
    session.compare("rootfs");
}

#[test]
fn a_container_that_cannot_be_made_is_reported_with_the_setting_and_the_reason() {
    let mut session = Session::new();
    fs::create_dir_all(session.path("root/dev/x")).unwrap();
    std::os::unix::fs::symlink("/etc", session.path("root/proc")).unwrap();
    fs::write(session.path("root/file"), "").unwrap();
    for (about, container) in [
        ("an unknown user", format!("user: ann, {ROOT}")),
        ("an unknown group", format!("user: 'root:staff', {ROOT}")),
        ("an unknown filesystem", format!("mounts: [ {{ type: hostfs, target: /x }} ], {ROOT}")),
        (
            "options that tmpfs does not take",
            format!("mounts: [ {{ type: tmpfs, target: /x, options: [size=x] }} ], {ROOT}"),
        ),
        ("a working directory that is not there", format!("cwd: /nowhere, {ROOT}")),
        (
            "a directory mounted on a file",
            "mounts: [ { type: tmpfs, target: /file } ], rootfs: { dir: root }".to_owned(),
        ),
        ("a root whose /proc is a link", "rootfs: { dir: root }".to_owned()),
    ] {
        session.build(about, &with(&container));
    }
    session.compare("container");
}

#[test]
fn a_step_that_cannot_be_started_or_stored_is_reported_with_the_reason() {
    let mut session = Session::new();
    for (about, step) in [
        ("no such command", "{ name: greet, exec: [nothing] }"),
        ("a command that is a directory", "{ name: greet, exec: [/tmp] }"),
        ("a command that is tried again", "{ name: greet, run: exit 3, retries: 1 }"),
        ("a step that takes too long", "{ name: greet, run: while true; do true; done, timeout: 1s }"),
    ] {
        session.build(about, &with_step(step));
    }
    session.compare("steps");
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_runs() {
    let mut session = Session::new();
    for output in ["/etc/passwd/base.squashfs", "/proc/no/base.squashfs"] {
        session.write("build.yaml", MANIFEST.replace("out/base.squashfs", output));
        session.run("apply");
    }
    session.compare("outputs");
}
