//! One change for each field of a key, and for each setting that is in none. A container for each change, all in one build.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{apply, planned, reasons, statuses};
use crate::built::Built;
use crate::project::Project;

/// A container before and after a change, and the reason for which its steps then run.
struct Case {
    name: &'static str,
    /// Keys of the container, and its steps but the snapshot, `;` between them.
    before: (&'static str, &'static str, &'static str),
    after: (&'static str, &'static str, &'static str),
    /// The change of the files of `in/NAME/`.
    change: fn(&Path),
    reasons: Value,
}

const ROOT: &str = "rootfs: { programs: [/bin/sh] }";
const RUN: &str = "run: ':'";
const BIND: &str = "mounts: [{ type: bind, source: in/NAME, target: /in, options: [ro] }]";

/// Returns a change of the container's keys.
fn container(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: (before, RUN, ""), after: (after, RUN, ""), change: |_| (), reasons }
}

/// Returns a change of the steps.
fn steps(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: ("", before, ""), after: ("", after, ""), change: |_| (), reasons }
}

/// Returns a change of the snapshot.
fn image(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: ("", RUN, before), after: ("", RUN, after), change: |_| (), reasons }
}

/// Returns a change of host files, which a bind or the root shows.
fn files(name: &'static str, keys: &'static str, change: fn(&Path), reasons: Value) -> Case {
    Case { name, before: (keys, RUN, ""), after: (keys, RUN, ""), change, reasons }
}

/// Returns a change of the root, in which nothing can run.
fn root(name: &'static str, keys: &'static str, change: fn(&Path)) -> Case {
    Case { name, before: (keys, "", ""), after: (keys, "", ""), change, reasons: below(name) }
}

/// Returns a change that no key contains.
fn nothing(
    name: &'static str,
    before: (&'static str, &'static str, &'static str),
    after: (&'static str, &'static str, &'static str),
) -> Case {
    Case { name, before, after, change: |_| (), reasons: Value::Null }
}

/// Returns the reason that a field of the container, the snapshot or the build has changed.
fn setting(field: &str, old: impl Into<Option<&'static str>>, new: impl Into<Option<&'static str>>) -> Value {
    json!([{ "kind": "setting_changed", "field": field, "old": old.into(), "new": new.into() }])
}

/// Returns the reason that a field of the first step has changed.
fn step(step: &str, field: &str, old: Option<&str>, new: Option<&str>) -> Value {
    json!({ "kind": "step_changed", "step": step, "field": field, "old": old, "new": new })
}

fn input(files: &[&str], more: u64) -> Value {
    json!([{ "kind": "input_changed", "target": "/in", "files": files, "more": more }])
}

fn below(name: &str) -> Value {
    json!([{ "kind": "below_changed", "what": format!("the rootfs of {name}") }])
}

/// Returns the steps of a container, as the manifest has them, and its snapshot.
fn written(case: &Case, (keys, steps, snapshot): (&str, &str, &str)) -> (String, String) {
    let Case { name, .. } = case;
    let root = if keys.contains("rootfs:") { String::new() } else { format!("{ROOT}, ") };
    let container = format!("  {name}: {{ {root}{} }}\n", keys.replace("NAME", name));
    let mut list = String::new();
    for (n, step) in steps.split(";; ").filter(|step| !step.is_empty()).enumerate() {
        list.push_str(&format!("  - {{ name: {name}-{n}, container: {name}, {} }}\n", step.replace("NAME", name)));
    }
    list.push_str(&format!("  - {{ name: {name}-s, container: {name}, snapshot: {{ {snapshot} }} }}\n"));
    (container, list)
}

fn manifest(cases: &[Case], after: bool) -> String {
    let (mut containers, mut steps) = (String::new(), String::new());
    for case in cases {
        let (container, list) = written(case, if after { case.after } else { case.before });
        containers.push_str(&container);
        steps.push_str(&list);
    }
    format!("version: 1\nname: table\ncontainers:\n{containers}steps:\n{steps}")
}

/// Returns a project with the files of the host that the cases read.
fn project(cases: &[Case]) -> Project {
    let project = Project::new(&manifest(cases, false));
    for Case { name, .. } in cases {
        project.write(&format!("in/{name}/file"), "one");
        project.write(&format!("in/{name}/root/file"), "one");
        project.write(&format!("in/{name}/root/again"), "one");
        project.write(&format!("in/{name}/.runnerignore"), "/junk\n");
        let (directory, root) = (project.path(&format!("in/{name}")), project.path(&format!("in/{name}/root")));
        pack(&root, &directory);
    }
    project
}

/// Writes the tree as an archive and as an image beside it.
fn pack(root: &Path, directory: &Path) {
    let script = "tar -C \"$1\" -cf \"$2/root.tar\" . && \
         mksquashfs \"$1\" \"$2/root.squashfs\" -quiet -no-progress -noappend -all-time 0 -mkfs-time 0 > /dev/null";
    let done = Command::new("sh").args(["-ec", script, "sh"]).args([root, directory]).status().unwrap();
    assert!(done.success());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn set_time(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn repack(directory: &Path) {
    fs::write(directory.join("root/file"), "two").unwrap();
    pack(&directory.join("root"), directory);
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn in_the_key() -> Vec<Case> {
    vec![
        steps(
            "script",
            "run: 'true'",
            "run: 'true; true'",
            json!([step("script-0", "run", Some("true"), Some("true; true"))]),
        ),
        steps(
            "argv",
            "exec: [/bin/sh, -c, ':', 'a b']",
            "exec: [/bin/sh, -c, ':', a, b]",
            json!([step("argv-0", "exec", Some(r#""/bin/sh" "-c" ":" "a b""#), Some(r#""/bin/sh" "-c" ":" "a" "b""#))]),
        ),
        steps(
            "action",
            "run: ':'",
            "exec: [/bin/sh, -c, ':']",
            json!([
                step("action-0", "exec", None, Some(r#""/bin/sh" "-c" ":""#)),
                step("action-0", "run", Some(":"), None),
            ]),
        ),
        steps(
            "step-env",
            "run: ':', env: { A: one, B: kept, C: gone }",
            "run: ':', env: { A: two, B: kept, D: new }",
            json!([
                step("step-env-0", "env/A", Some("one"), Some("two")),
                step("step-env-0", "env/C", Some("gone"), None),
                step("step-env-0", "env/D", None, Some("new")),
            ]),
        ),
        steps("step-cwd", "run: ':'", "run: ':', cwd: /bin", json!([step("step-cwd-0", "cwd", None, Some("/bin"))])),
        steps(
            "step-user",
            "run: ':', user: '1:2'",
            "run: ':', user: '1:3'",
            json!([step("step-user-0", "user", Some("1:2"), Some("1:3"))]),
        ),
        steps(
            "step-order",
            "run: a=1;; run: b=1",
            "run: b=1;; run: a=1",
            json!([
                step("step-order-0", "run", Some("a=1"), Some("b=1")),
                step("step-order-1", "run", Some("b=1"), Some("a=1")),
            ]),
        ),
        steps("step-new", "run: a=1", "run: a=1;; run: b=1", json!([step("step-new-1", "run", None, Some("b=1"))])),
        steps(
            "step-needs",
            "run: a=1;; run: b=1;; run: c=1",
            "run: a=1;; run: b=1;; run: c=1, needs: [NAME-0, NAME-1]",
            json!([step("step-needs-2", "after", None, Some("0 1"))]),
        ),
        container("env", "env: { A: one, B: b }", "env: { A: two, B: b }", setting("env/A", "one", "two")),
        container("cwd", "cwd: /", "cwd: /bin", setting("cwd", "/", "/bin")),
        container("user", "user: '0:0'", "user: '7:0'", setting("user", "0:0", "7:0")),
        container("hostname", "hostname: one", "hostname: two", setting("hostname", "one", "two")),
        container("network", "network: none", "network: host", setting("network", "none", "host")),
        container(
            "capabilities",
            "capabilities: { drop: [AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FSETID, FOWNER, SETGID, SETUID, SETPCAP, KILL] }",
            "capabilities: { add: [SYS_PTRACE], drop: [AUDIT_WRITE, CHOWN, DAC_OVERRIDE, FSETID, FOWNER, SETGID, SETUID, SETPCAP, KILL] }",
            setting("capabilities", "MKNOD SETFCAP SYS_CHROOT", "MKNOD SETFCAP SYS_CHROOT SYS_PTRACE"),
        ),
        container(
            "no-new-privileges",
            "no_new_privileges: true",
            "no_new_privileges: false",
            setting("no_new_privileges", "true", "false"),
        ),
        container("xino", "", "xino: false", setting("xino", "true", "false")),
        container(
            "seccomp",
            "",
            "seccomp: unconfined",
            setting(
                "seccomp",
                "default sha256:bfdab6255e16c9444368185ea28c0a6fedbf06f1c63e8fb381c7249d25d7e69b",
                "unconfined",
            ),
        ),
        container(
            "nofile",
            "limits: { nofile: 100 }",
            "limits: { nofile: 101 }",
            setting("limits/nofile", "100", "101"),
        ),
        container("memory", "", "limits: { memory: 1GiB }", setting("limits/memory", None, "1073741824")),
        container("cpus", "limits: { cpus: 1 }", "limits: { cpus: 1.5 }", setting("limits/millicpus", "1000", "1500")),
        container("pids", "limits: { pids: 90 }", "", setting("limits/pids", "90", "32768")),
        container(
            "mount-target",
            "mounts: [{ type: tmpfs, target: /a }]",
            "mounts: [{ type: tmpfs, target: /b }]",
            json!([
                { "kind": "setting_changed", "field": "mount//a", "old": "tmpfs ", "new": null },
                { "kind": "setting_changed", "field": "mount//b", "old": null, "new": "tmpfs " },
            ]),
        ),
        container(
            "mount-option",
            "mounts: [{ type: tmpfs, target: /a, options: [nodev] }]",
            "mounts: [{ type: tmpfs, target: /a, options: [nodev, noexec] }]",
            setting("mount//a", r#"tmpfs "nodev""#, r#"tmpfs "nodev" "noexec""#),
        ),
        container(
            "mount-type",
            "mounts: [{ type: tmpfs, target: /a }]",
            "mounts: [{ type: cache, target: /a }]",
            setting("mount//a", "tmpfs ", r#"cache "/a" "#),
        ),
        container(
            "cache-id",
            "mounts: [{ type: cache, target: /a, id: one }]",
            "mounts: [{ type: cache, target: /a, id: two }]",
            setting("mount//a", r#"cache "one" "#, r#"cache "two" "#),
        ),
        container(
            "bind-new",
            "",
            "mounts: [{ type: bind, source: in/NAME, target: /in, options: [ro] }]",
            setting("mount//in", None, r#"bind "ro""#),
        ),
        container(
            "bind-ignored",
            BIND,
            "mounts: [{ type: bind, source: in/NAME, target: /in, options: [ro], cache: ignore }]",
            setting("mount//in", r#"bind "ro""#, r#"bind ignored "ro""#),
        ),
        container(
            "device-access",
            "devices: [{ path: /dev/full, access: r }]",
            "devices: [{ path: /dev/full, access: rw }]",
            setting("device//dev/full", "/dev/full r", "/dev/full rw"),
        ),
        container(
            "device-mode",
            "devices: [{ path: /dev/full, access: r, mode: '0600', uid: 1 }]",
            "devices: [{ path: /dev/full, access: r, mode: '0640', uid: 1 }]",
            setting("device//dev/full", "/dev/full r uid=1 mode=0600", "/dev/full r uid=1 mode=0640"),
        ),
        container(
            "programs",
            "rootfs: { programs: [/bin/sh] }",
            "rootfs: { programs: [/bin/sh, /bin/true] }",
            below("programs"),
        ),
        files(
            "content",
            BIND,
            |directory| fs::write(directory.join("file"), "two").unwrap(),
            input(&["file (content)"], 0),
        ),
        files("mode", BIND, |directory| set_mode(&directory.join("file"), 0o600), input(&["file (mode)"], 0)),
        files(
            "owner",
            BIND,
            |directory| chown(directory.join("file"), Some(70_000), None).unwrap(),
            input(&["file (owner)"], 0),
        ),
        files(
            "many-files",
            BIND,
            |directory| (10..25).for_each(|n| fs::write(directory.join(format!("new-{n}")), "").unwrap()),
            input(
                &[
                    "new-10 (added)",
                    "new-11 (added)",
                    "new-12 (added)",
                    "new-13 (added)",
                    "new-14 (added)",
                    "new-15 (added)",
                    "new-16 (added)",
                    "new-17 (added)",
                    "new-18 (added)",
                    "new-19 (added)",
                ],
                5,
            ),
        ),
        // A layer contains both where a step copies them.
        files(
            "time-before-epoch",
            BIND,
            |directory| set_time(&directory.join("file"), 315_532_799),
            input(&["file (time)"], 0),
        ),
        files(
            "link",
            BIND,
            |directory| {
                fs::remove_file(directory.join("root/again")).unwrap();
                fs::hard_link(directory.join("root/file"), directory.join("root/again")).unwrap();
            },
            input(&["root/file (links)"], 0),
        ),
        files(
            "removed",
            BIND,
            |directory| fs::remove_file(directory.join("file")).unwrap(),
            input(&["file (removed)"], 0),
        ),
        root("tar", "rootfs: { tar: in/NAME/root.tar }", repack),
        root("squashfs", "rootfs: { squashfs: in/NAME/root.squashfs }", repack),
        root("dir", "rootfs: { dir: in/NAME/root }", repack),
        root("dir-mode", "rootfs: { dir: in/NAME/root }", |directory| set_mode(&directory.join("root/file"), 0o600)),
        // A time before the epoch is in an image.
        root("dir-time", "rootfs: { dir: in/NAME/root }", |directory| set_time(&directory.join("root/file"), 1000)),
        root("dir-link", "rootfs: { dir: in/NAME/root }", |directory| {
            fs::remove_file(directory.join("root/again")).unwrap();
            fs::hard_link(directory.join("root/file"), directory.join("root/again")).unwrap();
        }),
        image("snapshot-mode", "mode: layer", "mode: full", setting("snapshot", "layer zstd", "full zstd")),
        image("compression", "compression: zstd", "compression: gzip", setting("snapshot", "layer zstd", "layer gzip")),
        image("level", "level: 2", "level: 4", setting("snapshot", "layer zstd 2", "layer zstd 4")),
    ]
}

#[test]
fn a_change_of_each_field_of_the_key_runs_its_steps_for_that_reason() {
    let cases = in_the_key();
    let project = project(&cases);
    apply(&project, &["-j", "4"]);
    let again = apply(&project, &[]);
    assert_eq!(again.events.last().unwrap()["ran"], 0, "{}", again.run);
    project.write("build.yaml", &manifest(&cases, true));
    cases.iter().for_each(|case| (case.change)(&project.path(&format!("in/{}", case.name))));
    let planned = planned(&project);
    let built = apply(&project, &["-j", "4"]);
    let mut wrong = Vec::new();
    for Case { name, reasons: expected, .. } in &cases {
        let step = format!("{name}-s");
        let (_, fresh, plan) = planned.iter().find(|(planned, ..)| *planned == step).unwrap();
        let reported = reasons(&built, &step);
        if *fresh || plan != expected || reported != *expected {
            wrong.push(format!("{name}\n wanted  {expected}\n planned {fresh} {plan}\n applied {reported}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(built.events.last().unwrap()["cached"], 0, "{}", statuses(&built));
}

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
