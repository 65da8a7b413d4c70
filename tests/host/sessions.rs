//! Sessions: the state that lasts from one step to the next, and the state that does not.

use std::io::{BufRead, BufReader};

use crate::built::{Built, Gate, Running, names_in, processes_of, project, unique_seconds, wait_for};

#[test]
fn the_files_of_a_step_are_seen_by_the_next_one_and_after_a_snapshot() {
    let project = project(
        r#"
mounts:
  tmp: { type: tmpfs, target: /tmp, options: [nodev, nosuid, size=8m, mode=1777] }
containers:
  c: { rootfs: $TOOLS, mounts: [tmp] }
steps:
  - { name: write, run: echo root > /in-root; echo tmp > /tmp/in-tmp; mkdir /folder; rm /bin/tr }
  - { name: before, run: "cat /in-root /tmp/in-tmp; [ -e /bin/tr ] || echo gone" }
  - { name: first, snapshot: { output: out/first.squashfs } }
  - { name: after, run: "cat /in-root /tmp/in-tmp; [ -e /bin/tr ] || echo gone; echo more >> /in-root; echo more >> /tmp/in-tmp" }
  - { name: second, snapshot: { mode: full, output: out/second.squashfs } }
  - { name: last, run: "cat /in-root /tmp/in-tmp; [ -e /bin/tr ] || echo gone" }
"#,
    );
    let built = Built::succeed(&project);
    for step in ["before", "after"] {
        let text = built.text(step);
        assert!(text.starts_with("root\ntmp\n") && text.ends_with("gone\n"), "{step}: {text}");
    }
    let text = built.text("last");
    assert!(text.starts_with("root\nmore\ntmp\nmore\n") && text.ends_with("gone\n"), "{text}");
    for image in ["out/first.squashfs", "out/second.squashfs"] {
        let names = names_in(&project.path(image));
        assert!(names.contains(&"/in-root".to_owned()), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("in-tmp")), "{names:?}");
    }
}

#[test]
fn no_process_and_no_ipc_object_outlives_its_step() {
    let seconds = unique_seconds();
    let sleep = format!("sleep {seconds}");
    let project = project(
        &r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - name: leave
    run: |
      sleep SECONDS &
      setsid sleep SECONDS > /gate/kept-open 2>&1 < /dev/null &
      (setsid sh -c 'trap "" HUP TERM INT; sleep SECONDS' &)
      ipcmk -M 4096; ipcmk -Q; ipcmk -S 1
      echo shm > /dev/shm/left
      mkdir /dev/mqueue/x 2> /dev/null || touch /dev/mqueue/queue
      sh /gate/meet leave
  - name: look
    run: |
      sh /gate/meet look
      cd /proc; echo processes [0-9]*
      for kind in shm msg sem; do wc -l < /proc/sysvipc/$kind; done
      echo left /dev/shm/* /dev/mqueue/*
"#
        .replace("SECONDS", &seconds),
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("leave");
    wait_for("what the step leaves behind", || (processes_of(&sleep).len() == 3).then_some(()));
    gate.open("leave");
    gate.await_step("look");
    assert_eq!(processes_of(&sleep), Vec::<String>::new());
    gate.open("look");
    let built = build.succeed();
    // Each of the three tables has only its heading.
    let expected = ["processes 1", "1", "1", "1", "left /dev/shm/* /dev/mqueue/*"];
    let lines = built.lines("look");
    assert!(lines[0].starts_with(expected[0]) && !lines[0].contains("  "), "{lines:?}");
    assert_eq!(lines[0].split(' ').count(), 2, "{lines:?}");
    assert_eq!(lines[1..], expected[1..]);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn steps_that_run_at_once_in_one_container_see_and_signal_only_themselves() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate], capabilities: { add: [SYS_PTRACE, SYS_ADMIN] } }
steps:
  - { name: one, needs: [], timeout: 60s, exec: [sh, /gate/pair, one, two] }
  - { name: two, needs: [], timeout: 60s, exec: [sh, /gate/pair, two, one] }
"#,
    );
    project.write(
        "gate/pair",
        r"
touch /here-$1
until [ -e /here-$2 ]; do sleep 0.02; done
cd /proc; echo processes [0-9]*
kill -KILL -1 2> /dev/null && echo killed
for pid in 0 2 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$pid ] && echo $pid is there; done
cat /proc/1/comm
touch /done-$1
until [ -e /done-$2 ]; do sleep 0.02; done
",
    );
    let built = Built::of(&project, &["-j", "2"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    for step in ["one", "two"] {
        let lines = built.lines(step);
        assert_eq!(lines.first().unwrap(), "processes 1");
        assert_eq!(lines[1..], ["sh"]);
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn two_first_steps_of_a_session_run_in_parallel() {
    // Both find the session not started; the one that starts it must not block the other.
    let mut manifest = String::from("containers:\n");
    for container in 0..8 {
        manifest += &format!("  c{container}: {{ rootfs: $TOOLS }}\n");
    }
    manifest += "steps:\n";
    for container in 0..8 {
        for (me, other) in [("a", "b"), ("b", "a")] {
            manifest += &format!(
                "  - {{ name: {me}{container}, container: c{container}, needs: [], timeout: 30s, \
                 run: \"touch /{me}; until [ -e /{other} ]; do sleep 0.02; done\" }}\n"
            );
        }
    }
    let project = project(&manifest);
    let built = Built::of(&project, &["-j", "16"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
}

/// The order in which these steps begin and end is one in which init once took a step that had just begun for one that had ended:
/// the second of two parallel steps, after two that ended in turn and one alone. Init then waited for the end of that step, and
/// reported and ended no other. The steps of `order` enforce the order.
#[test]
fn the_end_of_a_step_is_reported_while_one_that_began_after_it_runs() {
    let project = project(
        r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] }, order: { rootfs: $TOOLS, mounts: [gate] } }
steps:
  - { name: a, container: c, needs: [], run: 'touch /gate/a; until [ -e /gate/b-over ]; do sleep 0.01; done' }
  - { name: a-runs, container: order, needs: [], run: 'until [ -e /gate/a ]; do sleep 0.01; done' }
  - { name: b, container: c, needs: [a-runs], run: 'true' }
  - { name: b-over, container: order, needs: [b], run: touch /gate/b-over }
  - { name: alone, container: c, needs: [a, b], run: 'true' }
  - { name: d, container: c, needs: [alone], run: 'touch /gate/d; until [ -e /gate/e ]; do sleep 0.01; done' }
  - { name: d-runs, container: order, needs: [b-over], run: 'until [ -e /gate/d ]; do sleep 0.01; done' }
  - name: e
    container: c
    needs: [d-runs]
    run: |
      touch /gate/e
      i=0; until [ -e /gate/d-over ] || [ $i = 1000 ]; do sleep 0.01; i=$((i+1)); done
      [ -e /gate/d-over ]
  - { name: d-over, container: order, needs: [d], run: touch /gate/d-over }
"#,
    );
    let _gate = Gate::new(&project);
    let built = Built::of(&project, &["-j", "4"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
}

#[test]
fn no_descriptor_of_runner_leaks_into_a_step() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /tmp }] }
steps:
  - { name: first, exec: [ls, /proc/self/fd] }
  - { name: layer, snapshot: {} }
  - { name: second, exec: [ls, /proc/self/fd] }
  - { name: kinds, exec: [stat, -L, -c, "%F", /proc/self/fd/0, /proc/self/fd/1, /proc/self/fd/2] }
"#,
    );
    let built = Built::succeed(&project);
    for step in ["first", "second"] {
        // The last is the directory that ls itself reads.
        assert_eq!(built.lines(step), ["0", "1", "2", "3"], "{step}");
    }
    assert_eq!(built.lines("kinds"), ["character special file", "fifo", "fifo"]);
}

#[test]
fn each_build_begins_with_a_new_root_and_the_same_cache() {
    let project = project(
        r#"
mounts:
  cache: { type: cache, target: /cache, id: counted }
containers:
  c: { rootfs: $TOOLS, mounts: [cache] }
steps:
  - name: count
    always: true
    run: |
      echo once >> /cache/count; echo once >> /count
      wc -l < /cache/count; wc -l < /count
  - { name: layer, snapshot: { output: layer.squashfs } }
"#,
    );
    assert_eq!(Built::succeed(&project).lines("count"), ["1", "1"]);
    assert_eq!(Built::succeed(&project).lines("count"), ["2", "1"]);
    let names = names_in(&project.path("layer.squashfs"));
    assert!(!names.iter().any(|name| name.contains("cache")), "{names:?}");
}

#[test]
fn a_step_starts_even_if_its_proc_blocks_the_preforked_process() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate], capabilities: { add: [SYS_ADMIN] } }
  other: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - name: breaks-and-fixes
    container: c
    run: |
      mkdir /away; mount --move /proc /away || true
      rm -r /proc; echo file > /proc
      sh /gate/meet broken
      rm /proc; mkdir /proc
  - { name: after-the-break, container: other, run: sh /gate/meet begin }
  - { name: fails, container: c, needs: [after-the-break], run: echo started }
  - { name: starts, container: c, needs: [breaks-and-fixes], exec: [cat, /proc/self/comm] }
"#,
    );
    let gate = Gate::new(&project);
    let mut build = Running::start(&project, &["--keep-going", "-j", "2"]);
    gate.await_step("broken");
    gate.open("begin");
    let mut ends = Vec::new();
    for line in BufReader::new(build.stdout()).lines() {
        let event: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if event["event"] == "step_finished" {
            ends.push(format!("{} {} {}", event["step"], event["status"], event["reason"]).replace('"', ""));
            if event["step"] == "fails" {
                gate.open("broken");
            }
        }
    }
    let ended = |name: &str| ends.iter().find(|end| end.starts_with(name)).cloned().unwrap_or_default();
    // With runc, no part of a step is made before it is requested.
    let why = ended("fails ");
    assert!(why.contains(" failed ") && why.contains("/proc"), "{ends:?}");
    assert!(ended("starts ").contains(" ran "), "{ends:?}");
}

#[test]
fn files_and_directories_have_the_same_numbers_after_the_kernel_has_forgotten_them() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  base: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: image }, mounts: [gate] }
  old: { rootfs: { snapshot: image }, xino: false }
steps:
  - { name: image, container: base, snapshot: { mode: full } }
  - name: numbers
    container: c
    run: |
      for n in $(seq 300); do mkdir -p /made/$n; done
      numbers() { stat -c '%d %i %n' / /bin/* /lib/* /usr /usr/* /made /made/*; }
      before=$(numbers)
      sh /gate/meet numbers
      [ "$before" = "$(numbers)" ] && echo same
      for path in / /usr /made /bin/sh /lib64/*; do stat -L -c %d $path; done > /devices
      device=$(stat -c %d /)
      grep -c -v -x $device /devices || echo one device
      stat -c %i /usr
  - { name: small, container: old, run: "stat -c %i / /usr /bin/sh" }
"#,
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("numbers");
    // Directory entries and inodes that no process uses.
    std::fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    gate.open("numbers");
    let built = build.succeed();
    let lines = built.lines("numbers");
    assert_eq!(lines[..3], ["same", "0", "one device"], "{}", built.run);
    assert!(lines[3].parse::<u64>().unwrap() > u64::from(u32::MAX), "{}", built.run);
    for number in built.lines("small") {
        assert!(number.parse::<u64>().unwrap() <= u64::from(u32::MAX), "{}", built.run);
    }
}

also_with_runc! {
    the_files_of_a_step_are_seen_by_the_next_one_and_after_a_snapshot,
    no_process_and_no_ipc_object_outlives_its_step,
    steps_that_run_at_once_in_one_container_see_and_signal_only_themselves,
    two_first_steps_of_a_session_run_in_parallel,
    the_end_of_a_step_is_reported_while_one_that_began_after_it_runs,
    no_descriptor_of_runner_leaks_into_a_step,
    each_build_begins_with_a_new_root_and_the_same_cache,
    a_step_starts_even_if_its_proc_blocks_the_preforked_process,
    files_and_directories_have_the_same_numbers_after_the_kernel_has_forgotten_them,
}
