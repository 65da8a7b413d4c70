//! Devices: those that the manifest lists exist with exactly the listed attributes, and no other can be opened.

use crate::built::{Built, Running, names_in, project};
use crate::project::Project;
use crate::runtime::runtime;

/// loop-control: it exists on every host that runs these tests, and opening it changes nothing.
const LISTED: &str = r#"
devices:
  read: { path: /dev/loop-control, target: /dev/node, access: r, mode: "0640", uid: 1234, gid: 99999 }
  write: { path: /dev/loop-control, target: /dev/deep/er/node, access: w }
  make: { path: /dev/loop-control, target: /dev/node, access: m }
  outside: { path: /dev/loop-control, target: /opt/new/node, access: rw, mode: "0604", gid: 7 }
containers:
  none: { rootfs: $TOOLS }
  reader: { rootfs: $TOOLS, devices: [read] }
  writer: { rootfs: $TOOLS, devices: [write] }
  maker: { rootfs: $TOOLS, devices: [make] }
  outsider: { rootfs: $TOOLS, devices: [outside] }
  plain: { rootfs: $TOOLS, devices: [/dev/loop-control] }
steps:
  - name: unlisted
    container: none
    run: |
      try() {
        mknod /made $1 $2 $3
        (exec 3< /made) 2> /dev/null && echo "$1 $2:$3 can be read"
        (exec 3> /made) 2> /dev/null && echo "$1 $2:$3 can be written"
        (exec 3< /made) 2>&1 | grep -q "Operation not permitted" && echo "$1 $2:$3 is refused"
        rm /made
      }
      DISK
      try c 1 1; try c 1 11; try c 10 200; try c 10 237; try b 7 0; try c 4 0; try c 4 64; try c 10 229
      mknod /made c 1 5; head -c 3 /made | wc -c
      ls /dev
  - name: reader
    container: reader
    run: |
      stat -c "%F %a %u %g %t:%T" /dev/node
      (exec 3< /dev/node) && echo read
      (exec 3> /dev/node) || true
      (exec 3<> /dev/node) || true
      mknod /another c 10 237; (exec 3< /another) && echo read
  - name: writer
    container: writer
    run: |
      stat -c %F /dev/deep/er/node
      (exec 3< /dev/deep/er/node) || true
      (exec 3> /dev/deep/er/node) && echo written
  - { name: maker, container: maker, run: "mknod /dev/x c 10 237; (exec 3< /dev/x) || (exec 3> /dev/node) || true" }
  - name: outsider
    container: outsider
    run: |
      stat -c "%F %a %u %g" /opt/new/node
      (exec 3<> /opt/new/node) && echo both
  - { name: layer, container: outsider, snapshot: { output: layer.squashfs } }
  - { name: full, container: outsider, snapshot: { mode: full, output: full.squashfs } }
  - { name: plain, container: plain, run: "(exec 3<> /dev/loop-control) && echo both; stat -c %a /dev/loop-control" }
"#;

const NUMBERS: [&str; 8] = ["c 1:1", "c 1:11", "c 10:200", "c 10:237", "b 7:0", "c 4:0", "c 4:64", "c 10:229"];

/// Returns the first disk of this host that is no loop device, else a loop device.
fn disk() -> (u64, u64) {
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let numbers = disks.filter(|disk| !disk.file_name().to_string_lossy().starts_with("loop"));
    let text = numbers.map(|disk| std::fs::read_to_string(disk.path().join("dev")).unwrap()).next();
    let text = text.unwrap_or_else(|| "7:1".to_owned());
    let (major, minor) = text.trim().split_once(':').unwrap();
    (major.parse().unwrap(), minor.parse().unwrap())
}

fn listed() -> Project {
    let (major, minor) = disk();
    project(&LISTED.replace("DISK", &format!("try b {major} {minor}")))
}

#[track_caller]
fn check(project: &Project, built: &Built) {
    assert_eq!(built.run.code, 0, "{}", built.run);
    let (major, minor) = disk();
    let mut unlisted = vec![format!("b {major}:{minor} is refused")];
    unlisted.extend(NUMBERS.map(|number| format!("{number} is refused")));
    let lines = built.lines("unlisted");
    assert_eq!(lines[..unlisted.len()], unlisted);
    let nodes = "3 console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let found: Vec<&str> = lines[unlisted.len()..].iter().map(String::as_str).filter(|name| *name != "core").collect();
    assert_eq!(
        found.join(" "),
        nodes.replace("core ", "").replace("console ", if found.contains(&"console") { "console " } else { "" })
    );

    let kinds = |step: &str| -> Vec<String> {
        let lines = built.lines(step).into_iter();
        lines.map(|line| if line.contains("Operation not permitted") { "refused".into() } else { line }).collect()
    };
    let mut reader = kinds("reader");
    // Standard output and standard error are pipes of their own.
    reader[1..].sort();
    assert_eq!(reader, ["character special file 640 1234 99999 a:ed", "read", "read", "refused", "refused"]);
    let mut writer = kinds("writer");
    writer[1..].sort();
    assert_eq!(writer, ["character special file", "refused", "written"]);
    assert_eq!(kinds("maker"), ["refused", "refused"]);
    assert_eq!(kinds("outsider"), ["character special file 604 0 7", "both"]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata("/dev/loop-control").unwrap()) & 0o7777;
    assert_eq!(kinds("plain"), ["both".to_owned(), format!("{mode:o}")]);
    for image in ["layer.squashfs", "full.squashfs"] {
        let names = names_in(&project.path(image));
        assert!(!names.iter().any(|name| name.contains("opt") || name.contains("node")), "{names:?}");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn only_listed_devices_can_be_opened_and_only_as_listed() {
    let project = listed();
    check(&project, &Built::of(&project, &[]));
}

#[test]
fn only_listed_devices_can_be_opened_with_cgroup_v2_too() {
    let project = listed();
    let script = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"";
    let command = project.shell_in_namespace(script, &["apply", "--progress", "json"]);
    check(&project, &Running::spawn(command).end());
}

/// As with a container for each step: no step sees files that another one made, removed or changed in `/dev`; the container's
/// mounts there stay.
#[test]
fn each_step_has_a_dev_of_its_own() {
    let project = project(
        r#"
devices:
  deep: { path: /dev/loop-control, target: /dev/deep/er/node, mode: "0640", uid: 1234, gid: 99999 }
mounts:
  kept: { type: tmpfs, target: /dev/kept/below }
  shared: { type: bind, source: shared, target: /dev/shm/shared, cache: ignore }
containers: { c: { rootfs: $TOOLS, devices: [deep], mounts: [kept, shared] } }
steps:
  - { name: first, run: ls -AlR --time-style=+ /dev }
  - name: change
    run: |
      rm -r /dev/zero /dev/fd /dev/deep
      chmod 600 /dev/null
      chown 1 /dev/full
      mkdir /dev/new
      echo text > /dev/new/file
      echo text > /dev/shm/file
      ln -sfn /new /dev/ptmx
      echo kept > /dev/kept/below/file
      echo shared > /dev/shm/shared/file
  - { name: shown, run: cat /dev/kept/below/file /dev/shm/shared/file; rm /dev/kept/below/file /dev/shm/shared/file }
  - { name: last, run: ls -AlR --time-style=+ /dev }
  - { name: a, needs: [last], run: "echo > /dev/a; echo > /dev/kept/below/a; until [ -e /dev/kept/below/b ]; do sleep 0.01; done; [ ! -e /dev/b ]" }
  - { name: b, needs: [last], run: "echo > /dev/b; echo > /dev/kept/below/b; until [ -e /dev/kept/below/a ]; do sleep 0.01; done; [ ! -e /dev/a ]" }
  - { name: layer, needs: [a, b], snapshot: { output: layer.squashfs } }
"#,
    );
    std::fs::create_dir(project.path("shared")).unwrap();
    let built = Built::of(&project, &["-j", "2"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("first"), built.lines("last"));
    assert!(built.lines("first").iter().any(|line| line.starts_with("crw-r----- 1 1234 99999")), "{}", built.run);
    assert_eq!(built.lines("shown"), ["kept", "shared"]);
    let names = names_in(&project.path("layer.squashfs"));
    assert!(!names.iter().any(|name| name.contains("dev")), "{names:?}");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

/// `embedded` gives the `/dev` of a step that has ended to a later one, but only if it is unchanged.
#[test]
fn a_dev_that_a_step_has_changed_in_any_way_is_given_to_no_other_step() {
    const CHANGES: [&str; 15] = [
        "chmod 600 /dev/null",
        "chown 1 /dev/full",
        "chmod 666 /dev/full",
        "touch -d @1 /dev/tty",
        "echo > /dev/file",
        "mkdir /dev/net",
        "rm /dev/zero",
        "ln /dev/zero /dev/one",
        "ln -sfn /etc /dev/fd",
        "rm /dev/random; mknod /dev/random c 1 9",
        "chmod 755 /dev/mqueue",
        "chmod 700 /dev",
        "echo > /dev/shm/file",
        "chmod 755 /dev/shm",
        "chmod 600 /dev/pts/ptmx",
    ];
    // No step changes urandom, so its last change is the time when the `/dev` was made. A kernel's clock may have ticks of 10 ms.
    const MADE: &str = "stat -c made=%z /dev/urandom";
    const LIST: &str = "ls -AlR --time-style=+%Y /dev; sleep 0.02";
    let mut steps = String::new();
    let mut add = |name: &str, run: &str| steps += &format!("  - {{ name: {name}, run: {run:?} }}\n");
    for n in 0..20 {
        add(&format!("same-{n}"), &format!("{MADE}; {LIST}"));
    }
    for (n, change) in CHANGES.iter().enumerate() {
        add(&format!("change-{n}"), change);
        add(&format!("after-{n}"), &format!("{MADE}; {LIST}"));
        add(&format!("later-{n}"), &format!("{MADE}; {LIST}"));
    }
    let project = project(&format!("containers: {{ c: {{ rootfs: $TOOLS }} }}\nsteps:\n{steps}"));
    let built = Built::succeed(&project);
    let (made, files) = (|step: &str| built.lines(step).remove(0), |step: &str| built.lines(step).split_off(1));
    let first = files("same-0");
    for (n, change) in CHANGES.iter().enumerate() {
        for after in ["after", "later"] {
            assert_eq!(files(&format!("{after}-{n}")), first, "{change}");
        }
    }
    let mut made: Vec<String> = (0..20).map(|n| made(&format!("same-{n}"))).collect();
    made.sort();
    made.dedup();
    // With an external runtime each step has another one.
    assert!(runtime() != "embedded" || made.len() < 15, "none was given to a later step: {made:?}");
}

also_with_runc! {
    only_listed_devices_can_be_opened_and_only_as_listed,
    only_listed_devices_can_be_opened_with_cgroup_v2_too,
    each_step_has_a_dev_of_its_own,
    a_dev_that_a_step_has_changed_in_any_way_is_given_to_no_other_step,
}
