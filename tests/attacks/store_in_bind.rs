//! Binds around the store: steps that look for it, move the directories above it, or uncover it.

use std::fs;
use std::os::unix::fs::symlink;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::host_paths::SECRET;
use crate::lab::Lab;

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C3",
        name: "store-in-bind",
        summary: "reads the store below a bind of the project",
        run: |lab| store(lab, ""),
    },
    Attack {
        row: "C3",
        name: "store-in-read-only-bind",
        summary: "the same in a read-only bind",
        run: |lab| store(lab, "ro"),
    },
    Attack {
        row: "C3",
        name: "store-moved-in-bind",
        summary: "renames directories above the store in a bind",
        run: store_moved,
    },
    Attack {
        row: "C3",
        name: "store-itself",
        summary: "binds the store, a directory in it, a link to it",
        run: store_itself,
    },
    Attack {
        row: "C3",
        name: "store-uncovered-with-sys-admin",
        summary: "unmounts in a bind the directory that hides the store",
        run: store_uncovered,
    },
    Attack {
        row: "C3",
        name: "store-as-root",
        summary: "takes a directory above the store for a root",
        run: store_as_root,
    },
];

/// The lines that a hunt prints when it has found a way.
const FOUND: [&str; 3] = ["STORE", "FOUND", "WRITABLE"];

/// Another container runs meanwhile, with a secret, and a bind of the manifest's directory leads to the store.
fn store(lab: &Lab, option: &str) -> Verdict {
    let project = lab.project(&format!(
        "
mounts:
  src: {{ type: bind, source: ., target: /src, options: [{option}], cache: ignore }}
  gate: {{ type: bind, source: gate, target: /gate }}
  secret: {{ type: secret, env: TOKEN_OF_ATTACK, target: /run/secret }}
containers:
  hostile: {{ rootfs: $BASE, mounts: [src, gate] }}
  other: {{ rootfs: $BASE, mounts: [gate, secret] }}
steps:
  - {{ name: other, container: other, run: 'echo {SECRET}-in-root > /private; touch /gate/go; until [ -e /gate/over ]; do sleep 0.02; done' }}
  - name: s
    container: hostile
    run: |
      until [ -e /gate/go ]; do sleep 0.02; done
      /probe hunt /src {SECRET}
      echo evil > /src/store/planted || true
      for at in layers/sha256/x mnt/x tmp/x keys/x; do echo evil > /src/store/$at || true; done
      touch /gate/over
"
    ));
    fs::create_dir(project.path("gate")).unwrap();
    let mut command = project.command(&["apply", "--progress", "json", "--keep-going", "-j", "2"]);
    command.env("TOKEN_OF_ATTACK", SECRET);
    let build = project.run(command)?;
    if lab.runtime != "embedded" && option.is_empty() {
        return refused(&build);
    }
    build.tried("s", "TRYING")?;
    // The manifest itself, which is in the bind, has the text too: that is not the store's.
    let found: Vec<_> =
        build.evidence("s", &FOUND).into_iter().filter(|line| !line.ends_with("/src/build.yaml")).collect();
    safe(found.is_empty(), found.join("; "))?;
    let planted = ["planted", "layers/sha256/x", "mnt/x", "tmp/x", "keys/x"];
    let planted = planted.into_iter().find(|name| project.path("store").join(name).exists());
    safe(planted.is_none(), format!("a step wrote {planted:?} to the store"))
}

/// Nothing is enforced where steps of a container can mount, or where no step is confined: such a build is refused.
fn refused(build: &Build) -> Verdict {
    let words = build.stderr.contains("contains the store") && build.stderr.contains("--store DIRECTORY");
    tried(build.code == 2 && words && build.lines("s").is_empty(), build.to_string())
}

fn store_uncovered(lab: &Lab) -> Verdict {
    for (options, uncover) in [
        ("capabilities: { add: [SYS_ADMIN] }", "umount /src/store"),
        ("capabilities: { add: [SYS_ADMIN], drop: [MKNOD] }", "umount -l /src/store"),
        ("seccomp: unconfined", "unshare -Urm umount /src/store"),
    ] {
        for option in ["", "ro"] {
            let project = lab.project(&format!(
                "
mounts: {{ src: {{ type: bind, source: ., target: /src, options: [{option}] }} }}
containers: {{ c: {{ rootfs: $BASE, mounts: [src], {options} }} }}
steps: [{{ name: s, run: 'echo TRYING; {uncover}; ls /src/store' }}]
"
            ));
            let build = project.apply(&[])?;
            build.without("s", &["layers", "logs", "mnt", "tmp"])?;
            refused(&build)?;
        }
    }
    Ok(())
}

fn store_moved(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { src: { type: bind, source: ., target: /src, cache: ignore } }
containers: { c: { rootfs: $BASE, mounts: [src] } }
steps:
  - name: s
    run: |
      echo TRYING
      mv /src/deep/er/store /src/deep/er/moved 2>&1 && echo MOVED the store || true
      mv /src/deep/er /src/deep/moved 2>&1 && echo MOVED its parent || true
      mv /src/deep /src/moved 2>&1 && echo MOVED the directory above || true
      rm -rf /src/deep 2>/dev/null || true
      /probe hunt /src no-such-text
",
    );
    let mut command = project.command(&["apply", "--progress", "json"]);
    command.env("RUNNER_STORE", project.path("deep/er/store"));
    let build = project.run(command)?;
    if lab.runtime != "embedded" {
        return refused(&build);
    }
    build.tried("s", "TRYING")?;
    build.without("s", &["MOVED", "STORE", "WRITABLE"])?;
    safe(project.path("deep/er/store/leases").exists(), "a step has removed the store")
}

fn store_itself(lab: &Lab) -> Verdict {
    for source in ["store", "store/layers", "link", "link/layers/sha256", "../../$STORE"] {
        let project = lab.project("");
        let source = source.replace("../../$STORE", &project.path("store").display().to_string());
        let manifest = format!(
            "version: 1
mounts: {{ m: {{ type: bind, source: '{source}', target: /m }} }}
containers: {{ c: {{ rootfs: {{ programs: [/bin/sh, ls] }}, mounts: [m] }} }}
steps: [{{ name: s, run: 'echo TRYING; ls -R /m; (echo evil > /m/planted) && echo PLANTED || true' }}]
"
        );
        fs::create_dir_all(project.path("store/layers/sha256")).unwrap();
        symlink("store", project.path("link")).unwrap();
        project.write("build.yaml", &manifest);
        let build = project.apply(&[])?;
        build.did_not_hang()?;
        safe(!build.printed("s", "TRYING"), format!("{source} was bound: {:?}", build.lines("s")))?;
        let words = format!("{} {}", build.stderr, build.reason("s"));
        tried(build.code != 0 && words.contains("store"), format!("{source}: {build}"))?;
    }
    Ok(())
}

fn store_as_root(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: { dir: root } } }
steps:
  - { name: s, run: /probe hunt /deep no-such-text }
  - { name: image, snapshot: { mode: full, output: image.squashfs } }
",
    );
    lab.unpack_base(&project.path("root"));
    let mut command = project.command(&["apply", "--progress", "json"]);
    command.env("RUNNER_STORE", project.path("root/deep/store"));
    let build = project.run(command)?;
    build.did_not_hang()?;
    build.without("s", &FOUND)?;
    let refused = build.code != 0 && format!("{} {}", build.stderr, build.reason("s")).contains("store");
    tried(refused || build.printed("s", "TRYING"), build.to_string())
}
