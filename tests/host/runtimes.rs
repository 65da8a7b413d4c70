//! The runtime that runs the containers, its arguments, and builds with many steps and much output.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::built::{Built, Gate, Running, project, unique_seconds, wait_for};
use crate::project::{Project, Run};
use crate::root::unpack;
use crate::runtime::runtime;

const ONE: &str = "\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo it runs }]\n";

fn runc() -> PathBuf {
    let found = Command::new("sh").args(["-c", "command -v runc"]).output().unwrap();
    let path = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
    assert!(path.is_absolute(), "these tests need runc: apt-get install -y runc");
    path
}

/// Runs `apply` with this change of its environment.
fn apply(project: &Project, arguments: &[&str], change: impl FnOnce(&mut Command) -> &mut Command) -> Run {
    let mut command = project.command(&[&["apply"], arguments].concat());
    change(&mut command);
    Run::new(0, &command.output().unwrap())
}

/// Returns a runtime that records its calls and calls runc.
fn noting(project: &Project, name: &str) -> PathBuf {
    let path = project.path(name);
    let runc = runc();
    let noted = project.path("noted");
    project.write(name, &format!("#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n", noted.display(), runc.display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_runtime_is_taken_from_the_flag_or_the_variable_and_by_its_path() {
    let project = project(ONE);
    let path = noting(&project, "bin/mine");
    let was_called = |project: &Project| {
        let noted = fs::read_to_string(project.path("noted")).unwrap_or_default();
        let _ = fs::remove_file(project.path("noted"));
        [" create ", " start ", " delete "].iter().all(|call| noted.contains(call))
    };
    let run = apply(&project, &["--runtime", path.to_str().unwrap()], |command| command);
    assert!(run.code == 0 && was_called(&project), "{run}");
    let run = apply(&project, &[], |command| command.env("RUNNER_RUNTIME", "bin/mine"));
    assert!(run.code == 0 && was_called(&project), "{run}");
    let run = apply(&project, &["--runtime", "embedded"], |command| command);
    assert!(run.code == 0 && !was_called(&project), "{run}");
}

/// Returns a runtime that hangs in one of its calls, and calls runc in the others.
fn hanging(project: &Project, call: &str) -> String {
    let path = project.path("hanging");
    let runc = runc();
    let hang = format!("case \" $* \" in *\" {call} \"*) touch {}; sleep 1000;; esac", project.path("hangs").display());
    project.write("hanging", &format!("#!/bin/sh\n{hang}\nexec {} \"$@\"\n", runc.display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_runtime_call_that_hangs_is_killed_and_the_step_fails_with_the_reason() {
    let failed = |call: &str, project: &Project| {
        let runtime = hanging(project, call);
        let built = Built::of(project, &["--runtime", &runtime]);
        if call == "delete" {
            // By then the step has ended.
            assert_eq!(built.run.code, 0, "{}", built.run);
        } else {
            let why = format!("cannot start: the runtime's `{call}` had not ended after 60s, and was killed");
            assert_eq!(built.reason("s"), why, "{}", built.run);
        }
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{call}");
    };
    let projects = ["create", "start", "delete"].map(|call| (call, project(ONE)));
    thread::scope(|scope| {
        for (call, project) in &projects {
            scope.spawn(move || failed(call, project));
        }
    });
}

#[test]
fn a_program_that_runs_while_its_runtime_still_starts_it_is_asked_to_end_and_not_killed() {
    let trap = "trap 'echo clean > /gate/clean; exit' TERM; touch /gate/half.here; while :; do sleep 0.01; done";
    let step = format!("steps: [{{ name: s, grace: 1h, run: \"{trap}\" }}]\n");
    let project =
        project(&format!("\nmounts: {{ $GATE }}\ncontainers: {{ c: {{ rootfs: $TOOLS, mounts: [gate] }} }}\n{step}"));
    let gate = Gate::new(&project);
    // Its `start` ends a second after the program has started.
    let path = project.path("slow");
    let slow = "case \" $* \" in *\" start \"*) sleep 1;; esac";
    project.write("slow", &format!("#!/bin/sh\n{} \"$@\" || exit\n{slow}\n", runc().display()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let build = Running::start(&project, &["--runtime", path.to_str().unwrap()]);
    gate.await_step("half");
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!((built.run.code, built.reason("s")), (130, "interrupted"), "{}", built.run);
    assert!(project.path("gate/clean").exists(), "{}", built.run);
}

#[test]
fn an_interrupt_ends_a_build_whose_runtime_hangs() {
    for call in ["create", "start", "delete"] {
        let project = project(ONE);
        let runtime = hanging(&project, call);
        let build = Running::start(&project, &["--runtime", &runtime]);
        wait_for("the runtime to hang", || project.path("hangs").exists().then_some(()));
        build.signal(Signal::INT);
        let built = build.end();
        assert!(built.run.code == 130 || call == "delete" && built.run.code == 0, "{call}: {}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{call}");
    }
}

#[test]
fn runc_is_found_in_path_by_its_other_name_too() {
    let project = project(ONE);
    fs::create_dir(project.path("bin")).unwrap();
    for program in ["mksquashfs", "sh"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
        symlink(String::from_utf8(found.stdout).unwrap().trim(), project.path("bin").join(program)).unwrap();
    }
    let path = project.path("bin");
    let run = apply(&project, &["--runtime", "runc"], |command| command.env("PATH", &path));
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stderr.contains("the runtime `runc`: it is not in PATH"), "{run}");
    assert!(run.stderr.contains("help: apt-get install -y runc"), "{run}");
    noting(&project, "bin/docker-runc");
    let run = apply(&project, &["--runtime", "runc"], |command| command.env("PATH", &path));
    assert!(run.code == 0 && project.path("noted").exists(), "{run}");
}

#[test]
fn a_program_that_is_no_runtime_is_refused_before_anything_runs() {
    let project = project(ONE);
    for (runtime, said) in
        [("/bin/false", "its `--version` prints no version"), ("/nowhere/crun", "No such file or directory")]
    {
        let run = apply(&project, &["--runtime", runtime], |command| command);
        assert_eq!(run.code, 3, "{run}");
        assert!(run.stderr.contains(said) && !run.stdout.contains("started"), "{run}");
    }
}

#[test]
fn two_parallel_builds_of_one_manifest_do_not_clash() {
    let project = project(
        "
mounts:
  $GATE
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps: [{ name: s, run: \"sh /gate/meet $NAME; cat /proc/self/cgroup > /cgroup; ls /proc | grep -c '^[0-9]'\" }]
",
    );
    let gate = Gate::new(&project);
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    let builds = ["one", "two"].map(|name| {
        project.write(&format!("{name}.yaml"), &text.replace("$NAME", name));
        let build = Running::start(&project, &[&format!("{name}.yaml")]);
        gate.await_step(name);
        build
    });
    gate.open("one");
    gate.open("two");
    for built in builds.map(Running::end) {
        assert_eq!(built.run.code, 0, "{}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn no_output_of_many_parallel_steps_is_lost() {
    let lines = |i| if i == 0 { 200_000 } else { 5000 };
    let steps: String =
        (0..12).map(|i| format!("  - {{ name: s{i}, needs: [], run: 'seq {}; seq {i} >&2' }}\n", lines(i))).collect();
    let project = project(&format!("\ncontainers: {{ c: {{ rootfs: $TOOLS }} }}\nsteps:\n{steps}"));
    let run = project.runner(&["apply", "--progress", "quiet", "-j", "12"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let builds: Vec<_> = fs::read_dir(project.store().join("logs")).unwrap().flatten().collect();
    assert_eq!(builds.len(), 1);
    for i in 0..12 {
        let log = fs::read_to_string(builds[0].path().join(format!("s{i}.log"))).unwrap();
        assert_eq!(log.lines().count(), lines(i) + i, "s{i}");
    }
}

/// Runs a stored bundle by hand, on the root in that image.
pub fn by_hand(bundle: &Path, image: &Path) -> Run {
    unpack(image, &bundle.join("rootfs"));
    run_bundle(bundle)
}

/// Runs a bundle with its root.
pub fn run_bundle(bundle: &Path) -> Run {
    let id = format!("runner-test-{}", unique_seconds());
    Run::new(0, &Command::new(runc()).args(["run", "--bundle"]).arg(bundle).arg(id).output().unwrap())
}

#[test]
fn a_written_bundle_runs_by_hand_and_contains_no_secret() {
    let project = project(
        r#"
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
  tmp: { type: tmpfs, target: /tmp, options: [size=3m, nosuid] }
  cache: { type: cache, target: /cache }
  key: { type: secret, env: SECRET_OF_TEST, target: /run/key }
devices:
  outside: { path: /dev/zero, target: /opt/zero, mode: "0604" }
containers:
  base.1:
    rootfs: $TOOLS
    mounts: [src, tmp, cache, key]
    devices: [outside]
    env: { GREETING: hello }
    limits: { pids: 50 }
steps:
  - { name: first, run: echo first }
  - name: last
    run: |
      echo "$GREETING from $(cat /src/name)" $(stat -c %a /opt/zero) $(head -c 2 /opt/zero | wc -c) $(stat -f -c %b /tmp)
      touch /cache/here
  - { name: full, snapshot: { mode: full, output: full.squashfs } }
"#,
    );
    project.write("src/name", "file\n");
    let run = apply(&project, &["--bundle-dir", "kept/deep"], |command| command.env("SECRET_OF_TEST", "xyzzy"));
    assert_eq!(run.code, 0, "{run}");
    let bundle = project.path("kept/deep/base.1");
    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    assert!(!config.contains("xyzzy") && !config.contains("/run/key"), "{config}");
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["hostname"], "base.1");
    let hand = by_hand(&bundle, &project.path("full.squashfs"));
    assert_eq!((hand.code, hand.stdout.as_str()), (0, "hello from file 604 2 768\n"), "{hand}");
    // The session's own bundle is removed with it.
    assert!(!project.store().join("mnt").read_dir().unwrap().flatten().any(|_| true));
}

#[test]
fn the_helper_takes_the_mounts_of_other_sessions_to_no_container() {
    let project = project(
        r#"
mounts:
  $GATE
  one: { type: tmpfs, target: /one }
  two: { type: tmpfs, target: /two }
containers:
  a: { rootfs: $TOOLS, mounts: [gate, one] }
  b: { rootfs: $TOOLS, mounts: [gate, two] }
steps:
  - { name: a, container: a, run: echo of-a > /one/file; sh /gate/meet a }
  - name: b
    container: b
    run: |
      sh /gate/meet b
      cat /one/file 2>&1 || true
      grep -c " /one " /proc/self/mountinfo || true
  - { name: layer, container: a, snapshot: { output: layer.squashfs } }
"#,
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &["-j", "2"]);
    gate.await_step("a");
    gate.await_step("b");
    gate.open("a");
    // The snapshot of one container is taken while the other runs.
    crate::built::wait_for("the layer", || project.path("layer.squashfs").exists().then_some(()));
    gate.open("b");
    let built = build.succeed();
    assert_eq!(built.lines("b"), ["cat: /one/file: No such file or directory", "0"]);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn doctor_reports_whether_crun_can_run_here_as_a_build_with_it_does() {
    let project = project(ONE);
    let doctor = project.runner(&["doctor"]);
    let line = doctor.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some("crun")).unwrap();
    if line.contains("not in PATH") {
        return;
    }
    let run = apply(&project, &["--runtime", "crun"], |command| command);
    if line.starts_with("ok") {
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(Built::succeed(&project).lines("s"), ["it runs"]);
    } else {
        assert_ne!(run.code, 0, "{run}");
        let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
        assert!(
            !hybrid || line.contains("this host's cgroup layout (hybrid v1) stops it: cgroups in hybrid mode"),
            "{line}"
        );
    }
    let own = if runtime() == "runc" { "runc version" } else { "runs a container" };
    assert!(doctor.stdout.contains(own), "{doctor}");
}

#[test]
fn another_runtime_builds_again_and_gives_the_same_bytes() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /tmp }] }
steps:
  - { name: write, run: mkdir /folder; echo one > /folder/file; mkfifo /fifo; mknod /null c 1 3; ln -s file /folder/link; rm /bin/tr }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#,
    );
    let digest = |runtime: &str| {
        let (events, run) = project.events(&["--runtime", runtime]);
        assert_eq!(run.code, 0, "{run}");
        let written = events.iter().find(|event| event["event"] == "snapshot_written");
        let ran = events.iter().any(|event| event["event"] == "step_output" || event["status"] == "ran");
        (written.map(|event| event["digest"].clone()), ran)
    };
    let (first, ran) = digest("embedded");
    assert!(first.is_some() && ran);
    let plan = project.runner(&["plan", "--runtime", "runc"]);
    assert!(plan.stdout.contains("runtime changed: embedded → runc sha256:"), "{plan}");
    let (second, ran) = digest("runc");
    assert!(ran && second == first, "{first:?} and {second:?}");
    // Both exist now.
    assert!(!digest("runc").1);
}

#[test]
fn more_arguments_and_variables_than_the_kernel_takes_are_refused_with_both_numbers() {
    let variables = |count: usize| -> String {
        let variable = |n: usize| format!("V{n}: {}", "x".repeat(100_000));
        (0..count).map(variable).collect::<Vec<_>>().join(", ")
    };
    let project = project(&format!(
        "containers: {{ c: {{ rootfs: $TOOLS }} }}
steps:
  - {{ name: fits, run: echo it runs, env: {{ {} }} }}
  - {{ name: large, needs: [], run: echo it runs, env: {{ {} }} }}
",
        variables(20),
        variables(21)
    ));
    let built =
        Running::spawn(project.shell("ulimit -s 8192; exec \"$@\"", &["apply", "--progress", "json", "--keep-going"]))
            .end();
    assert_eq!(built.run.code, 1, "{}", built.run.stderr);
    assert_eq!(built.text("fits"), "it runs\n");
    let reason = built.reason("large");
    assert!(reason.contains("take 21") && reason.contains("the kernel takes at most 2097152 here"), "{reason}");
    assert_eq!(built.ending("large")["exit_code"], 126);
}

#[test]
fn a_working_directory_that_the_user_may_not_enter_and_another_device_as_dev_null_are_named() {
    let project = project(
        "
devices: { other: { path: /dev/zero, target: /dev/null } }
containers:
  c: { rootfs: $TOOLS }
  d: { rootfs: $TOOLS, devices: [other] }
steps:
  - { name: close, container: c, run: mkdir -m 700 /closed }
  - { name: enter, container: c, cwd: /closed, user: '1000', run: echo it runs }
  - { name: other, container: d, run: echo it runs }
",
    );
    let built = Built::of(&project, &["--keep-going"]);
    if runtime() == "runc" {
        // runc enters it as root, as docs/src/runtimes.md says, and opens the null device of the host for a step; since
        // CVE-2025-31133 was fixed, it refuses another one itself.
        assert_eq!(built.text("enter"), "it runs\n");
        let other = built.text("other");
        assert!(other == "it runs\n" || other.contains("container's /dev/null is invalid"), "{other}");
        return;
    }
    let reason = built.reason("enter");
    assert!(reason.contains("directory /closed: the step's user may not enter it"), "{reason}");
    let reason = built.reason("other");
    assert!(reason.contains("its /dev/null is not the null device: the container lists another device"), "{reason}");
}

also_with_runc! {
    two_parallel_builds_of_one_manifest_do_not_clash,
    no_output_of_many_parallel_steps_is_lost,
    a_written_bundle_runs_by_hand_and_contains_no_secret,
    the_helper_takes_the_mounts_of_other_sessions_to_no_container,
    doctor_reports_whether_crun_can_run_here_as_a_build_with_it_does,
    more_arguments_and_variables_than_the_kernel_takes_are_refused_with_both_numbers,
    a_working_directory_that_the_user_may_not_enter_and_another_device_as_dev_null_are_named,
}
