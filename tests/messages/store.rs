//! The store and its commands, the lock, and `runner verify`.

use std::fs;
use std::os::unix::fs::chown;

use crate::session::{Environment, MANIFEST, Session};

#[test]
fn an_unusable_store_is_reported_with_the_fix() {
    let mut session = Session::new();
    for line in [
        "apply --store /proc/store",
        "apply --store build.yaml",
        "apply --store .",
        "store inspect layer",
        "store export layer layer.squashfs",
        "store diff layer layer",
        "store gc --keep-lock nothing.lock",
    ] {
        session.run(line);
    }
    session.run_in("store diff layer layer", &Environment { by_nobody: true, ..Environment::default() });
    session.run_in("diff ./build.yaml ./build.yaml", &Environment { by_nobody: true, ..Environment::default() });
    fs::create_dir(session.path("other")).unwrap();
    session.write("other/format", "9\n");
    session.run("apply --store other");
    session.run("plan --store other");
    session.write("other/format", "1\n");
    chown(session.path("other"), Some(1000), None).unwrap();
    session.run("apply --store other");
    session.compare("store");
}

#[test]
fn a_missing_or_damaged_layer_is_reported_with_the_fix() {
    let mut session = Session::new();
    session.build("a build that all is well with says nothing", MANIFEST);
    fs::create_dir(session.path("folder")).unwrap();
    session.write("short", "hs");
    for line in [
        "store inspect leyer",
        "store inspect x",
        "store diff layer nothing",
        "store diff layer ./build.yaml",
        "store diff layer ./short",
        "store export layer folder",
        "store export layer build.yaml/x",
        "diff layer",
        "diff nothing layer",
        "diff layer~ layer",
        "diff ./short ./short",
        "diff ./folder layer -m none.yaml",
    ] {
        session.run(line);
    }
    let layers = fs::read_dir(session.path("store/layers/sha256")).unwrap();
    let layer = layers.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some()).unwrap();
    let bytes = fs::read(&layer).unwrap();
    fs::remove_file(&layer).unwrap();
    fs::write(&layer, [&bytes[..bytes.len() - 1], b"x"].concat()).unwrap();
    for line in ["store export layer copy.squashfs", "store verify", "store verify"] {
        session.run(line);
    }
    session.compare("layers");
}

#[test]
fn a_lock_that_does_not_match_is_reported_with_the_command_that_updates_it() {
    let mut session = Session::new();
    session.run("apply --locked");
    session.run("lock --check");
    session.run("verify");
    let digest = |text: &str| format!("sha256:{}", text.repeat(32));
    session.write("runner.lock", "version = 1\n[[snapshot]]\nstep = 'layer'\ndigest = ''\n");
    session.run("lock --check");
    session.write("runner.lock", "version = 9\n");
    session.run("lock");
    let other = "[[manifest]]\npath = \"other.yaml\"\nrunner = \"0.0.1\"\n";
    session.write("runner.lock", format!("version = 2\n{other}"));
    session.run("apply --locked");
    session.write("runner.lock", "version = \n");
    session.run("apply --locked");
    session.run("lock");
    session.run("store gc --keep-lock runner.lock");
    let snapshot =
        |step: &str, digest: &str| format!("[[manifest.snapshot]]\nstep = \"{step}\"\ndigest = \"{digest}\"\n");
    session.write(
        "runner.lock",
        format!(
            "version = 2\n{}{}{}",
            other.replace("other", "build"),
            snapshot("layer", &digest("0a")),
            snapshot("gone", &digest("0b"))
        ),
    );
    let manifest = MANIFEST.replace("programs: [/bin/sh]", "dir: root");
    fs::create_dir(session.path("root")).unwrap();
    session.write("build.yaml", &manifest);
    session.run("lock --check");
    session.compare("lock");
}
