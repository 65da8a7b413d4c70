//! One change for each setting that is in no key: nothing runs after them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::case::{BIND, Case, RUN, files, manifest, nothing, project, root, set_time};
use super::{apply, planned, statuses};
use crate::built::Built;

const SECRET: &str = "mounts: [{ type: secret, source: in/NAME/file, target: /run/secret }]";
const WRITABLE: &str = "mounts: [{ type: bind, source: in/NAME, target: /in, cache: ignore }]";

fn out_of_the_key() -> Vec<Case> {
    let write = |directory: &Path| fs::write(directory.join("file"), "two").unwrap();
    let null = || Value::Null;
    vec![
        nothing("timeout", ("", "run: ':', timeout: 10s", ""), ("", "run: ':', timeout: 20s", "")),
        nothing("retries", ("", "run: ':'", ""), ("", "run: ':', retries: 2", "")),
        nothing("output", ("", RUN, "output: out/one"), ("", RUN, "output: out/two")),
        nothing("no-output", ("", RUN, "output: out/three"), ("", RUN, "")),
        nothing("scratch", ("scratch: { disk: true }", RUN, ""), ("scratch: { tmpfs: 1GiB }", RUN, "")),
        nothing(
            "defaults",
            ("", "run: 'true'", ""),
            (
                "hostname: defaults, network: none, cwd: /, env: {}, no_new_privileges: true, seccomp: default, read_only: false, xino: true",
                "run: 'true', always: false, env: {}, needs: []",
                "compression: zstd, mode: layer",
            ),
        ),
        nothing(
            "order-of-keys",
            ("cwd: /bin, env: { A: a, B: b }", "run: ':', env: { C: c, D: d }", "mode: full, level: 3"),
            ("env: { B: b, A: a }, cwd: /bin", "env: { D: d, C: c }, run: \":\"", "level: 3, mode: full"),
        ),
        nothing(
            "order-of-mounts",
            ("mounts: [{ type: tmpfs, target: /a }, { type: tmpfs, target: /a/b }]", RUN, ""),
            ("mounts: [{ target: /a/b, type: tmpfs }, { target: /a, type: tmpfs }]", RUN, ""),
        ),
        nothing("named-mount", ("mounts: [{ type: tmpfs, target: /named }]", RUN, ""), ("mounts: [named]", RUN, "")),
        nothing("device-written-out", ("devices: [/dev/full]", RUN, ""), ("devices: [{ path: /dev/full }]", RUN, "")),
        nothing("renamed-before", ("hostname: fixed", RUN, ""), ("hostname: fixed", RUN, "")),
        files("secret", SECRET, write, null()),
        files("ignored-bind", WRITABLE, write, null()),
        files("runnerignore", BIND, |directory| fs::write(directory.join("junk"), "new").unwrap(), null()),
        files(
            "link-elsewhere",
            BIND,
            |directory| fs::hard_link(directory.join("file"), directory.join("junk")).unwrap(),
            null(),
        ),
        files("time-of-epoch", BIND, |directory| set_time(&directory.join("file"), 315_532_800), null()),
        files(
            "mtime",
            BIND,
            |directory| {
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                fs::File::open(directory.join("file")).unwrap().set_modified(time).unwrap();
            },
            null(),
        ),
        files(
            "same-content-anew",
            BIND,
            |directory| {
                fs::remove_file(directory.join("file")).unwrap();
                fs::write(directory.join("file"), "one").unwrap();
            },
            null(),
        ),
        Case {
            reasons: null(),
            ..root("dir-later-time", "rootfs: { dir: in/NAME/root }", |directory| {
                set_time(&directory.join("root/file"), 1 << 30)
            })
        },
        files("cache-mount", "mounts: [{ type: cache, id: shared, target: /var/cache }]", |_| (), null()),
    ]
}

#[test]
fn a_change_outside_the_key_runs_nothing() {
    let cases = out_of_the_key();
    let project = project(&cases);
    let head = "mounts: { named: { type: tmpfs, target: /named } }\n";
    let first = manifest(&cases, false).replacen("containers:", &format!("{head}containers:"), 1);
    project.write("build.yaml", &first);
    let built = apply(&project, &["-j", "4"]);
    assert_eq!(built.events.last().unwrap()["cached"], 0, "{}", statuses(&built));
    let text = manifest(&cases, true).replacen("containers:", &format!("{head}containers:"), 1);
    // Other names of the build and of steps and containers; comments, and another style.
    let text =
        text.replace("name: table", "# a comment\nname: \"another\"").replace("-0, container", "-another, container");
    let text = text.replace("-s, container", "-image, container").replace("renamed-before", "renamed-after");
    project.write("build.yaml", &text.replace("  - {", "\n  -   {"));
    cases.iter().for_each(|case| (case.change)(&project.path(&format!("in/{}", case.name))));
    // The lock files of the caches lie beside the directories.
    let caches = fs::read_dir(project.store().join("cache")).unwrap().flatten().map(|entry| entry.path());
    for cache in caches.filter(|path| path.is_dir()) {
        fs::write(cache.join("left"), "by another build").unwrap();
    }
    let planned = planned(&project);
    let stale: Vec<_> = planned.iter().filter(|(_, fresh, _)| !fresh).collect();
    assert!(stale.is_empty(), "{stale:#?}");
    let built = apply(&project, &[]);
    assert_eq!(built.events.last().unwrap()["ran"], 0, "{}", statuses(&built));
    assert!(project.path("out/two").exists());
    // The whole project in another directory.
    let moved = project.path("moved");
    fs::create_dir(&moved).unwrap();
    let copied = Command::new("cp").args(["-r", "in", "build.yaml", "moved"]).current_dir(project.path("")).status();
    assert!(copied.unwrap().success());
    let built = Built::of(&project, &["moved/build.yaml"]);
    assert_eq!((built.run.code, &built.events.last().unwrap()["ran"]), (0, &0.into()), "{}", built.run);
}
