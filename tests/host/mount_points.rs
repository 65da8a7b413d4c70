//! The entries that a session adds to a root for its mounts are in no snapshot of it.

use std::path::PathBuf;

use crate::built::{Built, project};
use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::tree::Tree;

/// Returns the images of a project, stacked, the lowest first.
fn stacked(project: &Project, images: &[&str]) -> Tree {
    let images: Vec<PathBuf> = images.iter().map(|image| project.path(image)).collect();
    in_private_namespace(|mounts| match &images[..] {
        [image] => Tree::read(&mounts.image(image)),
        images => Tree::read(&mounts.chain(images)),
    })
}

const NOTHING: &str = "
version: 1
source_date_epoch: none
mounts:
  src: { type: bind, source: ., target: /src, options: [ro] }
  deep: { type: tmpfs, target: /a/b/c }
  file: { type: bind, source: file, target: /etc/x/y }
  below: { type: tmpfs, target: /srv/old/kept/new/m }
  tmp: { type: tmpfs, target: /tmp }
  nested: { type: tmpfs, target: /tmp/inner/most }
  linked: { type: tmpfs, target: /var/run/lock }
  secret: { type: secret, source: file, target: /run/secrets/token }
containers:
  base: { rootfs: { programs: [/bin/sh, /bin/rm, /bin/rmdir, /bin/mkdir, /bin/ln, /bin/touch, /bin/chmod, /bin/chown, /usr/bin/setfattr] } }
  next:
    rootfs: { snapshot: base-image }
    network: host
    mounts: [src, deep, file, below, tmp, nested, linked, secret]
    devices: [{ path: /dev/null, target: /opt/devices/null }]
steps:
  - name: make
    container: base
    run: |
      rm -rf /etc; mkdir -p /srv/old/kept /run /var; ln -s /run /var/run
      echo > /srv/old/file; chmod 2750 /srv/old; chown 70000:70001 /srv/old; setfattr -n user.a -v b /srv/old
      touch -d @1000 /srv/old/kept /srv/old /srv /run /; touch -h -d @1000 /var/run
  - { name: base-image, container: base, snapshot: { mode: full, output: base.squashfs } }
  - name: look
    container: next
    run: |
      read line < /src/file; test \"$line\" = text; read line < /etc/x/y; test \"$line\" = text
      read line < /run/secrets/token; test \"$line\" = text; echo > /opt/devices/null
      test -s /etc/resolv.conf; echo in > /a/b/c/in; echo in > /tmp/in; echo in > /tmp/inner/most/in; echo in > /run/lock/in
      test -f /var/run/lock/in; echo in > /srv/old/kept/new/m/in; echo in > /dev/shm/in
  - { name: nothing, container: next, snapshot: { output: nothing.squashfs } }
  - { name: look-again, container: next, run: \"test -f /a/b/c/in; test -f /tmp/inner/most/in; test -s /etc/resolv.conf\" }
  - { name: full, container: next, snapshot: { mode: full, output: full.squashfs } }
  - { name: once-more, container: next, run: \"test -f /a/b/c/in; test -f /run/lock/in; echo new > /srv/old/file\" }
  - { name: file-only, container: next, snapshot: { output: file.squashfs } }
  - { name: beside, container: next, run: \"echo > /a/b/beside; echo > /etc/beside; echo > /srv/old/kept/new/beside\" }
  - { name: beside-image, container: next, snapshot: { output: beside.squashfs } }
";

#[test]
fn mount_points_are_in_no_snapshot_and_directories_above_them_are_unchanged() {
    let project = Project::new(NOTHING);
    project.write("file", "text\n");
    let run = project.apply();
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let base = stacked(&project, &["base.squashfs"]);
    let time = base.get("").modified;
    assert_eq!((time, base.get("srv/old").modified), (1000, 1000));

    let nothing = stacked(&project, &["nothing.squashfs"]);
    assert_eq!(nothing.paths(), Vec::<&str>::new());
    assert_eq!(nothing.get(""), base.get(""), "the root directory itself");
    let full = stacked(&project, &["full.squashfs"]);
    assert_eq!(full.differences(&base, i64::MAX), Vec::<String>::new());

    // The directories above a changed file are unchanged: owner, mode, attributes and times.
    let file = stacked(&project, &["file.squashfs"]);
    assert_eq!(file.paths(), ["srv", "srv/old", "srv/old/file"]);
    assert_eq!(file.get("srv/old"), base.get("srv/old"));
    assert_eq!(file.get("srv/old").owner, (70000, 70001));

    let beside = stacked(&project, &["beside.squashfs"]);
    let paths = ["a", "a/b", "a/b/beside", "etc", "etc/beside", "srv", "srv/old", "srv/old/kept", "srv/old/kept/new"];
    assert_eq!(beside.paths(), [&paths[..], &["srv/old/kept/new/beside"]].concat());
    for directory in ["a", "a/b", "etc", "srv/old/kept/new"] {
        assert_eq!((beside.get(directory).mode, beside.get(directory).owner), (0o755, (0, 0)), "{directory}");
    }
    assert_eq!(beside.get("srv/old"), base.get("srv/old"));
}

const DELETED: &str = "
version: 1
containers:
  base: { rootfs: { programs: [/bin/sh, /bin/rm, /bin/mkdir] } }
  removed: { rootfs: { snapshot: base-image } }
  next:
    rootfs: { snapshot: removed-image }
    mounts: [{ type: tmpfs, target: /gone/x/y }, { type: tmpfs, target: /file/m }, { type: tmpfs, target: /opaque/old }]
steps:
  - name: make
    container: base
    run: mkdir -p /gone/x/y/z /opaque/old/in; echo > /gone/x/file; echo > /file; echo > /opaque/old/in/file
  - { name: base-image, container: base, snapshot: { mode: full, output: base.squashfs } }
  - { name: remove, container: removed, run: \"rm -r /gone /file /opaque; mkdir /opaque; echo > /opaque/new\" }
  - { name: removed-image, container: removed, snapshot: { output: removed.squashfs } }
  - name: look
    container: next
    run: |
      test ! -e /gone/x/file; test ! -e /gone/x/y/z; test -d /file/m; test ! -e /opaque/old/in; test -f /opaque/new
      echo in > /gone/x/y/in; echo in > /opaque/old/in
  - { name: nothing, container: next, snapshot: { output: nothing.squashfs } }
  - name: write
    container: next
    run: echo > /gone/beside; echo > /opaque/beside; test -f /gone/x/y/in
  - { name: beside, container: next, snapshot: { output: beside.squashfs } }
";

#[test]
fn mounts_below_deleted_or_emptied_directories_restore_nothing() {
    let project = Project::new(DELETED);
    let run = project.apply();
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    assert_eq!(stacked(&project, &["nothing.squashfs"]).paths(), Vec::<&str>::new());
    let images = ["base.squashfs", "removed.squashfs", "nothing.squashfs"];
    let before = stacked(&project, &images[..2]);
    assert_eq!(stacked(&project, &images).differences(&before, i64::MAX), Vec::<String>::new());
    let after = stacked(&project, &[&images[..], &["beside.squashfs"]].concat());
    let own = |path: &&str| path.starts_with("gone") || path.starts_with("opaque") || path.starts_with("file");
    let paths: Vec<&str> = after.paths().into_iter().filter(own).collect();
    assert_eq!(paths, ["gone", "gone/beside", "opaque", "opaque/beside", "opaque/new"]);
}

const RESOLV: &str = "
version: 1
containers:
  base: { rootfs: { programs: [/bin/sh, /bin/rm, /bin/mkdir, /bin/ln] } }
  next: { rootfs: { snapshot: image }, network: host }
steps:
  - { name: make, container: base, run: MAKE }
  - { name: image, container: base, snapshot: { mode: full, output: base.squashfs } }
  - { name: look, container: next, run: test -s /etc/resolv.conf }
  - { name: nothing, container: next, snapshot: { output: nothing.squashfs } }
";

#[test]
fn the_hosts_resolv_conf_is_readable_in_any_root_and_in_no_snapshot() {
    let makes = [
        "rm -rf /etc",
        "mkdir -p /etc; echo own > /etc/resolv.conf",
        "mkdir -p /etc; ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
        "mkdir -p /etc; ln -s /../../../nowhere /etc/resolv.conf",
        "rm -rf /etc; mkdir -p /usr/etc; ln -s usr/etc /etc",
    ];
    for make in makes {
        let project = Project::new(&RESOLV.replace("MAKE", &format!("\"{make}\"")));
        project.apply();
        assert_eq!(stacked(&project, &["nothing.squashfs"]).paths(), Vec::<&str>::new(), "{make}");
    }
}

#[test]
fn a_mount_below_one_that_each_step_has_anew_is_seen_by_each_step() {
    let project = project(
        "
mounts:
  directory: { type: bind, source: source, target: /dev/shm/a/b }
  file: { type: bind, source: source/file, target: /dev/shm/file }
  memory: { type: tmpfs, target: /dev/shm/memory, options: [size=1m] }
  secret: { type: secret, source: source/file, target: /dev/shm/a/secret }
  processes: { type: proc, target: /dev/shm/proc }
  inner: { type: tmpfs, target: /dev/shm/a/b/inner }
  processors: { type: bind, source: source/file, target: /proc/cpuinfo }
containers:
  c: { rootfs: $TOOLS, mounts: [directory, file, memory, secret, processes, inner, processors] }
steps:
  - name: write
    run: echo > /dev/shm/left; echo kept > /dev/shm/memory/kept; echo kept > /dev/shm/a/b/inner/kept
  - name: read
    run: |
      cat /dev/shm/a/b/file /dev/shm/file /dev/shm/a/secret /proc/cpuinfo
      cat /dev/shm/memory/kept /dev/shm/a/b/inner/kept /dev/shm/proc/self/comm
      ls /dev/shm
  - { name: again, exec: [cat, /proc/self/mountinfo] }
",
    );
    project.write("source/file", "of the host\n");
    std::fs::create_dir(project.path("source/inner")).unwrap();
    let built = Built::succeed(&project);
    let secret = if built.text("read").contains("***") { "***" } else { "of the host" };
    let expected =
        [secret, secret, secret, secret, "kept", "kept", "cat", "a", "file", "memory", "proc"].map(str::to_owned);
    assert_eq!(built.lines("read"), expected);
    for place in ["/proc/cpuinfo", "/dev/shm/a/b", "/dev/shm/file", "/dev/shm/a/secret"] {
        let seen = built.lines("again").iter().any(|line| line.split(' ').nth(4) == Some(place));
        assert!(seen, "{place}: {}", built.text("again"));
    }
}

#[test]
fn a_mount_on_a_target_of_another_type_is_refused_with_both_types() {
    let project = project(
        "
containers:
  file: { rootfs: $TOOLS, mounts: [{ type: bind, source: src, target: /bin/sh }] }
  tmpfs: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /bin/sh }] }
  below: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /bin/sh/deep }] }
  directory: { rootfs: $TOOLS, mounts: [{ type: bind, source: src/file, target: /bin }] }
  bind:
    rootfs: $TOOLS
    mounts: [{ type: bind, source: src, target: /src }, { type: tmpfs, target: /src/file }]
steps:
  - { name: file, container: file, run: ':' }
  - { name: tmpfs, container: tmpfs, run: ':' }
  - { name: below, container: below, run: ':' }
  - { name: directory, container: directory, run: ':' }
  - { name: bind, container: bind, run: ':' }
",
    );
    project.write("src/file", "");
    let source = project.path("src").display().to_string();
    let a_file = "a file in the container, and a directory is to be mounted there";
    let a_directory = "a directory in the container, and a file is to be mounted there";
    let built = Built::of(&project, &["--keep-going"]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    for (step, target, words) in [
        (
            "file",
            "/bin/sh",
            format!("{a_file}: {source}; choose a `target` that is a directory, or one that does not exist yet"),
        ),
        ("tmpfs", "/bin/sh", format!("{a_file}: a tmpfs; ")),
        ("below", "/bin/sh/deep", format!("below {a_file}: a tmpfs; ")),
        ("directory", "/bin", format!("{a_directory}: {source}/file; ")),
        ("bind", "/src/file", format!("{a_file}: a tmpfs; ")),
    ] {
        let reason = built.reason(step);
        let words = format!("cannot open the session: the mount target {target} is {words}");
        assert!(reason.starts_with(&words), "{step}: {reason}");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

also_with_runc! {
    mount_points_are_in_no_snapshot_and_directories_above_them_are_unchanged,
    mounts_below_deleted_or_emptied_directories_restore_nothing,
    the_hosts_resolv_conf_is_readable_in_any_root_and_in_no_snapshot,
    a_mount_below_one_that_each_step_has_anew_is_seen_by_each_step,
    a_mount_on_a_target_of_another_type_is_refused_with_both_types,
}
