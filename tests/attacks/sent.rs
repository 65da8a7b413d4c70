//! Ways to the store below a bind, and to the mounts that the host has there: by a directory or a mount namespace that another
//! step sends, and in a namespace of a step's own.

use std::fs;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C3",
        name: "store-moved-by-descriptor",
        summary: "sends a bind with the store to another container, which renames a directory above it",
        run: |lab| store_moved(lab, ""),
    },
    Attack {
        row: "C3",
        name: "store-moved-by-unconfined",
        summary: "the same where the other container is unconfined, or may mount",
        run: |lab| {
            store_moved(lab, "seccomp: unconfined")?;
            store_moved(lab, "capabilities: { add: [SYS_ADMIN] }")
        },
    },
    Attack {
        row: "C3",
        name: "store-uncovered-in-sent-namespace",
        summary: "sends its mount namespace to a container that may unmount in it",
        run: store_uncovered,
    },
    Attack {
        row: "C3",
        name: "store-moved-from-own-namespace",
        summary: "renames above the store from a namespace of its own without the mounts",
        run: store_moved_alone,
    },
    Attack {
        row: "C4",
        name: "mounts-of-the-host-by-descriptor",
        summary: "sends a bind to another container, which renames the place of a mount of the host below it",
        run: host_mount_moved,
    },
    Attack {
        row: "contained",
        name: "directory-sent-to-a-step",
        summary: "sends /proc and a bind with the store below to another step, and ends",
        run: sent_to_a_step,
    },
];

const STORE: &str = "deep/store";

/// Builds with the store below the directory of the manifest; an earlier build has used it, so that the store is complete.
fn apply_with_store_below(project: &Project) -> Result<Build, crate::attack::Failure> {
    let mut command = project.command(&["apply", "--progress", "json", "--keep-going", "-j", "2"]);
    command.env("RUNNER_STORE", project.path(STORE));
    project.run(command)
}

/// Nothing of the store was seen or changed: the build was refused, or the attack ran without effect.
fn judge(project: &Project, build: &Build, step: &str, is_refused: bool) -> Verdict {
    build.did_not_hang()?;
    build.without(step, &["RENAMED", "PLANTED", "SEEN", "STAYS"])?;
    let planted = [STORE, "gate/deep/store"].map(|store| project.path(store).join("planted"));
    safe(!planted.iter().any(|path| path.exists()), "a step wrote to the store")?;
    if is_refused {
        let words = build.stderr.contains("contains the store") && build.stderr.contains("--store DIRECTORY");
        return tried(build.code == 2 && words, build.to_string());
    }
    build.tried(step, "TRYING")
}

/// Container `a` has the store in a bind, `b` has the bind through which it is sent a descriptor of it.
fn two(lab: &Lab, option: &str, b: &str, send: &str, receive: &str) -> Project {
    let project = lab.project(&format!(
        "
mounts:
  src: {{ type: bind, source: ., target: /src, options: [{option}], cache: ignore }}
  gate: {{ type: bind, source: gate, target: /gate, cache: ignore }}
containers:
  a: {{ rootfs: $BASE, mounts: [src, gate] }}
  b: {{ rootfs: $BASE, mounts: [gate], {b} }}
steps:
  - {{ name: a, container: a, needs: [], exec: [/probe, send, /gate/socket, {send}] }}
  - {{ name: b, container: b, needs: [], run: '{receive}' }}
"
    ));
    fs::create_dir(project.path("gate")).unwrap();
    project
}

fn store_moved(lab: &Lab, b: &str) -> Verdict {
    for option in ["", "ro"] {
        let receive = "/probe receive-and-rename /gate/socket deep gate/deep store/planted";
        let project = two(lab, option, b, "/src", receive);
        let build = apply_with_store_below(&project)?;
        let is_refused = !b.is_empty() || lab.runtime != "embedded" && option.is_empty();
        judge(&project, &build, "b", is_refused)?;
    }
    Ok(())
}

fn store_uncovered(lab: &Lab) -> Verdict {
    for option in ["", "ro"] {
        for (b, is_refused) in [("capabilities: { add: [SYS_ADMIN] }", true), ("network: none", false)] {
            let receive = "/probe receive-and-unmount /gate/socket /src/deep/store";
            let project = two(lab, option, b, "/proc/self/ns/mnt", receive);
            let build = apply_with_store_below(&project)?;
            judge(&project, &build, "b", is_refused || lab.runtime != "embedded" && option.is_empty())?;
        }
    }
    Ok(())
}

fn store_moved_alone(lab: &Lab) -> Verdict {
    for (options, is_refused) in [("seccomp: unconfined", true), ("network: none", false)] {
        let project = lab.project(&format!(
            "
mounts:
  src: {{ type: bind, source: ., target: /src, cache: ignore }}
  gate: {{ type: bind, source: gate, target: /gate, cache: ignore }}
containers: {{ c: {{ rootfs: $BASE, mounts: [src, gate], {options} }} }}
steps:
  - {{ name: s, run: 'echo TRYING; /probe leave-and-rename /src deep gate/deep store/planted' }}
"
        ));
        fs::create_dir(project.path("gate")).unwrap();
        let build = apply_with_store_below(&project)?;
        judge(&project, &build, "s", is_refused || lab.runtime != "embedded")?;
    }
    Ok(())
}

/// Builds in a mount namespace that stands for the host's, with a mount at `host/disk`; returns whether the mount exists
/// afterwards.
fn with_host_mount(project: &Project) -> Result<(Build, bool), crate::attack::Failure> {
    fs::create_dir_all(project.path("host/disk")).unwrap();
    fs::create_dir_all(project.path("gate")).unwrap();
    let _ = fs::remove_file(project.path("mounted"));
    let script = "mount -t tmpfs of-the-host host/disk; touch host/disk/mark; \"$@\"; code=$?; [ -e host/disk/mark ] && touch mounted; exit $code";
    let script = format!("exec unshare --mount --propagation private bash -c '{script}' bash \"$@\"");
    let arguments = ["apply", "--progress", "json", "--keep-going", "-j", "2"];
    let build = project.run(project.command_in_bash(&script, &arguments))?;
    build.did_not_hang()?;
    let is_mounted = project.path("mounted").exists();
    Ok((build, is_mounted))
}

fn host_mount_moved(lab: &Lab) -> Verdict {
    // Where the bind is written to; where it is not; where the other container has only a copy without the mount.
    for (option, b) in [("", "gate"), ("ro", "gate"), ("", "gate, again")] {
        let project = lab.project(&format!(
            "
mounts:
  src: {{ type: bind, source: host, target: /src, options: [{option}], cache: ignore }}
  again: {{ type: bind, source: host, target: /again, options: [bind, ro], cache: ignore }}
  gate: {{ type: bind, source: gate, target: /gate, cache: ignore }}
containers:
  a: {{ rootfs: $BASE, mounts: [src, gate] }}
  b: {{ rootfs: $BASE, mounts: [{b}] }}
steps:
  - {{ name: a, container: a, needs: [], exec: [/probe, send, /gate/socket, /src] }}
  - {{ name: b, container: b, needs: [], exec: [/probe, receive-and-rename, /gate/socket, disk, moved, ''] }}
"
        ));
        let (build, is_mounted) = with_host_mount(&project)?;
        safe(is_mounted, format!("what the host had mounted is gone: {build}"))?;
        if lab.runtime != "embedded" && (option, b) == ("", "gate") {
            let words = build.stderr.contains("is mounted below it") && build.stderr.contains("options: [ro]");
            tried(build.code == 2 && words, build.to_string())?;
        } else {
            build.tried("b", "TRYING")?;
        }
    }
    Ok(())
}

/// When the mounts of a step are taken down, a directory of it that is open elsewhere loses the mounts on it: those that hide
/// files of /proc and the store.
fn sent_to_a_step(lab: &Lab) -> Verdict {
    // With an external runtime a bind that contains the store must be read-only.
    let option = if lab.runtime == "embedded" { "rw" } else { "ro" };
    let project = lab.project(
        &"
mounts:
  shared: { type: bind, source: shared, target: /shared }
  whole: { type: bind, source: ., target: /whole, options: [OPTION] }
containers:
  a: { rootfs: $BASE, mounts: [shared] }
  b: { rootfs: $BASE, mounts: [shared, whole] }
steps:
  - { name: same, container: a, needs: [], exec: [/probe, receive, /shared/1, keys, sys/kernel/core_pattern] }
  - { name: send-same, container: a, needs: [], exec: [/probe, send, /shared/1, /proc] }
  - { name: other, container: a, needs: [], exec: [/probe, receive, /shared/2, keys, sys/kernel/core_pattern] }
  - { name: send-other, container: b, needs: [], exec: [/probe, send, /shared/2, /proc] }
  - { name: store, container: a, needs: [], exec: [/probe, receive, /shared/3, store] }
  - { name: send-store, container: b, needs: [], exec: [/probe, send, /shared/3, /whole] }
"
        .replace("OPTION", option),
    );
    fs::create_dir(project.path("shared")).unwrap();
    let build = project.apply(&["-j", "6"])?;
    for step in ["same", "other", "store"] {
        build.tried(step, "TRYING")?;
        build.without(step, &["READABLE", "WRITABLE", "PLANTED"])?;
    }
    for step in ["same", "other", "store", "send-same", "send-other", "send-store"] {
        tried(build.status(step) == "ran", format!("{build} {step}"))?;
    }
    safe(!project.path("store/planted").exists(), "the store was written to")
}
