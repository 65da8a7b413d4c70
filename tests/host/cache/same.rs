//! The same inputs have the same keys, wherever and for whichever user they are built; and the other fields of a key.

use std::fs;

use serde_json::{Value, json};

use super::{apply, count, digests, edit, reasons};
use crate::built::{Built, project};
use crate::project::Project;

const MANIFEST: &str = r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
containers:
  one: { rootfs: $TOOLS, mounts: [src, { type: secret, source: key, target: /key }], devices: [/dev/full] }
  two: { rootfs: { snapshot: one-s }, scratch: { disk: true } }
  three: { rootfs: { dir: root } }
steps:
  - { name: one-a, container: one, run: "cp -r /src /copy; echo > /beside" }
  - { name: one-s, container: one, snapshot: { output: one.squashfs } }
  - { name: two-a, container: two, run: "cat /copy/deep/file > /two" }
  - { name: two-s, container: two, snapshot: { mode: full, compression: gzip } }
  - { name: two-b, container: two, run: "ls /", cache: true }
  - { name: three-s, container: three, snapshot: {} }
"#;

fn made() -> Project {
    let project = project(MANIFEST);
    project.write("src/deep/file", "one");
    project.write("src/file", "two");
    project.write("root/file", "three");
    project.write("key", &project.path("").display().to_string());
    project
}

/// Returns the keys in the store, and the digests that the build reported.
fn keys_and_digests(project: &Project, shell: &str) -> (Vec<String>, Vec<String>) {
    let run = project.runner_in_shell(shell, &["apply", "--progress", "json"]);
    assert_eq!(run.code, 0, "{run}");
    let events = run.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let written = events.filter(|event| event["event"] == "snapshot_written");
    let mut digests: Vec<String> = written.map(|event| format!("{} {}", event["step"], event["digest"])).collect();
    let keys = fs::read_dir(project.store().join("keys")).unwrap().flatten();
    let mut keys: Vec<String> = keys.map(|entry| entry.file_name().into_string().unwrap()).collect();
    digests.sort();
    keys.sort();
    assert_eq!((keys.len(), digests.len()), (4, 3), "{run}");
    (keys, digests)
}

#[test]
fn keys_and_digests_do_not_depend_on_directory_store_umask_or_jobs() {
    let expected = keys_and_digests(&made(), r#"exec "$@""#);
    for shell in [r#"umask 077; exec "$@""#, r#"umask 0; exec nice "$@" -j 1"#] {
        assert_eq!(keys_and_digests(&made(), shell), expected, "{shell}");
    }
}

#[test]
fn another_epoch_and_another_image_writer_are_reasons_to_build() {
    let project = project(
        "
source_date_epoch: 1000000000
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: a, run: ':' }
  - { name: s, snapshot: {} }
  - { name: tail, run: ':', cache: true }
",
    );
    apply(&project, &[]);
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    edit(&project, "1000000000", "1000000001");
    let built = apply(&project, &[]);
    let reason =
        json!([{ "kind": "setting_changed", "field": "source_date_epoch", "old": "1000000000", "new": "1000000001" }]);
    assert_eq!((count(&built, "ran"), reasons(&built, "a")), (3, reason));
    let with_mksquashfs = || {
        let mut command = project.command(&["apply", "--progress", "json"]);
        let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("RUNNER_MKSQUASHFS", "1").env("PATH", path);
        let built: Built = crate::built::Running::spawn(command).end();
        assert_eq!(built.run.code, 0, "{}", built.run);
        built
    };
    let reason = &reasons(&with_mksquashfs(), "a")[0];
    assert_eq!((&reason["kind"], &reason["tool"]), (&json!("tool_changed"), &json!("writer")), "{reason}");
    assert!(reason["old"].as_str().unwrap().starts_with("squashfs 3 zstd "), "{reason}");
    // Another file, which writes the same images.
    let script = "#!/bin/sh\ncase $1 in -version) echo 'mksquashfs version 9.9 (2030/01/01)'; exit 0;; esac\n\
                  PATH=${PATH#*:} exec mksquashfs \"$@\"\n";
    project.write("bin/mksquashfs", script);
    assert!(
        std::process::Command::new("chmod").arg("+x").arg(project.path("bin/mksquashfs")).status().unwrap().success()
    );
    let built = with_mksquashfs();
    let reason = &reasons(&built, "a")[0];
    assert_eq!((&reason["kind"], &reason["tool"]), (&json!("tool_changed"), &json!("writer")), "{reason}");
    // By its file: only a run of a program shows its version.
    assert!(
        reason["new"].as_str().unwrap().starts_with("mksquashfs sha256:") && reason["new"] != reason["old"],
        "{reason}"
    );
    assert_eq!(built.status("tail"), "cached", "the same image came out: {}", built.run);
}

#[test]
fn hard_links_in_a_bind_are_hard_links_in_the_image_and_an_input() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS, mounts: [{ type: bind, source: src, target: /src, options: [ro] }] } }
steps:
  - { name: copy, run: "cp -a /src /copy; stat -c %h /copy/a" }
  - { name: layer, snapshot: {} }
"#,
    );
    let [a, z] = ["a", "z"].map(|name| project.path("src").join(name));
    project.write("src/a", "text");
    fs::hard_link(&a, &z).unwrap();
    let linked = apply(&project, &[]);
    assert_eq!(linked.text("copy"), "2\n");
    fs::remove_file(&z).unwrap();
    fs::copy(&a, &z).unwrap();
    let apart = apply(&project, &[]);
    assert_eq!(reasons(&apart, "copy")[0]["files"], json!(["z (links)"]), "{}", apart.run);
    assert_eq!(apart.text("copy"), "1\n");
    assert_ne!(digests(&apart), digests(&linked));
    // A name outside of the bind is in no image.
    fs::hard_link(&a, project.path("outside")).unwrap();
    let built = apply(&project, &[]);
    assert_eq!((count(&built, "ran"), digests(&built)), (0, digests(&apart)));
}
