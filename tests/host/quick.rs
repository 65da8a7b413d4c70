//! The shortest way through the whole: programs of the host, two containers, two layers.

use std::fs::File;

use runner::digest::Digest;

use crate::project::Project;

const MANIFEST: &str = "
version: 1
containers:
  base:
    rootfs: { programs: [/bin/sh, /bin/cat, /bin/mkdir] }
  next:
    rootfs: { snapshot: layer }
steps:
  - { name: write, container: base, run: mkdir /data; echo one > /data/file }
  - { name: layer, container: base, snapshot: { output: out/base.squashfs } }
  - { name: add, container: next, run: cat /data/file; echo two >> /data/file }
  - { name: image, container: next, snapshot: { mode: full, output: out/full.squashfs } }
";

#[test]
fn a_chain_of_two_layers_is_built_and_leaves_nothing() {
    let project = Project::new(MANIFEST);
    let run = project.apply();
    assert!(run.stdout.contains("add   | one"), "{run}");
    assert!(project.path("out/base.squashfs").is_file() && project.path("out/full.squashfs").is_file());
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn the_events_report_the_build_and_the_digest_of_each_image() {
    let project = Project::new(MANIFEST);
    let (events, run) = project.events(&[]);
    assert_eq!(run.code, 0, "{run}");
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("build_started", "build_finished"), "{run}");
    assert_eq!(events[events.len() - 1]["status"], "done");
    assert!(events.iter().all(|event| event["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
    let written: Vec<_> = events.iter().filter(|event| event["event"] == "snapshot_written").collect();
    assert_eq!(written.len(), 2, "{run}");
    for event in written {
        let image = File::open(event["path"].as_str().unwrap()).unwrap();
        assert_eq!(event["digest"], Digest::of_file(&image).unwrap().to_string());
        assert_eq!(event["size"], image.metadata().unwrap().len());
    }
}

also_with_runc! {
    a_chain_of_two_layers_is_built_and_leaves_nothing,
}
