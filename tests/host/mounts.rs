//! Mounts of every type: their content, their write access, their lifetime, and that no snapshot contains them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::built::{Built, Running, names_in, project};

/// Returns the names in an image below its root.
fn names(image: &Path) -> Vec<String> {
    names_in(image).into_iter().filter(|name| !name.trim_matches('/').is_empty()).collect()
}

#[test]
fn a_bind_mount_is_the_hosts_directory_or_file_and_read_only_on_request() {
    let project = project(
        r#"
mounts:
  rw: { type: bind, source: rw, target: /rw }
  ro: { type: bind, source: ro, target: /ro, options: [ro] }
  file: { type: bind, source: note, target: /etc/deep/note, options: [ro] }
  open-file: { type: bind, source: open, target: /etc/open }
containers:
  c: { rootfs: $TOOLS, mounts: [rw, ro, file, open-file, { type: bind, source: rw, target: /twice, options: [ro, noexec] }] }
steps:
  - name: read
    run: |
      cat /ro/file /ro/below/file /rw/file /etc/deep/note /etc/open /twice/file
      /rw/program; /twice/program 2> /dev/null || echo noexec
  - name: write
    run: |
      echo changed > /rw/file; mkdir /rw/new; echo changed > /etc/open; rm /rw/gone
      cat /twice/file
      for path in /ro/file /ro/new /ro/below/file /ro/below/new /etc/deep/note /twice/new; do
        (echo evil > $path) 2> /dev/null && echo "$path was written"
      done
      chmod 777 /ro /ro/file /ro/below /ro/below/file /etc/deep/note 2>&1 | grep -c "Read-only file system"
      rm -f /ro/file /ro/below/file 2> /dev/null || echo kept
  - { name: layer, snapshot: { output: layer.squashfs } }
  - { name: after, run: cat /ro/below/file /rw/file /etc/deep/note; rm /rw/file }
  - { name: full, snapshot: { mode: full, output: full.squashfs } }
"#,
    );
    for (name, text) in
        [("rw/file", "rw\n"), ("rw/gone", ""), ("ro/file", "ro\n"), ("note", "note\n"), ("open", "open\n")]
    {
        project.write(name, text);
    }
    project.write("rw/program", "#!/bin/sh\necho program\n");
    fs::set_permissions(project.path("rw/program"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(project.path("ro/below")).unwrap();
    // A mount below the read-only one, which a flag of the upper one alone would leave writable.
    let script = "mount -t tmpfs none ro/below && echo below > ro/below/file && exec \"$@\"";
    let built = Running::spawn(project.shell_in_namespace(script, &["apply", "--progress", "json"])).end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("read"), ["ro", "below", "rw", "note", "open", "rw", "program", "noexec"]);
    assert_eq!(built.lines("write"), ["changed", "5", "kept"]);
    assert_eq!(built.lines("after"), ["below", "changed", "note"]);
    let left = |name: &str| fs::read_to_string(project.path(name)).ok();
    assert_eq!((left("ro/file").as_deref(), left("note").as_deref()), (Some("ro\n"), Some("note\n")));
    assert_eq!((left("open").as_deref(), left("rw/file"), left("rw/gone")), (Some("changed\n"), None, None));
    assert!(project.path("rw/new").is_dir());
    assert_eq!(names(&project.path("layer.squashfs")), Vec::<String>::new());
    let full = names(&project.path("full.squashfs"));
    for path in ["/rw", "/ro", "/twice", "/etc/deep", "/etc/open"] {
        assert!(!full.iter().any(|name| Path::new(name).starts_with(path)), "{path}: {full:?}");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_tmpfs_has_the_size_mode_owner_and_flags_of_its_options() {
    let project = project(
        r#"
mounts:
  small: { type: tmpfs, target: /small, options: [size=2m, mode=0750, uid=1234, gid=99999, noexec, nosuid, nodev] }
  plain: { type: tmpfs, target: /plain }
  closed: { type: tmpfs, target: /closed, options: [ro] }
  # In place of the one that every container has.
  shm: { type: tmpfs, target: /dev/shm, options: [size=3m, mode=0700] }
containers:
  c: { rootfs: $TOOLS, mounts: [small, plain, closed, shm] }
steps:
  - name: look
    run: |
      stat -c "%a %u %g" /small /plain /dev/shm
      stat -f -c "%T" /small /plain /closed
      (echo x > /closed/x) 2> /dev/null || echo closed
      head -c 2097152 /dev/zero > /small/full && echo fits
      echo more 2> /dev/null >> /small/full || echo full
      head -c 3000001 /dev/zero > /plain/large && echo large
      head -c 3145729 /dev/zero 2> /dev/null > /dev/shm/large || echo full
      rm /small/full /dev/shm/large
      cp /bin/cat /small/cat; /small/cat /dev/null 2> /dev/null || echo noexec
      mknod /small/null c 1 3; (cat < /small/null) 2> /dev/null || echo nodev
      echo kept > /small/kept; echo kept > /plain/kept; echo kept > /dev/shm/kept
  - { name: kept, run: cat /small/kept /plain/kept /dev/shm/kept }
  - { name: layer, snapshot: { output: layer.squashfs } }
  - { name: still, run: cat /small/kept /plain/kept /dev/shm/kept; stat -c "%a %u %g" /small }
"#,
    );
    let built = Built::succeed(&project);
    let expected = ["750 1234 99999", "1777 0 0", "700 0 0", "tmpfs", "tmpfs", "tmpfs", "closed", "fits", "full"];
    assert_eq!(built.lines("look"), [&expected[..], &["large", "full", "noexec", "nodev"]].concat());
    assert_eq!(built.lines("kept"), ["kept"; 3]);
    assert_eq!(built.lines("still"), ["kept", "kept", "kept", "750 1234 99999"]);
    assert_eq!(names(&project.path("layer.squashfs")), Vec::<String>::new());
}

#[test]
fn caches_of_one_id_are_one_directory_and_of_another_id_another() {
    let project = project(
        r#"
mounts:
  one: { type: cache, target: /one, id: shared }
  two: { type: cache, target: /two, id: shared, options: [ro] }
  by-target: { type: cache, target: /cache, options: [mode=0750, uid=7] }
  other: { type: cache, target: /other }
containers:
  first: { rootfs: $TOOLS, mounts: [one, by-target] }
  second: { rootfs: $TOOLS, mounts: [two, by-target, other] }
steps:
  - { name: write, container: first, run: "echo one > /one/file; echo target > /cache/file" }
  - name: read
    container: second
    needs: [write]
    run: |
      cat /two/file /cache/file; ls /other
      stat -c "%a %u" /cache
      (echo x > /two/file) 2> /dev/null || echo closed
  - { name: full, container: second, snapshot: { mode: full, output: full.squashfs } }
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("read"), ["one", "target", "750 7", "closed"]);
    let names = names(&project.path("full.squashfs"));
    assert!(!names.iter().any(|name| name.contains("cache") || name == "/two" || name == "/other"), "{names:?}");
}

/// Returns the files below a directory that contain these bytes.
fn files_with(directory: &Path, bytes: &str) -> Vec<String> {
    let found = Command::new("grep").args(["-rlaF", "-e", bytes]).arg(directory).output().unwrap();
    assert!(found.status.code() < Some(2), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_secret_is_readable_by_the_steps_and_nowhere_in_the_store_or_an_image() {
    const FILE: &str = "the-password-of-a-file";
    const VARIABLE: &str = "the-password-of-a-variable";
    const CONTROL: &str = "what-no-secret-is";
    let project = project(
        r#"
mounts:
  file: { type: secret, source: password, target: /run/secrets/file }
  variable: { type: secret, env: RUNNER_TEST_PASSWORD, target: /etc/variable }
  for-ann: { type: secret, source: password, target: /for-ann, options: [uid=1000, gid=50, mode=0440] }
containers:
  c: { rootfs: $TOOLS, mounts: [file, variable, for-ann], scratch: { disk: true } }
steps:
  - name: use
    run: |
      stat -c "%n %a %u %g" /run/secrets/file /etc/variable /for-ann
      cat /run/secrets/file | wc -c; cat /etc/variable | wc -c
      (echo x > /etc/variable) 2> /dev/null || echo closed
      rm -f /etc/variable 2> /dev/null || echo kept
      env | grep -c the-password- || true
      echo what-no-secret-is; echo what-no-secret-is > /control
  - { name: other, user: "1000:1000", run: "cat /for-ann | wc -c; stat -c '%a %u %g' /etc/variable; cat /etc/variable | wc -c" }
  - { name: layer, snapshot: { output: layer.squashfs, compression: none } }
  - { name: again, run: cat /etc/variable | wc -c }
  - { name: full, snapshot: { mode: full, output: full.squashfs, compression: none } }
"#,
    );
    // Not in the project's directory, which is searched as a whole.
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), FILE).unwrap();
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project
        .write("build.yaml", &manifest.replace("source: password", &format!("source: {}", outside.path().display())));
    let mut command = project.command(&["apply", "--progress", "json"]);
    command.env("RUNNER_TEST_PASSWORD", VARIABLE);
    let built = Running::spawn(command).end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    let lines = built.lines("use");
    assert_eq!(lines[..3], ["/run/secrets/file 400 0 0", "/etc/variable 400 0 0", "/for-ann 440 1000 50"]);
    let lengths = [FILE, VARIABLE].map(|secret| secret.len().to_string());
    assert_eq!(lines[3..], [&lengths[0], &lengths[1], "closed", "kept", "0", CONTROL]);
    assert_eq!(built.lines("other"), [&lengths[0], "400 1000 1000", &lengths[1]]);
    assert_eq!(built.lines("again"), [lengths[1].as_str()]);
    for secret in [FILE, VARIABLE] {
        assert_eq!(files_with(&project.path(""), secret), Vec::<String>::new());
        assert!(!built.run.stdout.contains(secret) && !built.run.stderr.contains(secret), "{}", built.run);
    }
    // In the store's two layers, the outputs, which are the same files, the log and the manifest: the search works.
    let found = files_with(&project.path(""), CONTROL);
    for place in ["layers/sha256/", "layer.squashfs", "full.squashfs", "use.log"] {
        assert!(found.iter().any(|file| file.contains(place)), "{place}: {found:?}");
    }
    for image in ["layer.squashfs", "full.squashfs"] {
        let names = names(&project.path(image));
        assert!(!names.iter().any(|name| name.contains("secrets") || name.contains("variable")), "{names:?}");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_filesystem_of_the_kernel_is_mounted_with_its_options() {
    let project = project(
        r#"
mounts:
  ram: { type: ramfs, target: /ram, options: [mode=0710, noexec] }
  proc: { type: proc, target: /other/proc, options: [ro, subset=pid] }
containers:
  c: { rootfs: $TOOLS, mounts: [ram, proc, { type: sysfs, target: /own/sys, options: [ro] }] }
steps:
  - { name: look, run: "stat -f -c %T /ram /other/proc /own/sys; stat -c %a /ram; echo kept > /ram/kept" }
  - name: next
    run: |
      cat /ram/kept
      cp /bin/cat /ram/cat; /ram/cat /dev/null 2> /dev/null || echo noexec
      cd /other/proc; [ -e meminfo ] || echo only processes; echo [0-9]*
      cat /own/sys/class/net/lo/ifindex
  - { name: layer, snapshot: { output: layer.squashfs } }
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["ramfs", "proc", "sysfs", "710"]);
    assert_eq!(built.lines("next"), ["kept", "noexec", "only processes", "1", "1"]);
    assert_eq!(names(&project.path("layer.squashfs")), Vec::<String>::new());
}

#[test]
fn a_mount_below_another_one_is_seen_with_any_order_in_the_manifest() {
    let project = project(
        r#"
mounts:
  deepest: { type: bind, source: note, target: /work/sub/tmp/deep/note, options: [ro] }
  tmp: { type: tmpfs, target: /work/sub/tmp }
  sub: { type: cache, target: /work/sub }
  work: { type: bind, source: work, target: /work, options: [ro] }
containers:
  c: { rootfs: $TOOLS, mounts: [deepest, tmp, sub, work] }
steps:
  - name: write
    run: |
      cat /work/file /work/sub/tmp/deep/note
      echo cached > /work/sub/cached; echo kept > /work/sub/tmp/kept
      for path in /work/new /work/sub/tmp/deep/note; do
        (echo x > $path) 2> /dev/null || echo $path is closed
      done
  - { name: read, run: cat /work/sub/cached /work/sub/tmp/kept }
  - { name: layer, snapshot: { output: layer.squashfs } }
  - { name: after, run: cat /work/sub/cached /work/sub/tmp/kept /work/sub/tmp/deep/note }
"#,
    );
    project.write("work/file", "work\n");
    project.write("note", "note\n");
    fs::create_dir(project.path("work/sub")).unwrap();
    let built = Built::succeed(&project);
    let closed = ["/work/new", "/work/sub/tmp/deep/note"].map(|path| format!("{path} is closed"));
    assert_eq!(built.lines("write"), ["work", "note", &closed[0], &closed[1]]);
    assert_eq!(built.lines("read"), ["cached", "kept"]);
    assert_eq!(built.lines("after"), ["cached", "kept", "note"]);
    assert_eq!(names(&project.path("layer.squashfs")), Vec::<String>::new());
    // The directory of the host is unchanged.
    assert_eq!(fs::read_dir(project.path("work/sub")).unwrap().count(), 0);
}

#[test]
fn another_proc_and_another_sysfs_show_and_change_no_more_than_the_usual_ones() {
    let project = project(
        r#"
containers:
  c:
    rootfs: $TOOLS
    mounts: [{ type: proc, target: /t/proc }, { type: sysfs, target: /t/sys }]
steps:
  - name: look
    run: |
      for file in /t/proc/sys/kernel/core_pattern /t/proc/sysrq-trigger /t/sys/kernel/uevent_helper; do
        (exec 3>> $file) 2> /dev/null && echo "$file opens"
      done
      cat /t/proc/keys /t/proc/timer_list
      ls -A /t/sys/firmware
      grep -c . /t/proc/self/status > /dev/null && echo looked
"#,
    );
    assert_eq!(Built::succeed(&project).lines("look"), ["looked"]);
}

#[test]
fn a_step_of_another_user_gets_a_hint_how_a_secret_or_a_cache_becomes_its_own() {
    let mounts = |secret: &str, cache: &str| {
        format!(
            "[{{ type: secret, source: key, target: /run/key, options: [{secret}] }}, {{ type: cache, id: 'c{cache}', target: \
             /cache, options: [{cache}] }}]"
        )
    };
    let manifest = format!(
        "containers:\n  roots: {{ rootfs: $TOOLS, user: 1000, mounts: {} }}\n  own: {{ rootfs: $TOOLS, user: 1000, mounts: {} }}\n\
         steps:\n",
        mounts("uid=0", ""),
        mounts("uid=1000", "uid=1000")
    );
    let steps = ["roots", "own"].map(|container| {
        format!(
            "  - {{ name: {container}-secret, container: {container}, needs: [], run: cat /run/key > /dev/null }}\n\
         \x20 - {{ name: {container}-cache, container: {container}, needs: [], run: touch /cache/x }}\n"
        )
    });
    let project = project(&(manifest + &steps.concat()));
    project.write("key", "a secret");
    let built = Built::of(&project, &["--keep-going"]);
    for (step, about) in [("roots-secret", "the secret /run/key"), ("roots-cache", "the directory of the cache /cache")]
    {
        let reason = built.reason(step);
        assert!(reason.contains(about) && reason.contains("`options: [uid=1000]`"), "{}", built.run);
    }
    assert_eq!([built.status("own-secret"), built.status("own-cache")], ["ran", "ran"], "{}", built.run);
}

#[test]
fn a_step_that_unmounts_its_own_view_of_a_mount_takes_it_from_no_other_step() {
    let project = project(
        "
mounts:
  src: { type: bind, source: src, target: /src }
containers:
  c:
    rootfs: { programs: [/bin/sh, /bin/umount, /bin/rmdir, /bin/cat] }
    capabilities: { add: [SYS_ADMIN] }
    seccomp: unconfined
    mounts: [src, { type: tmpfs, target: /src/below }, { type: tmpfs, target: /own }]
steps:
  - { name: write, run: 'echo text > /src/below/file; echo text > /own/file' }
  - { name: unmount, run: 'umount /src/below; umount /own; ! cat /src/below/file /own/file' }
  - { name: next, run: 'cat /src/below/file /own/file' }
  - { name: remove, run: 'umount /src/below; rmdir /src/below; echo removed' }
",
    );
    fs::create_dir_all(project.path("src/below")).unwrap();
    let built = Built::of(&project, &[]);
    assert_eq!(["write", "unmount", "next", "remove"].map(|step| built.status(step)), ["ran", "ran", "ran", "failed"]);
    assert_eq!(built.text("next"), "text\ntext\n");
    assert!(built.reason("remove").starts_with("its mount /src/below is gone: a step has removed"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

also_with_runc! {
    a_bind_mount_is_the_hosts_directory_or_file_and_read_only_on_request,
    a_tmpfs_has_the_size_mode_owner_and_flags_of_its_options,
    caches_of_one_id_are_one_directory_and_of_another_id_another,
    a_secret_is_readable_by_the_steps_and_nowhere_in_the_store_or_an_image,
    a_filesystem_of_the_kernel_is_mounted_with_its_options,
    a_mount_below_another_one_is_seen_with_any_order_in_the_manifest,
    another_proc_and_another_sysfs_show_and_change_no_more_than_the_usual_ones,
    a_step_of_another_user_gets_a_hint_how_a_secret_or_a_cache_becomes_its_own,
    a_step_that_unmounts_its_own_view_of_a_mount_takes_it_from_no_other_step,
}
