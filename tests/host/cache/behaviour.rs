//! The results that a build takes from the store, and how it continues above them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use super::{apply, count, digests, edit, planned, reasons, statuses, warnings};
use crate::built::{Built, Running, project};
use crate::project::Project;

/// Two layers in one container, and one in another on them. Each step records in a cache mount that it ran.
const CHAIN: &str = r#"
mounts:
  ran: { type: cache, target: /ran }
containers:
  base: { rootfs: $TOOLS, mounts: [ran] }
  next: { rootfs: { snapshot: base-2 }, mounts: [ran] }
steps:
  - { name: a, container: base, run: "echo a >> /ran/ran; mkdir /data; echo a > /data/a" }
  - { name: base-1, container: base, snapshot: { output: out/base-1.squashfs } }
  - { name: b, container: base, run: "echo b >> /ran/ran; echo b > /data/b; rm /data/a" }
  - { name: base-2, container: base, snapshot: { output: out/base-2.squashfs } }
  - { name: c, container: next, run: "echo c >> /ran/ran; cat /data/b; ls /data" }
  - { name: image, container: next, snapshot: { mode: full, output: out/image.squashfs } }
"#;

/// Returns which steps have run so far, in order.
fn ran(project: &Project) -> String {
    let caches = fs::read_dir(project.store().join("cache")).unwrap().flatten();
    let texts = caches.filter_map(|cache| fs::read_to_string(cache.path().join("ran")).ok());
    texts.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the only layer of a snapshot, in the store.
fn layer(project: &Project, built: &Built, step: &str) -> std::path::PathBuf {
    let digest = digests(built).into_iter().find(|(name, _)| name == step).unwrap().1;
    project.store().join(format!("layers/sha256/{}.squashfs", digest.strip_prefix("sha256:").unwrap()))
}

#[test]
fn a_second_build_runs_and_mounts_nothing_and_restores_changed_outputs() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    assert_eq!((count(&first, "ran"), count(&first, "cached")), (6, 0));
    assert_eq!(reasons(&first, "a"), json!([{ "kind": "never_built" }]));
    let [one, two, image] = ["base-1", "base-2", "image"].map(|name| project.path(&format!("out/{name}.squashfs")));
    let before = fs::metadata(&one).unwrap();
    fs::remove_file(&two).unwrap();
    let right = fs::read(&image).unwrap();
    let mut wrong = right.clone();
    *wrong.last_mut().unwrap() ^= 1;
    fs::write(&image, wrong).unwrap();
    let trace = project.path("trace");
    let strace = format!("exec strace -f -qq -o {} -e trace=mount,fsmount,execve,clone,clone3 \"$@\"", trace.display());
    let run = project.runner_in_shell(&strace, &["apply", "--progress", "json"]);
    assert_eq!(run.code, 0, "{run}");
    let finished: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&finished["ran"], &finished["cached"]), (&json!(0), &json!(6)), "{run}");
    let trace = fs::read_to_string(trace).unwrap();
    // An external runtime may be asked for its version.
    let is_program = |line: &&str| line.contains("execve(") && !line.contains("--version");
    let programs: Vec<&str> = trace.lines().filter(is_program).collect();
    assert_eq!(programs.len(), 1, "{programs:#?}");
    for filesystem in ["squashfs", "overlay"] {
        assert!(!trace.contains(filesystem), "{trace}");
    }
    let after = fs::metadata(&one).unwrap();
    assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
    assert_eq!(fs::read(&image).unwrap(), right);
    assert!(two.exists());
    assert_eq!(ran(&project), "a b c");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let planned = planned(&project);
    assert!(planned.iter().all(|(_, fresh, reasons)| *fresh && *reasons == json!([])), "{planned:?}");
}

#[test]
fn a_build_continues_from_the_highest_stored_layer() {
    let project = project(CHAIN);
    apply(&project, &[]);
    edit(&project, "ls /data", "ls -a /data");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=cached b=cached base-1=cached base-2=cached c=ran image=ran");
    assert_eq!(built.text("c"), "b\n.\n..\nb\n");
    edit(&project, "echo b > /data/b", "echo new > /data/b");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=cached b=ran base-1=cached base-2=ran c=ran image=ran");
    assert_eq!(built.text("c"), "new\n.\n..\nb\n");
    assert_eq!(reasons(&built, "c"), json!([{ "kind": "below_changed", "what": "base-2" }]));
    // A layer of an earlier build is taken from the store again, and the next change is compared with it.
    edit(&project, "echo new > /data/b", "echo b > /data/b");
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    edit(&project, "echo b > /data/b", "echo newer > /data/b");
    let built = apply(&project, &[]);
    let reason = &reasons(&built, "b")[0];
    let old = reason["old"].as_str().unwrap();
    assert!(old.contains("echo b > /data/b"), "{reason}");
}

#[test]
fn layers_above_a_rebuilt_layer_with_the_same_digest_stay_cached() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    edit(&project, "mkdir /data; echo a", "mkdir -p /data; echo a");
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=ran b=cached base-1=ran base-2=cached c=cached image=cached");
    assert_eq!(digests(&built), digests(&first));
}

#[test]
fn a_failed_step_is_not_cached_and_the_layers_before_it_are() {
    let project = project(CHAIN);
    edit(&project, "ls /data", "ls /data; exit 7");
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!(statuses(&built), "a=ran b=ran base-1=ran base-2=ran c=failed image=skipped");
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!(statuses(&built), "a=cached b=cached base-1=cached base-2=cached c=failed image=skipped");
    edit(&project, "; exit 7", "");
    assert_eq!(statuses(&apply(&project, &[])), "a=cached b=cached base-1=cached base-2=cached c=ran image=ran");
    assert_eq!(ran(&project), "a b c c c");
}

#[test]
fn always_and_no_cache_run_steps_and_refresh_the_stored_records() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    let record = || {
        let mut times: Vec<_> = fs::read_dir(project.store().join("keys"))
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().ino()))
            .collect();
        times.sort();
        times
    };
    let before = record();
    let built = apply(&project, &["--no-cache"]);
    assert_eq!((count(&built, "ran"), count(&built, "cached")), (6, 0));
    assert_eq!(reasons(&built, "b")[0], json!({ "kind": "no_cache" }));
    assert_eq!(digests(&built), digests(&first));
    let after = record();
    assert_eq!(after.len(), 3);
    assert!(before.iter().zip(&after).all(|(a, b)| a.0 == b.0 && a.1 != b.1), "{before:?} {after:?}");
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    edit(&project, "name: b, container", "name: b, always: true, container");
    let always = json!([{ "kind": "always", "step": "b" }]);
    for _ in 0..2 {
        let (_, fresh, why) = planned(&project).into_iter().find(|(step, ..)| step == "b").unwrap();
        assert_eq!((fresh, why), (false, always.clone()));
        let built = apply(&project, &[]);
        assert_eq!(statuses(&built), "a=cached b=ran base-1=cached base-2=ran c=cached image=cached");
        assert_eq!(reasons(&built, "b"), always);
    }
}

#[test]
fn a_build_of_a_target_checks_only_the_steps_that_it_needs() {
    let project = project(CHAIN);
    assert_eq!(statuses(&apply(&project, &["--target", "base-1"])), "a=ran base-1=ran");
    let built = apply(&project, &["--target", "base-2"]);
    assert_eq!(statuses(&built), "a=cached b=ran base-1=cached base-2=ran");
    assert_eq!(count(&apply(&project, &["--target", "b"]), "ran"), 1, "no snapshot keeps what b does alone");
    let run = project.runner(&["run", "next", "--", "/bin/cat", "/data/b"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "b\n"), "{run}");
    assert_eq!(ran(&project), "a b b");
    assert_eq!(statuses(&apply(&project, &[])), "a=cached b=cached base-1=cached base-2=cached c=ran image=ran");
}

#[test]
fn a_missing_or_damaged_layer_is_built_again() {
    let project = project(CHAIN);
    let first = apply(&project, &[]);
    let layer = layer(&project, &first, "base-2");
    let right = fs::read(&layer).unwrap();
    fs::remove_file(&layer).unwrap();
    let collected = json!([{ "kind": "collected" }]);
    assert_eq!(planned(&project)[2].2, collected);
    let built = apply(&project, &[]);
    assert_eq!(statuses(&built), "a=cached b=ran base-1=cached base-2=ran c=cached image=cached");
    assert_eq!(reasons(&built, "b"), collected);
    let mut start = right.clone();
    start[..8].fill(0);
    for (n, damaged) in [&right[..right.len() - 1], &start[..], b""].into_iter().enumerate() {
        fs::remove_file(&layer).unwrap();
        fs::write(&layer, damaged).unwrap();
        assert_eq!(planned(&project)[2].2[0]["kind"], "damaged", "{n}");
        let built = apply(&project, &[]);
        assert_eq!(statuses(&built), "a=cached b=ran base-1=cached base-2=ran c=cached image=cached", "{n}");
        assert_eq!(reasons(&built, "b")[0]["kind"], "damaged", "{n}");
        let [warning] = &warnings(&built)[..] else { panic!("{n}: {:?}", warnings(&built)) };
        assert!(warning.contains("set aside and built again"), "{warning}");
        assert_eq!(fs::read(&layer).unwrap(), right);
        let aside = project.store().join("damaged").join(layer.file_name().unwrap());
        assert_eq!(fs::read(aside).unwrap(), damaged);
        assert_eq!(count(&apply(&project, &[]), "ran"), 0);
    }
    // The output is restored from the store, whatever file is in its place.
    assert_eq!(fs::read(project.path("out/base-2.squashfs")).unwrap(), right);
}

#[test]
fn a_layer_with_a_damaged_record_is_built_again() {
    let project = project(CHAIN);
    apply(&project, &[]);
    for entry in fs::read_dir(project.store().join("keys")).unwrap().flatten() {
        let text = fs::read(entry.path()).unwrap();
        fs::write(entry.path(), &text[..text.len() / 2]).unwrap();
    }
    let built = apply(&project, &[]);
    assert_eq!(count(&built, "ran"), 6);
    assert_eq!(reasons(&built, "a"), json!([{ "kind": "collected" }]));
    assert_eq!(count(&apply(&project, &[]), "ran"), 0);
}

#[test]
fn layers_of_a_chain_from_the_store_come_back_in_their_order() {
    let project = project(
        r#"
containers:
  one: { rootfs: $TOOLS }
  two: { rootfs: { snapshot: one-2 } }
  three: { rootfs: { snapshot: two-2 } }
steps:
  - { name: one-a, container: one, run: "mkdir /d; echo 1 > /d/file; echo 1 > /d/gone; echo 1 > /d/one" }
  - { name: one-1, container: one, snapshot: {} }
  - { name: one-b, container: one, run: "echo 2 > /d/file; rm /d/gone" }
  - { name: one-2, container: one, snapshot: { mode: full } }
  - { name: two-a, container: two, run: "echo 3 > /d/file; echo 3 > /d/two; rm /d/one" }
  - { name: two-1, container: two, snapshot: {} }
  - { name: two-b, container: two, run: "echo 4 > /d/file; mkdir /d/gone; rm -r /d/two; mkdir /d/two; echo 4 > /d/two/in" }
  - { name: two-2, container: two, snapshot: {} }
  - { name: three-a, container: three, run: "echo 5 >> /d/file" }
  - { name: three-1, container: three, snapshot: {} }
  - { name: look, container: three, run: "cd /d; grep -r '' .; ls" }
"#,
    );
    let first = apply(&project, &[]);
    let expected = first.text("look");
    let mut lines: Vec<&str> = expected.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["./file:4", "./file:5", "./two/in:4", "file", "gone", "two"]);
    let built = apply(&project, &[]);
    assert_eq!((count(&built, "ran"), built.text("look")), (1, expected.clone()));
    assert_eq!(reasons(&built, "look"), json!([{ "kind": "not_kept" }]));
    edit(&project, "echo 5 >> /d/file", "echo 5 >> /d/file; true");
    let built = apply(&project, &[]);
    assert_eq!((count(&built, "ran"), built.text("look")), (3, expected));
    assert_eq!(digests(&built), digests(&first));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

/// Without the store no key needs the digest of the image. This image is only written when the step above it has run.
#[test]
fn a_build_without_cache_starts_a_step_before_the_image_below_it_is_written() {
    let project = project(
        "
mounts: { way: { type: bind, source: way, target: /way, cache: ignore } }
containers:
  base: { rootfs: $TOOLS }
  above: { rootfs: { snapshot: layer }, mounts: [way] }
steps:
  - { name: fill, container: base, run: echo text > /data }
  - { name: layer, container: base, snapshot: {} }
  - { name: next, container: above, run: touch /way/next }
  - { name: image, container: above, snapshot: {} }
",
    );
    fs::create_dir(project.path("way")).unwrap();
    assert_eq!(Built::of(&project, &[]).run.code, 0);
    fs::remove_file(project.path("way/next")).unwrap();
    let way = project.path("way").display().to_string();
    project.write(
        "bin/mksquashfs",
        &format!("#!/bin/sh\nuntil [ -e {way}/next ]; do sleep 0.02; done\nPATH=${{PATH#*:}} exec mksquashfs \"$@\"\n"),
    );
    fs::set_permissions(project.path("bin/mksquashfs"), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = project.command(&["apply", "--progress", "json", "--no-cache"]);
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let built = Running::spawn({
        command.env("RUNNER_MKSQUASHFS", "1").env("PATH", path);
        command
    })
    .end();
    assert_eq!((built.run.code, built.status("next")), (0, "ran"), "{}", built.run);
}

#[test]
fn the_last_build_of_another_project_gives_no_reasons() {
    let manifest = |word: &str| {
        format!(
            "name: sdk\ncontainers: {{ c: {{ rootfs: $TOOLS }} }}\nsteps:\n  - {{ name: make, run: \"echo {word} > /file\" }}\n  \
             - {{ name: layer, snapshot: {{}} }}\n"
        )
    };
    let project = project(&manifest("one"));
    let of_another = self::project(&manifest("two"));
    std::fs::create_dir(project.path("another")).unwrap();
    std::fs::copy(of_another.path("build.yaml"), project.path("another/build.yaml")).unwrap();
    project.apply();
    let plan = |arguments: &[&str]| project.runner(&[&["plan"], arguments].concat());
    let another = plan(&["another/build.yaml"]);
    assert!(another.stdout.contains("never built") && !another.stdout.contains("changed"), "{another}");
    assert_eq!(project.runner(&["apply", "another/build.yaml"]).code, 0);
    // Each project has a last build of its own.
    project.write("build.yaml", &std::fs::read_to_string(project.path("build.yaml")).unwrap().replace("one", "three"));
    let own = plan(&[]);
    assert!(own.stdout.contains("echo one > /file") && own.stdout.contains("echo three > /file"), "{own}");
    // By another spelling of its path it is the same project.
    std::os::unix::fs::symlink("build.yaml", project.path("link.yaml")).unwrap();
    let by_link = plan(&["link.yaml"]);
    assert!(by_link.stdout.contains("echo one > /file"), "{by_link}");
}

also_with_runc! {
    a_second_build_runs_and_mounts_nothing_and_restores_changed_outputs,
}
