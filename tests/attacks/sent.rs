//! What a step can do with a directory or a mount namespace that another sends it, or in a namespace of its own: to the
//! store below a bind, and to what the host has mounted there.

use std::fs;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C3",
        name: "store-moved-by-descriptor",
        what: "sends a bind with the store to another container, which renames a directory above it",
        run: |lab| store_moved(lab, ""),
    },
    Attack {
        row: "C3",
        name: "store-moved-by-unconfined",
        what: "the same where the other container is unconfined, or may mount",
        run: |lab| {
            store_moved(lab, "seccomp: unconfined")?;
            store_moved(lab, "capabilities: { add: [SYS_ADMIN] }")
        },
    },
    Attack {
        row: "C3",
        name: "store-uncovered-in-sent-namespace",
        what: "sends its mount namespace to a container that may unmount in it",
        run: store_uncovered,
    },
    Attack {
        row: "C3",
        name: "store-moved-from-own-namespace",
        what: "renames above the store from a namespace of its own without the mounts",
        run: store_moved_alone,
    },
    Attack {
        row: "C4",
        name: "mounts-of-the-host-by-descriptor",
        what: "sends a bind to another container, which renames the place of a mount of the host below it",
        run: host_mount_moved,
    },
    Attack {
        row: "C4",
        name: "mounts-of-the-host-with-sys-admin",
        what: "unmounts below a bind and removes the place of a mount of the host; promised is nothing",
        run: host_mount_with_sys_admin,
    },
];

const STORE: &str = "deep/store";

/// Builds with the store below the directory of the manifest; it was built in before, so that the store is whole.
fn apply_with_store_below(project: &Project) -> Result<Build, crate::attack::Failure> {
    let mut command = project.command(&["apply", "--progress", "json", "--keep-going", "-j", "2"]);
    command.env("RUNNER_STORE", project.path(STORE));
    project.run(command)
}

/// Nothing of the store was seen or changed: the build was refused, or the attack ran and did nothing.
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

/// Container `a` has the store in a bind, `b` has the bind through which it is sent a descriptor of that.
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

/// Builds in a mount namespace that stands for the host's, with a mount at `host/disk`; gives whether that is there then.
fn with_host_mount(project: &Project) -> Result<(Build, bool), crate::attack::Failure> {
    fs::create_dir_all(project.path("host/disk")).unwrap();
    fs::create_dir_all(project.path("gate")).unwrap();
    let _ = fs::remove_file(project.path("held"));
    let script = "mount -t tmpfs of-the-host host/disk; touch host/disk/mark; \"$@\"; code=$?; [ -e host/disk/mark ] && touch held; exit $code";
    let script = format!("exec unshare --mount --propagation private bash -c '{script}' bash \"$@\"");
    let arguments = ["apply", "--progress", "json", "--keep-going", "-j", "2"];
    let build = project.run(project.command_in_bash(&script, &arguments))?;
    build.did_not_hang()?;
    let is_held = project.path("held").exists();
    Ok((build, is_held))
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
        let (build, is_held) = with_host_mount(&project)?;
        safe(is_held, format!("what the host had mounted is gone: {build}"))?;
        if lab.runtime != "embedded" && (option, b) == ("", "gate") {
            let words = build.stderr.contains("is mounted below it") && build.stderr.contains("options: [ro]");
            tried(build.code == 2 && words, build.to_string())?;
        } else {
            build.tried("b", "TRYING")?;
        }
    }
    Ok(())
}

/// Not held, and said so: with SYS_ADMIN, or a user namespace of its own, a step unmounts what makes places stay.
fn host_mount_with_sys_admin(lab: &Lab) -> Verdict {
    for options in ["capabilities: { add: [SYS_ADMIN] }", "seccomp: unconfined"] {
        let project = lab.project(&format!(
            "
mounts: {{ src: {{ type: bind, source: host, target: /src, cache: ignore }} }}
containers: {{ c: {{ rootfs: $BASE, mounts: [src], {options} }} }}
steps: [{{ name: s, run: 'echo TRYING; umount /src/disk; rmdir /src/disk; /probe leave-and-rename /src disk moved; true' }}]
"
        ));
        let (build, is_held) = with_host_mount(&project)?;
        build.tried("s", "TRYING")?;
        let text = include_str!("../../SECURITY.md").split_whitespace().collect::<Vec<_>>().join(" ");
        let said = text.contains("takes away what the host has mounted below the source of a writable bind");
        safe(is_held || said, "a step took a mount of the host away, and SECURITY.md does not say so")?;
    }
    Ok(())
}
