//! Attacks on the host's memory and on a step's identity: a container's memory is bounded, and no number makes it root.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::built::{Built, Gate, Running, project};

/// Makes `FILES` empty files, and prints how many it made.
const MANY: &str = "n=0; while [ $n -lt FILES ] && true 2> /dev/null > $1/file$n; do n=$((n+1)); done; echo $n";

#[test]
fn a_scratch_in_memory_takes_no_more_empty_files_than_it_has_pages() {
    let project = project(&format!(
        r#"
mounts:
  tmp: {{ type: tmpfs, target: /tmp, options: [size=8m] }}
containers:
  c: {{ rootfs: $TOOLS, scratch: {{ tmpfs: 16MiB }}, mounts: [tmp] }}
steps:
  - {{ name: tmp, run: "set +e; set -- /tmp; {many}" }}
  - {{ name: dev, run: "set +e; set -- /dev; {many}" }}
  - {{ name: shm, run: "set +e; set -- /dev/shm; {many}" }}
  - {{ name: root, run: "set +e; set -- /; {many}" }}
"#,
        many = MANY.replace("FILES", "40000")
    ));
    let built = Built::of(&project, &["--keep-going"]);
    let made = |step: &str| built.lines(step)[0].parse::<u32>().unwrap();
    // 8 and 16 MiB are 2048 and 4096 pages; runner's own files take a few.
    assert!((1900..2048).contains(&made("tmp")), "{}", built.run);
    assert!((3000..4096).contains(&made("root")), "{}", built.run);
    for step in ["dev", "shm"] {
        assert!((16_000..=16_384).contains(&made(step)), "{step}: {}", built.run);
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn extended_attributes_take_no_more_memory_than_the_scratch_may() {
    let project = project(
        r#"
containers:
  c:
    rootfs: { programs: [/bin/sh, /usr/bin/setfattr, /usr/bin/head, /usr/bin/tr, /usr/bin/touch, /bin/rm] }
    scratch: { tmpfs: 8MiB }
steps:
  - name: fill
    run: |
      value=$(head -c 60000 /dev/zero | tr '\0' x)
      touch /file; n=0
      while [ $n -lt 400 ] && setfattr -n user.n$n -v "$value" /file 2> /dev/null; do n=$((n+1)); done
      echo $n
"#,
    );
    let built = Built::succeed(&project);
    // Linux counts them from 6.6 on, and allows no step any on a tmpfs before.
    let most = (8 << 20) / 4096 * 1024 / 60_000;
    assert!(built.lines("fill")[0].parse::<u32>().unwrap() <= most, "{}", built.run);
}

#[test]
fn an_archive_with_more_files_than_the_store_has_room_for_is_refused_and_leaves_nothing() {
    let project = project(
        "\ncontainers: { c: { rootfs: { tar: bomb.tar }, scratch: { disk: true } } }\n\
         steps: [{ name: s, exec: [/nothing] }]\n",
    );
    let mut archive = tar::Builder::new(std::io::BufWriter::new(File::create(project.path("bomb.tar")).unwrap()));
    for number in 0..20_000 {
        let mut header = tar::Header::new_ustar();
        header.set_path(format!("file{number}")).unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, std::io::empty()).unwrap();
    }
    archive.into_inner().unwrap().into_inner().unwrap();
    let store = "mkdir store && exec unshare -m sh -c 'mount -t tmpfs -o size=64m,nr_inodes=9000,mode=0700 none store && \
                 \"$@\"; code=$?; find store/scratch store/tmp -mindepth 1; exit $code' sh \"$@\"";
    let run = project.runner_in_shell(store, &["apply", "--progress", "json"]);
    assert_eq!(run.code, 3, "{run}");
    for words in ["No space left on device", "make room where the store is, as with `runner store gc`"] {
        assert!(run.stdout.contains(words), "{words}: {run}");
    }
    assert!(!run.stdout.contains("\nstore/"), "{run}");
}

#[test]
fn an_archive_of_many_small_files_that_fill_the_pages_of_a_scratch_is_refused_as_too_large() {
    let project = project(
        "\ncontainers: { c: { rootfs: { tar: small.tar }, scratch: { tmpfs: 8MiB } } }\n\
         steps: [{ name: s, exec: [/nothing] }]\n",
    );
    // 1,900 files of 100 bytes and one of 1 MiB take more pages than 8 MiB has, and fewer bytes.
    project.script(
        "mkdir root && cd root && seq 1900 | while read n; do printf %0100d 0 > $n; done && head -c 1M /dev/zero | tr '\\0' x > z && tar -cf ../small.tar .",
    );
    let run = project.runner(&["apply", "--progress", "json"]);
    assert_eq!(run.code, 2, "{run}");
    for words in ["it takes more space than the scratch of the container has: 8MiB", "`scratch: {disk: true}`"] {
        assert!(run.stdout.contains(words), "{words}: {run}");
    }
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn a_sparse_file_of_a_terabyte_in_a_bind_delays_no_plan() {
    let project = project(
        r#"
mounts:
  writable: { type: bind, source: shared, target: /shared }
  read: { type: bind, source: shared, target: /shared, options: [ro] }
containers:
  hostile: { rootfs: { programs: [/bin/sh, /usr/bin/truncate] }, mounts: [writable] }
  victim: { rootfs: $TOOLS, mounts: [read] }
steps:
  - { name: plant, container: hostile, run: truncate -s 1T /shared/huge }
  - { name: victim, container: victim, needs: [plant], run: stat -c %s /shared/huge }
  - { name: layer, container: victim, snapshot: {} }
"#,
    );
    std::fs::create_dir(project.path("shared")).unwrap();
    // Reading it all would take longer than a test can wait.
    let built = Built::succeed(&project);
    assert_eq!(built.lines("victim"), [(1_u64 << 40).to_string()]);
    let changed = || project.runner(&["plan", "--target", "layer"]).stdout.contains("/shared, which changed: huge");
    assert!(!changed());
    let huge = File::options().write(true).open(project.path("shared/huge")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, b"x", 1 << 39).unwrap();
    assert!(changed(), "{}", project.runner(&["plan", "--target", "layer"]));
}

/// The digest of an image or an archive is its SHA-256, so runner hashes the holes of one of a terabyte, for half an hour.
#[test]
fn a_sparse_image_of_a_terabyte_is_named_while_it_is_read_until_a_signal_ends_that() {
    for kind in ["squashfs", "tar"] {
        let project = project(&format!(
            "\ncontainers: {{ c: {{ rootfs: {{ {kind}: huge }} }} }}\nsteps: [{{ name: s, exec: [/nothing] }}, {{ name: l, snapshot: {{}} }}]\n"
        ));
        File::create(project.path("huge")).unwrap().set_len(1 << 40).unwrap();
        let mut build = Running::start(&project, &[]);
        let events = BufReader::new(build.stdout());
        let words = format!("reading {}, all 1TiB of it", project.path("huge").display());
        assert!(events.lines().any(|line| line.unwrap().contains(&words)), "the events end without {words}");
        build.signal(Signal::INT);
        let built = build.end();
        assert_eq!(built.run.code, 130, "{kind}: {}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
        let mut plan = project.command(&["plan"]);
        let mut plan = plan.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let warnings = BufReader::new(plan.stderr.take().unwrap());
        assert!(warnings.lines().any(|line| line.unwrap().contains(&words)), "the plan ends without {words}");
        kill_process(Pid::from_child(&plan), Signal::INT).unwrap();
        assert_eq!(plan.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    }
}

#[test]
fn a_user_with_the_number_4294967295_does_not_run_as_root() {
    let project = project(
        r#"
containers:
  made: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: layer } }
steps:
  - name: hostile
    container: made
    run: |
      mkdir -p /etc
      echo 'eve:x:4294967295:0::/:' > /etc/passwd; echo 'ann:x:1000:4294967295::/:' >> /etc/passwd
      echo 'bob:x:1001:1001::/:' >> /etc/passwd; echo 'all:x:4294967295:bob' > /etc/group
  - { name: layer, container: made, snapshot: { mode: full } }
  - { name: eve, container: c, user: eve, needs: [layer], run: id }
  - { name: ann, container: c, user: ann, needs: [layer], run: id }
  - { name: bob, container: c, user: bob, needs: [layer], run: id }
  - { name: of-all, container: c, user: "1000:all", needs: [layer], run: id }
"#,
    );
    let built = Built::of(&project, &["--keep-going"]);
    for step in ["eve", "ann", "bob", "of-all"] {
        assert_eq!(built.status(step), "failed", "{}", built.run);
        assert!(built.reason(step).contains("is 4294967295, which is not a valid id"), "{}", built.reason(step));
    }
}

#[test]
fn directories_above_a_device_are_closed_to_others_whatever_the_umask() {
    let project = project(
        r#"
devices:
  inside: { path: /dev/null, target: /dev/deep/down/null }
  outside: { path: /dev/null, target: /opt/deep/null }
containers:
  c: { rootfs: $TOOLS, devices: [inside, outside] }
steps:
  - { name: s, run: stat -c "%n %a" /dev/deep /dev/deep/down /opt /opt/deep }
"#,
    );
    let built = Running::spawn(project.shell("umask 0; exec \"$@\"", &["apply", "--progress", "json"])).end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    for line in built.lines("s") {
        assert!(line.ends_with(" 755"), "{line}");
    }
}

#[test]
fn a_step_that_a_bind_or_a_full_scratch_stops_gets_a_hint_with_the_option() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [nodev, nosuid] }
containers:
  c: { rootfs: $TOOLS, mounts: [src], scratch: { tmpfs: 24MiB } }
steps:
  - { name: node, run: cat /src/null }
  - { name: full, needs: [], run: cat /dev/zero > /file }
  - { name: set-uid, needs: [], user: "1000", run: "/src/id -u; exit 1" }
  - { name: other, needs: [], run: cat /src/missing }
"#,
    );
    std::fs::create_dir(project.path("src")).unwrap();
    project.script("mknod src/null c 1 3; chmod 666 src/null; printf '#!/bin/sh\nid -u\n' > src/id; chmod 4755 src/id");
    let built = Built::of(&project, &["--keep-going"]);
    let reason = |step: &str| built.reason(step).to_owned();
    assert!(reason("node").contains("/src/null is a device node") && reason("node").contains("`options: [dev]`"));
    assert!(reason("full").contains("may take 24MiB in memory and be 6144 files; `scratch: {disk: true}`"));
    assert!(reason("set-uid").contains("/src/id is set-uid") && reason("set-uid").contains("`options: [suid]`"));
    assert_eq!(reason("other"), "exit code 1");
}

/// Locks the loop devices with the numbers from 77 to 79, which nothing else on a host uses, until the file is closed: the lock
/// on the node is one of the whole host.
fn take_loop_numbers() -> File {
    let file = File::open("/dev/loop-control").unwrap();
    file.lock().unwrap();
    file
}

#[test]
fn a_file_that_a_step_leaves_attached_to_a_loop_device_is_detached() {
    let _turn = take_loop_numbers();
    let number = 77;
    let node = format!("/dev/loop{number}");
    let backing = format!("/sys/block/loop{number}/loop/backing_file");
    let _ = Command::new("mknod").args([&node, "b", "7", &number.to_string()]).output().unwrap();
    let project = project(&format!(
        r#"
containers:
  c:
    rootfs: {{ programs: [/bin/sh, /usr/bin/truncate, /usr/sbin/losetup, /bin/cat] }}
    devices: [/dev/loop-control, {node}]
steps:
  - {{ name: s, run: "truncate -s 1M /image; losetup {node} /image; cat {backing}" }}
"#
    ));
    let built = Built::succeed(&project);
    assert!(built.text("s").contains("image"), "{}", built.run);
    assert!(!std::path::Path::new(&backing).exists(), "{node} is still attached");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_session_without_space_names_the_full_filesystem() {
    let project = project(
        "
containers:
  memory: { rootfs: $TOOLS, scratch: { tmpfs: 2MiB } }
  disk: { rootfs: $TOOLS, scratch: { disk: true }, hostname: other }
steps:
  - { name: memory, container: memory, run: ':' }
  - { name: disk, container: disk, run: ':' }
",
    );
    let store = "mkdir store && exec unshare -m sh -c 'mount -t tmpfs -o size=2m,mode=0700 none store && exec \"$@\"' sh \"$@\"";
    for (step, words) in [
        (
            "memory",
            "the scratch of the container, where changes live, is full; give the container more room, as with `scratch:",
        ),
        ("disk", " of 2MiB left; make room with `runner store gc`, or choose another store with `--store DIRECTORY`"),
    ] {
        let run = project.runner_in_shell(store, &["apply", "--target", step]);
        assert!(run.code == 3 && run.stdout.contains(words), "{step}: {run}");
        std::fs::remove_dir(project.path("store")).unwrap();
    }
}

#[test]
fn a_file_left_attached_by_a_killed_build_is_detached_by_the_next_start() {
    let _turn = take_loop_numbers();
    // The second is attached to a file of the host in between.
    let numbers = [78, 79];
    let nodes = numbers.map(|number| format!("/dev/loop{number}"));
    let backing = |number: u32| format!("/sys/block/loop{number}/loop/backing_file");
    for (node, number) in nodes.iter().zip(numbers) {
        let _ = Command::new("mknod").args([node, "b", "7", &number.to_string()]).output().unwrap();
        // A test that was killed may have left it attached.
        let _ = Command::new("losetup").args(["-d", node]).output().unwrap();
    }
    let [own, other] = &nodes;
    let project = project(&format!(
        r#"
mounts: {{ $GATE }}
containers:
  c:
    rootfs: {{ programs: [/bin/sh, /usr/bin/truncate, /usr/sbin/losetup, /bin/sleep, /bin/touch] }}
    devices: [/dev/loop-control, {own}, {other}]
    mounts: [gate]
steps:
  - {{ name: s, run: "truncate -s 1M /image; losetup {own} /image; sh /gate/meet s" }}
"#
    ));
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("s");
    assert!(std::path::Path::new(&backing(numbers[0])).exists());
    project.write("of-host", &"x".repeat(1 << 20));
    let attached = Command::new("losetup").arg(other).arg(project.path("of-host")).status().unwrap();
    assert!(attached.success());
    build.signal(Signal::KILL);
    drop(build);
    gate.open("s");
    let next = project.runner(&["run", "c", "--", "sh", "-c", ":"]);
    let stays = std::path::Path::new(&backing(numbers[1])).exists();
    let _ = Command::new("losetup").args(["-d", other]).status().unwrap();
    assert_eq!(next.code, 0, "{next}");
    assert!(!std::path::Path::new(&backing(numbers[0])).exists(), "{own} is still attached");
    assert!(stays, "a device of the host was detached");
}

also_with_runc! {
    a_scratch_in_memory_takes_no_more_empty_files_than_it_has_pages,
    a_user_with_the_number_4294967295_does_not_run_as_root,
    directories_above_a_device_are_closed_to_others_whatever_the_umask,
    a_step_that_a_bind_or_a_full_scratch_stops_gets_a_hint_with_the_option,
    a_file_that_a_step_leaves_attached_to_a_loop_device_is_detached,
    a_file_left_attached_by_a_killed_build_is_detached_by_the_next_start,
}
