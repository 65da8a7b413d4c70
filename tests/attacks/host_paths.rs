//! Paths of the host that a manifest names: binds around the store, and the files that a step puts in their place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::lab::{Lab, Project};

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
    Attack {
        row: "C4",
        name: "bind-source-swapped",
        summary: "swaps another container's bind source for a link",
        run: bind_source,
    },
    Attack {
        row: "C4",
        name: "file-source-swapped",
        summary: "swaps a bound file and a secret for links",
        run: file_source,
    },
    Attack {
        row: "C4",
        name: "dir-root-swapped",
        summary: "swaps a dir root for a link to a host directory",
        run: dir_root,
    },
    Attack {
        row: "C4",
        name: "output-directory-swapped",
        summary: "swaps an output's directory for a link",
        run: output_directory,
    },
    Attack {
        row: "C4",
        name: "output-is-a-link",
        summary: "plants a link to a host file at an output",
        run: output_link,
    },
    Attack {
        row: "C4",
        name: "output-is-a-device",
        summary: "an output that is a device node, as /dev/null",
        run: output_device,
    },
    Attack { row: "M4", name: "log-file-is-a-link", summary: "plants links at --log-file and --report", run: log_file },
    Attack { row: "M4", name: "lock-file-is-a-link", summary: "plants a link at runner.lock", run: lock_file },
];

const SECRET: &str = "0nly-f0r-an0ther-c0ntainer";

/// The lines that a hunt prints when it has found a way.
const FOUND: [&str; 3] = ["STORE", "FOUND", "WRITABLE"];

fn with_victim(project: Project) -> Project {
    project.write("victim/marker", &format!("{SECRET}\n"));
    fs::set_permissions(project.path("victim/marker"), fs::Permissions::from_mode(0o600)).unwrap();
    project
}

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

/// Returns a hostile step with a writable bind of `work`, and a victim that names something in it.
fn swapped(lab: &Lab, definitions: &str, hostile: &str, victim: &str) -> Project {
    let project = lab.project(&format!(
        "
mounts:
  work: {{ type: bind, source: work, target: /work }}
{definitions}
steps:
  - {{ name: hostile, container: hostile, run: 'echo TRYING; {hostile}; echo SWAPPED' }}
{victim}
"
    ));
    fs::create_dir(project.path("work")).unwrap();
    with_victim(project)
}

/// Replaces the victim's path by its absolute one, for links that a step makes.
fn with_absolute_link(project: &Project) {
    let text = project.read("build.yaml").replace("$VICTIM", &project.path("victim").display().to_string());
    project.write("build.yaml", &text);
}

fn judge_swap(project: &Project, build: &Build, victim: &str) -> Verdict {
    build.tried("hostile", "SWAPPED")?;
    let seen = build.lines(victim).into_iter().any(|line| line.contains(SECRET));
    safe(!seen, format!("{victim} sees the host: {:?}", build.lines(victim)))?;
    let ended = !build.status(victim).is_empty() && build.status(victim) != "skipped";
    tried(ended || build.code == 2, format!("{victim}: {build}"))?;
    safe(project.read("victim/marker") == format!("{SECRET}\n"), "the host's file was changed")?;
    let others: Vec<_> =
        fs::read_dir(project.path("victim")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    safe(others.len() == 1, format!("in the host's directory are now {others:?}"))
}

fn bind_source(lab: &Lab) -> Verdict {
    for link in ["$VICTIM", "../victim"] {
        let project = swapped(
            lab,
            "  inner: { type: bind, source: work/inner, target: /inner }
containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: $BASE, mounts: [inner] } }",
            &format!("mv /work/inner /work/old; ln -s {link} /work/inner"),
            "  - { name: victim, container: victim, needs: [hostile], run: 'ls -l /inner; cat /inner/*; echo evil > /inner/planted' }",
        );
        project.write("work/inner/own", "its own\n");
        with_absolute_link(&project);
        let build = project.apply(&[])?;
        judge_swap(&project, &build, "victim")?;
    }
    Ok(())
}

fn file_source(lab: &Lab) -> Verdict {
    let project = swapped(
        lab,
        "  file: { type: bind, source: work/file, target: /inner/file }
  token: { type: secret, source: work/token, target: /inner/token }
containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: $BASE, mounts: [file, token] } }",
        "rm /work/file /work/token; ln -s $VICTIM/marker /work/file; ln -s $VICTIM/marker /work/token",
        // Runner masks secrets in a step's output: so the letters are parted.
        "  - { name: victim, container: victim, needs: [hostile], run: 'head -c 200 /inner/file /inner/token | tr -d y; echo evil > /inner/file' }",
    );
    project.write("work/file", "its own\n");
    project.write("work/token", "its own token\n");
    with_absolute_link(&project);
    let build = project.apply(&[])?;
    judge_swap(&project, &build, "victim")
}

fn dir_root(lab: &Lab) -> Verdict {
    let project = swapped(
        lab,
        "containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: { dir: work/root } } }",
        "mv /work/root /work/old; ln -s $VICTIM /work/root",
        "  - { name: victim, container: victim, needs: [hostile], snapshot: { mode: full, output: image.squashfs } }",
    );
    project.write("work/root/own", "its own\n");
    with_absolute_link(&project);
    let build = project.apply(&[])?;
    judge_swap(&project, &build, "victim")?;
    if project.path("image.squashfs").exists() {
        let list = Command::new("unsquashfs").arg("-l").arg(project.path("image.squashfs")).output().unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        tried(list.contains("squashfs-root"), &list)?;
        safe(!list.contains("/marker"), format!("the image has the host's file: {list}"))?;
    }
    Ok(())
}

fn output_directory(lab: &Lab) -> Verdict {
    for (link, output) in [
        ("$VICTIM", "work/out/image.squashfs"),
        ("../victim", "work/out/image.squashfs"),
        ("..", "work/out/victim/image.squashfs"),
    ] {
        let project = swapped(
            lab,
            "containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: $BASE } }",
            &format!("mv /work/out /work/old 2>/dev/null || true; ln -s {link} /work/out"),
            &format!("  - {{ name: victim, container: victim, needs: [hostile], snapshot: {{ output: {output} }} }}"),
        );
        fs::create_dir_all(project.path(output).parent().unwrap()).unwrap();
        with_absolute_link(&project);
        let build = project.apply(&[])?;
        judge_swap(&project, &build, "victim")?;
    }
    Ok(())
}

fn output_link(lab: &Lab) -> Verdict {
    let project = swapped(
        lab,
        "containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: $BASE } }",
        "ln -s $VICTIM/marker /work/image.squashfs",
        "  - { name: victim, container: victim, needs: [hostile], snapshot: { output: work/image.squashfs } }",
    );
    with_absolute_link(&project);
    let build = project.apply(&[])?;
    judge_swap(&project, &build, "victim")
}

/// As `output: /dev/null` is, on a node that no program of the host uses.
fn output_device(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: $BASE } }
steps: [{ name: s, run: echo TRYING }, { name: image, snapshot: { output: node } }]
",
    );
    let made = Command::new("mknod").arg(project.path("node")).args(["c", "1", "3"]).status().unwrap();
    tried(made.success(), "mknod on the host")?;
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    let replaced = fs::symlink_metadata(project.path("node")).unwrap().is_file();
    safe(!replaced, "a device node of the host was replaced by an image")?;
    let words = format!("{} {}", build.stderr, build.reason("image"));
    tried(build.code != 0 && words.contains("node"), build.to_string())
}

fn log_file(lab: &Lab) -> Verdict {
    let plant = "for name in log.json report.html report.xml report.json; do rm -f /work/$name; ln -s $VICTIM/marker /work/$name; done";
    let project = swapped(
        lab,
        "containers: { hostile: { rootfs: $BASE, mounts: [work] }, victim: { rootfs: $BASE } }",
        plant,
        "  - { name: victim, container: victim, needs: [hostile], run: echo it runs }",
    );
    with_absolute_link(&project);
    let planted = project.apply(&[])?;
    judge_swap(&project, &planted, "victim")?;
    let files = ["--log-file", "work/log.json", "--report", "work/report.html", "--report", "work/report.xml"];
    let all = project.apply(&[&files[..], &["--report", "work/report.json"]].concat())?;
    all.did_not_hang()?;
    for pair in [["--log-file", "work/log.json"], ["--report", "work/report.html"], ["--report", "work/report.json"]] {
        let build = project.apply(&pair)?;
        build.did_not_hang()?;
        // A link that leads elsewhere is replaced or refused; both leave the host's file unchanged.
        let replaced = fs::symlink_metadata(project.path(pair[1])).unwrap().is_file();
        let refused = build.code != 0 && build.stderr.contains(pair[1]);
        let is_unchanged = project.read("victim/marker") == format!("{SECRET}\n");
        safe(is_unchanged, format!("{} wrote to the host's file", pair[0]))?;
        tried(replaced || refused || build.printed("hostile", "SWAPPED"), format!("{pair:?}: {build}"))?;
    }
    Ok(())
}

fn lock_file(lab: &Lab) -> Verdict {
    let project = swapped(
        lab,
        "containers: { hostile: { rootfs: $BASE, mounts: [work] } }",
        "ln -sf $VICTIM/marker /work/runner.lock",
        "  - { name: image, container: hostile, snapshot: {} }",
    );
    with_absolute_link(&project);
    let build = project.apply(&[])?;
    build.tried("hostile", "SWAPPED")?;
    let text = project.read("build.yaml").replace("source: work,", "source: ., cache: ignore,");
    project.write("work/build.yaml", &text.replace("SWAPPED", "again"));
    let lock = project.runner(&["lock", "work/build.yaml"])?;
    lock.did_not_hang()?;
    tried(lock.code == 0 || lock.stderr.contains("runner.lock"), lock.to_string())?;
    safe(project.read("victim/marker") == format!("{SECRET}\n"), "lock wrote to the host's file")
}
