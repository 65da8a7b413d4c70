//! A clone of a project with its lock and an empty store gives the same digests, from every source of a root.

use std::fs;

use serde_json::Value;

use crate::built::{Built, TOOLS, project};
use crate::project::Project;
use crate::registry::Registry;
use crate::registry::server::{Answer, Server};

/// Makes the files of the sources, each with another marker.
const SEED: &str = r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: a, run: "mkdir -p /etc; echo squashfs > /etc/marker" }
  - { name: squashfs, snapshot: { mode: full, output: root.squashfs } }
  - { name: b, run: "echo erofs > /etc/marker" }
  - { name: erofs, export: { format: erofs, output: root.erofs } }
  - { name: c, run: "echo tar > /etc/marker" }
  - { name: tar, export: { format: tar, output: root.tar } }
  - { name: d, run: "echo dir > /etc/marker" }
  - { name: dir, export: { format: files, path: /, output: rootdir } }
  - { name: e, run: "echo oci > /etc/marker" }
  - { name: oci, export: { format: oci, output: layout, tag: v1 } }
  - { name: f, run: "echo image > /etc/marker" }
  - { name: image, export: { format: oci, output: pushed, tag: v1 } }
  - { name: g, run: "echo url > /etc/marker" }
  - { name: url, export: { format: tar, output: served.tar } }
"#;

/// The sources by the names of their containers; the programs have no marker.
const SOURCES: [(&str, &str); 8] = [
    ("squashfs", "squashfs: root.squashfs"),
    ("erofs", "erofs: root.erofs"),
    ("tar", "tar: root.tar"),
    ("dir", "dir: rootdir"),
    ("oci", "oci: layout:v1"),
    ("image", "image: $REGISTRY/o/root:v1"),
    ("url", "url: 'http://$SERVER/root.tar'"),
    ("programs", "programs: [/bin/sh]"),
];

/// The digests of the snapshots, by the names of the steps.
fn digests(built: &Built) -> Vec<Value> {
    SOURCES.iter().map(|(name, _)| built.digest(name).into()).collect()
}

fn manifest(registry: &str, server: &str) -> String {
    let mut text = "version: 1\nname: all\ncontainers:\n".to_owned();
    for (name, source) in SOURCES {
        text += &format!("  {name}: {{ rootfs: {{ {source} }} }}\n");
    }
    text += "steps:\n";
    for (name, _) in SOURCES {
        text += &format!(
            "  - {{ name: look-{name}, container: {name}, run: 'read m < /etc/marker || :; echo \"$m\"; echo \"$m\" > /made' }}\n"
        );
        text += &format!("  - {{ name: {name}, container: {name}, snapshot: {{}} }}\n");
    }
    text.replace("$REGISTRY", registry).replace("$SERVER", server).replace("$TOOLS", TOOLS)
}

#[test]
fn a_clone_with_the_lock_and_an_empty_store_gives_the_same_digests_from_every_source() {
    let first: Project = project(SEED);
    first.apply();
    let served = fs::read(first.path("served.tar")).unwrap();
    let server = Server::start(move |_, _| Answer::new(200, served.clone()));
    let registry = Registry::start(&first);
    registry.push(&first, "pushed:v1", "o/root:v1");
    first.write("build.yaml", &manifest(&registry.address, &server.address));
    let run = first.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    let built = Built::succeed(&first);
    // The tag leads to another image from now on.
    registry.push(&first, "layout:v1", "o/root:v1");
    let clone = Project::new("");
    for name in ["build.yaml", "runner.lock", "root.squashfs", "root.erofs", "root.tar", "rootdir", "layout"] {
        clone.script(&format!("cp -a '{}' .", first.path(name).display()));
    }
    assert!(!clone.store().exists());
    let cloned = Built::of(&clone, &["--locked"]);
    assert_eq!(cloned.run.code, 0, "{}", cloned.run);
    for (name, _) in SOURCES.iter().filter(|(name, _)| *name != "programs") {
        assert_eq!(cloned.lines(&format!("look-{name}")), [*name]);
    }
    assert_eq!(digests(&cloned), digests(&built));
    assert_eq!(clone.leftovers(cloned.run.pid), Vec::<String>::new());
}
