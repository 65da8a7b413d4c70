//! Builds that are ended from outside, in order and not: everything that remains is removed when the next runner starts, at the
//! latest.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::prctl::set_child_subreaper;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use crate::built::{Built, Gate, Running, descendants, processes_of, project, unique_seconds, wait_for};
use crate::project::{Project, Run};

/// A step that never ends, with children, on scratch in memory and on disk.
const ENDLESS: &str = r#"
mounts:
  $GATE
  tmp: { type: tmpfs, target: /tmp }
containers:
  base: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: layer }, mounts: [gate, tmp], scratch: { disk: true }, limits: { memory: 1GiB, pids: 100 } }
steps:
  - { name: layer, container: base, snapshot: { mode: full, output: out/layer.squashfs } }
  - name: endless
    container: c
    grace: 100ms
    run: |
      trap '' INT TERM HUP
      head -c 1000000 /dev/urandom > /big
      setsid sleep 1000 &
      echo last words
      sh /gate/meet half-way
  - { name: image, container: c, snapshot: { output: out/image.squashfs } }
"#;

/// 200 MB that do not compress, with a slow compressor.
const LONG_SNAPSHOT: &str = r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - { name: fill, run: head -c 200000000 /dev/urandom > /big }
  - { name: image, snapshot: { output: out/image.squashfs, compression: xz } }
"#;

/// A build that needs little.
const NEXT: &str = "version: 1
containers: { c: { rootfs: { programs: [/bin/true] } } }
steps: [{ name: x, exec: [/bin/true] }]
";

fn kill(pid: u32) {
    // The process may have ended by itself.
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

/// Returns the resources that the kernel frees by itself, however runner ends.
fn of_the_kernel(left: &[String]) -> Vec<String> {
    left.iter().filter(|left| left.starts_with("process") || left.starts_with("loop")).cloned().collect()
}

/// Checks the state after a kill: the kernel's resources are freed at once, all others when the next runner starts.
#[track_caller]
fn check_after_kill(project: &Project, pids: &[u32]) {
    let left = || pids.iter().flat_map(|pid| of_the_kernel(&project.leftovers(*pid))).collect::<Vec<_>>();
    wait_for("processes, mounts and loop devices to go", || left().is_empty().then_some(()));
    project.write("next.yaml", NEXT);
    let next = project.runner(&["apply", "next.yaml"]);
    assert_eq!(next.code, 0, "{next}");
    assert!(!next.stdout.contains("warning"), "{next}");
    for pid in pids.iter().chain([&next.pid]) {
        assert_eq!(project.leftovers(*pid), Vec::<String>::new());
    }
}

fn half_way(project: &Project) -> Running {
    let gate = Gate::new(project);
    project.write("out/image.squashfs", "of before");
    let build = Running::start(project, &[]);
    gate.await_step("half-way");
    build
}

#[track_caller]
fn check_outputs(project: &Project) {
    assert_eq!(fs::read_to_string(project.path("out/image.squashfs")).unwrap(), "of before");
    assert!(whole(project, &project.path("out/layer.squashfs")));
}

/// Returns whether an output is one of the store's layers, which are named after what is in them.
fn whole(project: &Project, image: &Path) -> bool {
    project.store().join(format!("layers/sha256/{}.squashfs", sum(image))).exists()
}

#[test]
fn a_signal_ends_a_build_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let sleep = format!("sleep {}", unique_seconds());
        let project = project(&ENDLESS.replace("sleep 1000", &sleep));
        let build = half_way(&project);
        wait_for("the step's child", || (processes_of(&sleep).len() == 1).then_some(()));
        build.signal(signal);
        let built = build.end();
        assert_eq!(built.run.code, 130, "{signal:?}: {}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{signal:?}");
        assert_eq!(built.text("endless"), "last words\n");
        assert_eq!(built.reason("endless"), "interrupted, and was killed 100ms after SIGTERM");
        assert_eq!((built.status("layer"), built.status("image")), ("ran", "skipped"));
        let last = built.events.last().unwrap();
        assert_eq!((&last["status"], &last["failed"], &last["stopped"]), (&json!("interrupted"), &json!(1), &json!(1)));
        let ended = built.ending("endless");
        assert_eq!((&ended["status"], &ended["failure"]["stopped"]), (&json!("failed"), &json!(true)));
        check_outputs(&project);
        assert_eq!(processes_of(&sleep), Vec::<String>::new());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let project = project(LONG_SNAPSHOT);
    let build = Running::start(&project, &[]);
    await_image(&project);
    build.signal(Signal::INT);
    build.signal(Signal::INT);
    let pid = build.pid();
    assert_eq!(build.end().run.code, 130);
    check_after_kill(&project, &[pid]);
}

#[test]
fn a_killed_runner_leaves_nothing_of_a_step() {
    let project = project(ENDLESS);
    let build = half_way(&project);
    assert!(!project.leftovers(build.pid()).is_empty(), "there is something that must go");
    kill(build.pid());
    let pid = build.pid();
    drop(build);
    check_after_kill(&project, &[pid]);
    check_outputs(&project);
}

#[test]
fn a_runner_killed_with_all_its_helpers_leaves_nothing() {
    let project = project(ENDLESS);
    let build = half_way(&project);
    let all = descendants(build.pid());
    assert!(all.len() >= 4, "a helper, init, a spare and the step: {all:?}");
    kill(build.pid());
    all.into_iter().for_each(kill);
    let pid = build.pid();
    drop(build);
    check_after_kill(&project, &[pid]);
    check_outputs(&project);
}

#[test]
fn files_of_a_killed_runner_stay_until_its_last_helper_has_ended() {
    // The setting below is one of the whole process, and the same test runs with each runtime.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let project = project(ENDLESS);
    let build = half_way(&project);
    let pid = build.pid();
    let helper = Pid::from_raw(descendants(pid)[0].cast_signed()).unwrap();
    // The kernel ends a stopped process whose parent has died, unless another process of its session adopts it.
    set_child_subreaper(true).unwrap();
    kill_process(helper, Signal::STOP).unwrap();
    kill(pid);
    drop(build);
    set_child_subreaper(false).unwrap();
    project.write("next.yaml", NEXT);
    let next = project.runner(&["apply", "next.yaml"]);
    let leases: Vec<_> = fs::read_dir(project.store().join("leases")).unwrap().flatten().collect();
    kill_process(helper, Signal::CONT).unwrap();
    waitpid(Some(helper), WaitOptions::empty()).unwrap();
    assert_eq!(next.code, 0, "{next}");
    assert_eq!(leases.len(), 1, "cleared while the helper may still make something of it");
    check_after_kill(&project, &[pid]);
}

#[test]
fn a_session_whose_helpers_are_killed_fails_the_step_and_leaves_nothing() {
    for only_the_helper in [true, false] {
        let project = project(ENDLESS);
        let build = half_way(&project);
        let all = descendants(build.pid());
        let helper = all[0];
        if only_the_helper {
            kill(helper);
            // Its children continue: a session lasts as long as its init.
            Gate::reopen(&project).open("half-way");
        } else {
            all.iter().copied().for_each(kill);
        }
        let built = build.end();
        assert_ne!(built.run.code, 130, "{}", built.run);
        if !only_the_helper {
            assert_eq!(built.status("endless"), "failed", "{}", built.run);
            check_outputs(&project);
        }
        let pid = built.run.pid;
        check_after_kill(&project, &[pid]);
    }
}

fn await_image(project: &Project) {
    wait_for("an image that is being written", || {
        let leases = fs::read_dir(project.store().join("tmp")).ok()?.flatten();
        let mut files = leases.flat_map(|lease| fs::read_dir(lease.path()).into_iter().flatten().flatten());
        files.any(|file| file.metadata().is_ok_and(|metadata| metadata.len() > 1 << 20)).then_some(())
    });
}

#[test]
fn a_runner_that_ends_while_an_image_is_written_leaves_nothing_of_it() {
    let project = project(LONG_SNAPSHOT);
    project.write("out/image.squashfs", "of before");
    let build = Running::start(&project, &[]);
    await_image(&project);
    let pid = build.pid();
    kill(pid);
    drop(build);
    check_after_kill(&project, &[pid]);
    assert_eq!(fs::read_to_string(project.path("out/image.squashfs")).unwrap(), "of before");
    assert_eq!(layers(&project), 0);

    let build = Running::start(&project, &[]);
    await_image(&project);
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!(built.run.code, 130, "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    assert_eq!(fs::read_to_string(project.path("out/image.squashfs")).unwrap(), "of before");
    assert_eq!(layers(&project), 0);
}

fn layers(project: &Project) -> usize {
    fs::read_dir(project.store().join("layers/sha256")).unwrap().count()
}

/// SHA-256 of a file, by sha256sum(1).
fn sum(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn whenever_a_runner_is_killed_outputs_and_layers_are_whole_or_not_there() {
    const MOMENTS: u32 = 20;
    let project = project(
        r#"
mounts:
  tmp: { type: tmpfs, target: /tmp }
containers:
  c: { rootfs: $TOOLS, mounts: [tmp] }
  d: { rootfs: { snapshot: one }, scratch: { disk: true } }
steps:
  - { name: write, container: c, run: seq 100000 > /numbers }
  - { name: one, container: c, snapshot: { output: out/one.squashfs } }
  - { name: more, container: d, run: seq 100000 200000 >> /numbers }
  - { name: two, container: d, snapshot: { mode: full, output: out/two.squashfs } }
"#,
    );
    let begun = std::time::Instant::now();
    Built::succeed(&project);
    let whole_build = begun.elapsed();
    let outputs = ["out/one.squashfs", "out/two.squashfs"].map(|name| project.path(name));
    let right = [sum(&outputs[0]), sum(&outputs[1])];
    let mut killed = Vec::new();
    for moment in 0..MOMENTS {
        fs::remove_dir_all(project.path("out")).unwrap();
        fs::remove_dir_all(project.store().join("layers")).unwrap();
        let build = Running::start(&project, &[]);
        std::thread::sleep(whole_build * moment / MOMENTS + Duration::from_millis(1));
        killed.push(build.pid());
        kill(build.pid());
        drop(build);
        for (output, right) in outputs.iter().zip(&right) {
            assert!(!output.exists() || sum(output) == *right, "{} at moment {moment}", output.display());
        }
        for layer in fs::read_dir(project.store().join("layers/sha256")).into_iter().flatten().flatten() {
            let name = layer.file_name().into_string().unwrap();
            assert_eq!(format!("{}.squashfs", sum(&layer.path())), name, "at moment {moment}");
        }
        fs::create_dir_all(project.path("out")).unwrap();
        fs::create_dir_all(project.store().join("layers/sha256")).unwrap();
    }
    check_after_kill(&project, &killed);
    let built = Built::succeed(&project);
    assert_eq!([sum(&outputs[0]), sum(&outputs[1])], right, "{}", built.run);
}

#[test]
fn an_interrupt_ends_the_reading_of_a_bind() {
    let project = project(
        "
mounts: { src: { type: bind, source: src, target: /src, options: [ro] } }
containers: { c: { rootfs: $TOOLS, mounts: [src] } }
steps: [{ name: a, run: 'true' }, { name: layer, snapshot: {} }]
",
    );
    // Holes, no disk blocks: in files small enough to be read whole, and so many that it takes minutes.
    const FILES: u32 = 4000;
    fs::create_dir(project.path("src")).unwrap();
    for number in 0..FILES {
        fs::File::create(project.path(&format!("src/{number}"))).unwrap().set_len(63 << 20).unwrap();
    }
    let source = project.path("src");
    let build = Running::start(&project, &[]);
    let directory = format!("/proc/{}/fd", build.pid());
    wait_for("a file to be read", || {
        let files = fs::read_dir(&directory).ok()?.flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).find(|file| file.parent() == Some(&*source))
    });
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!(built.run.code, 130, "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_signal_while_the_store_is_made_leaves_nothing_half_written_in_it() {
    for _ in 0..20 {
        let project = Project::new(NEXT);
        let mut build = project.spawn(&["apply"]);
        let pid = build.id();
        // No pause between two looks: making the store takes a millisecond.
        while !project.store().exists() {
            assert!(build.try_wait().unwrap().is_none(), "it has ended without a store");
        }
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::INT).unwrap();
        let run = Run::new(pid, &build.wait_with_output().unwrap());
        assert_eq!(run.code, 130, "{run}");
        assert_eq!(project.leftovers(pid), Vec::<String>::new(), "{run}");
    }
}

also_with_runc! {
    a_signal_ends_a_build_in_order,
    a_killed_runner_leaves_nothing_of_a_step,
    a_runner_killed_with_all_its_helpers_leaves_nothing,
    files_of_a_killed_runner_stay_until_its_last_helper_has_ended,
    a_session_whose_helpers_are_killed_fails_the_step_and_leaves_nothing,
    whenever_a_runner_is_killed_outputs_and_layers_are_whole_or_not_there,
}
