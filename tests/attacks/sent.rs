//! What a step can do with a directory or a mount namespace that another sends it, or in a namespace of its own: to the
//! store below a bind.

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
