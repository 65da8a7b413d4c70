//! One change for each field of a key. A container for each change, all in one build.

use std::fs;
use std::os::unix::fs::chown;

use serde_json::json;

use super::case::{
    BIND, Case, below, container, files, image, input, manifest, project, repack, root, set_mode, set_time, setting,
    step, steps,
};
use super::{apply, planned, reasons, statuses};

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
