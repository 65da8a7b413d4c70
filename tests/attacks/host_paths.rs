//! Paths of the host that a manifest names: the files that a step puts in their place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
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

pub const SECRET: &str = "0nly-f0r-an0ther-c0ntainer";

pub fn with_victim(project: Project) -> Project {
    project.write("victim/marker", &format!("{SECRET}\n"));
    fs::set_permissions(project.path("victim/marker"), fs::Permissions::from_mode(0o600)).unwrap();
    project
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
