//! Attacks by links at the targets of mounts: none is led into /dev, /proc or /sys (CVE-2025-31133).

use std::os::unix::fs::symlink;

use crate::built::{Built, project};

/// A root that a hostile step has made, with links to the kernel's own filesystems.
const LINKS: &str = r#"
mounts:
  file: { type: bind, source: note, target: /links/MASKED }
  folder: { type: tmpfs, target: /links/FOLDER }
containers:
  made: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: layer }, mounts: [MOUNT] }
steps:
  - name: hostile
    container: made
    run: |
      mkdir /links; cd /links
      ln -s /proc/sys/kernel/core_pattern masked; ln -s ../proc/self/fd magic; ln -s /dev dev; ln -s /sys/kernel sys
      ln -s dev/../proc/self/../sys round; ln -s //proc///./sys twice
  - { name: layer, container: made, snapshot: { mode: full } }
  - { name: victim, container: c, needs: [layer], run: echo it runs }
"#;

#[track_caller]
fn assert_refused(built: &Built, target: &str, real: &str) {
    assert_eq!(built.status("victim"), "failed", "{}", built.run);
    let reason = built.reason("victim");
    assert!(reason.contains(&format!("mount target {target} leads to {real}")), "{reason}");
    assert!(
        reason.contains(&format!("by a link inside; remove that link from the rootfs, or write {real}")),
        "{reason}"
    );
}

#[test]
fn a_target_that_a_link_of_the_root_leads_to_the_kernels_own_files_is_refused() {
    for (mount, link, real) in [
        ("file", "masked", "/proc/sys/kernel/core_pattern"),
        ("folder", "magic", "/proc/self/fd"),
        ("folder", "dev", "/dev"),
        ("folder", "dev/new", "/dev/new"),
        ("folder", "sys", "/sys/kernel"),
        ("folder", "round", "/proc/sys"),
        ("folder", "twice", "/proc/sys"),
    ] {
        let manifest = LINKS.replace("MOUNT", mount).replace("MASKED", link).replace("FOLDER", link);
        let project = project(&manifest);
        project.write("note", "note\n");
        let built = Built::of(&project, &[]);
        assert_refused(&built, &format!("/links/{link}"), real);
        assert_eq!(project.left_over(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn a_target_below_another_mount_is_not_led_out_of_it_by_what_a_step_has_put_there() {
    let project = project(
        r#"
mounts:
  shared: { type: bind, source: shared, target: /shared }
  below: { type: tmpfs, target: /shared/tmp }
containers:
  hostile: { rootfs: $TOOLS, mounts: [shared] }
  victim: { rootfs: $TOOLS, mounts: [shared, below] }
steps:
  - { name: plant, container: hostile, run: "rm -rf /shared/tmp; ln -s /proc/sys /shared/tmp" }
  - { name: victim, container: victim, needs: [plant], run: echo it runs }
"#,
    );
    project.write("shared/tmp/file", "");
    let built = Built::of(&project, &[]);
    assert_refused(&built, "/shared/tmp", "/proc/sys");
    // The same by a link that was there before.
    std::fs::remove_file(project.path("shared/tmp")).unwrap();
    symlink("/dev/shm", project.path("shared/tmp")).unwrap();
    let built = Built::of(&project, &["--target", "victim"]);
    assert_eq!(built.status("victim"), "failed", "{}", built.run);
}

#[test]
fn a_target_that_the_manifest_writes_below_dev_is_mounted_there_whatever_the_root_hides() {
    let project = project(
        r#"
mounts:
  own: { type: tmpfs, target: /dev/shm, options: [size=3m] }
  more: { type: tmpfs, target: /dev/own, options: [size=2m] }
containers:
  c: { rootfs: { dir: root }, mounts: [own, more] }
steps:
  - name: s
    exec: [/tools/sh, -c, "stat -f -c '%b %n' /dev/shm /dev/own; cat /proc/sys/kernel/ostype"]
"#,
    );
    let seed = crate::built::project(
        "\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: i, snapshot: { mode: full, output: i.squashfs } }]\n",
    );
    seed.apply();
    let unpack = std::process::Command::new("unsquashfs")
        .args(["-q", "-n", "-d"])
        .arg(project.path("root"))
        .arg(seed.path("i.squashfs"))
        .status();
    assert!(unpack.unwrap().success());
    let root = project.path("root");
    std::fs::create_dir_all(root.join("dev")).unwrap();
    symlink("bin", root.join("tools")).unwrap();
    for name in ["shm", "own"] {
        symlink("/proc/sys", root.join("dev").join(name)).unwrap();
    }
    let built = Built::well(&project);
    assert_eq!(built.lines("s"), ["768 /dev/shm", "512 /dev/own", "Linux"]);
}
