//! Attacks by links at the targets of mounts: none leads a mount into /dev, /proc or /sys (CVE-2025-31133).

use std::os::unix::fs::symlink;

use crate::built::{Built, project};
use crate::root::make_root;

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

/// Expects the refusal of a target on whose way a link in another mount lies.
#[track_caller]
fn assert_link_refused(built: &Built, target: &str, link: &str, mount: &str) {
    assert_eq!(built.status("victim"), "failed", "{}", built.run);
    let reason = built.reason("victim");
    assert!(
        reason.contains(&format!("mount target {target}: {link} is a link that lies in the mount {mount}, where")),
        "{reason}"
    );
    assert!(reason.contains("remove the link, or write a target that leads through no link in that mount"), "{reason}");
}

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
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn a_link_that_a_step_put_into_a_mount_leads_no_target_below_it_out() {
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
    assert_link_refused(&built, "/shared/tmp", "/shared/tmp", "/shared");
    // The same by a link that existed before.
    std::fs::remove_file(project.path("shared/tmp")).unwrap();
    symlink("/dev/shm", project.path("shared/tmp")).unwrap();
    let built = Built::of(&project, &["--target", "victim"]);
    assert_link_refused(&built, "/shared/tmp", "/shared/tmp", "/shared");
}

#[test]
fn a_link_of_the_root_can_lead_a_target_into_a_mount_and_a_link_in_that_mount_is_refused() {
    let project = project(
        r#"
mounts:
  shared: { type: bind, source: shared, target: /data/shared }
  file: { type: bind, source: note, target: /short/new/note }
  deep: { type: tmpfs, target: /short/LINK/tmp }
containers:
  made: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: layer }, mounts: [shared, file, deep] }
steps:
  - { name: links, container: made, run: mkdir /data; ln -s data/shared /short }
  - { name: layer, container: made, snapshot: { mode: full } }
  - name: victim
    container: c
    needs: [layer]
    run: cat /data/shared/new/note /short/new/note; stat -f -c %T /data/shared/real/tmp
"#,
    );
    project.write("note", "note\n");
    std::fs::create_dir_all(project.path("shared/real")).unwrap();
    symlink("real", project.path("shared/link")).unwrap();
    let manifest = std::fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("LINK", "real"));
    assert_eq!(Built::succeed(&project).lines("victim"), ["note", "note", "tmpfs"]);
    // The directories were made in the bind, which is the project's own.
    assert!(project.path("shared/new/note").is_file() && project.path("shared/real/tmp").is_dir());
    project.write("build.yaml", &manifest.replace("LINK", "link"));
    let built = Built::of(&project, &[]);
    assert_link_refused(&built, "/short/link/tmp", "/data/shared/link", "/data/shared");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_target_below_dev_is_mounted_there_in_any_root() {
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
    let root = project.path("root");
    make_root(&root);
    std::fs::create_dir_all(root.join("dev")).unwrap();
    symlink("bin", root.join("tools")).unwrap();
    for name in ["shm", "own"] {
        symlink("/proc/sys", root.join("dev").join(name)).unwrap();
    }
    let built = Built::succeed(&project);
    assert_eq!(built.lines("s"), ["768 /dev/shm", "512 /dev/own", "Linux"]);
}

also_with_runc! {
    a_target_that_a_link_of_the_root_leads_to_the_kernels_own_files_is_refused,
    a_link_that_a_step_put_into_a_mount_leads_no_target_below_it_out,
    a_link_of_the_root_can_lead_a_target_into_a_mount_and_a_link_in_that_mount_is_refused,
    a_target_below_dev_is_mounted_there_in_any_root,
}
