//! Builds under callers that ignore signals, limit resources or lack capabilities: each works, or names the cause.

use rustix::process::Signal;

use crate::built::{Built, Gate, Running, project};
use crate::project::Project;

/// Prints the signal settings that a step gets from its caller.
const SIGNALS: &str = r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps: [{ name: s, run: "grep -E '^Sig(Blk|Ign)' /proc/self/status; sh /gate/meet now" }]
"#;

/// Starts a build from a shell, in which `"$@"` is runner and its arguments.
fn start(project: &Project, shell: &str) -> Running {
    Running::spawn(project.shell(shell, &["apply", "--progress", "json"]))
}

#[test]
fn signals_that_the_caller_ignores_stay_ignored_and_steps_begin_with_default_ones() {
    for (ignored, heeded) in [(Signal::INT, Signal::HUP), (Signal::HUP, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let project = project(SIGNALS);
        let gate = Gate::new(&project);
        let ignore = format!("trap '' {} PIPE USR1 TSTP TTOU; exec env --block-signal=USR2 \"$@\"", ignored.as_raw());
        let build = start(&project, &ignore);
        gate.await_step("now");
        build.signal(ignored);
        build.signal(ignored);
        gate.open("now");
        let built = build.end();
        assert_eq!(built.run.code, 0, "{ignored:?}: {}", built.run);
        assert_eq!(built.lines("s"), ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
        std::fs::remove_dir_all(project.path("gate")).unwrap();
        let gate = Gate::new(&project);
        let build = start(&project, &ignore);
        gate.await_step("now");
        build.signal(heeded);
        assert_eq!(build.end().run.code, 130, "{heeded:?}");
    }
}

/// Copies programs of more than 10 KiB, and writes an image.
const IMAGE: &str = "
containers: { c: { rootfs: $TOOLS } }
steps: [{ name: s, run: echo it runs }, { name: l, snapshot: {} }]
";

/// Builds from a shell that sets a limit of its own.
fn limited(project: &Project, limit: &str) -> Built {
    start(project, &format!("ulimit {limit} && exec \"$@\"")).end()
}

#[track_caller]
fn assert_nothing_left(project: &Project, built: &Built) {
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_file_size_limit_fails_a_build_with_the_limits_name() {
    // In units of 512 bytes; the limit is below the image's size unless a caller of this test has a lower one.
    for (blocks, step) in [(20, "s"), (0, "s")] {
        let project = project(IMAGE);
        let built = limited(&project, &format!("-f {blocks}"));
        assert_eq!(built.run.code, 3, "{}", built.run);
        let message = if blocks == 0 { built.run.stderr.clone() } else { built.reason(step).to_owned() };
        assert!(message.contains("File too large") && message.contains("`ulimit -f unlimited`"), "{}", built.run);
        assert_eq!(message.matches("runner's caller").count(), 1, "{message}");
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_step_that_writes_more_than_the_callers_limit_is_killed() {
    let project = project(
        "containers: { c: { rootfs: $TOOLS } }
steps: [{ name: s, exec: [dd, if=/dev/zero, of=/large, bs=1M, count=40] }, { name: t, needs: [], run: dd if=/dev/zero of=/large bs=1M count=40 }]\n",
    );
    let built = start(&project, "ulimit -f 40000 && exec \"$@\" --keep-going").end();
    assert_eq!(built.run.code, 1, "{}", built.run);
    // A step is the first process of its namespace, which the kernel protects from that signal: its write fails instead.
    for (step, how) in [("s", "exit code 1; "), ("t", "exit code 153; ")] {
        let reason = built.reason(step);
        assert!(reason.starts_with(how) && reason.contains("`ulimit -f unlimited`"), "{reason}");
    }
    assert_nothing_left(&project, &built);
}

#[test]
fn too_few_open_files_and_too_little_memory_fail_a_build_with_the_name_of_the_limit() {
    // Runner itself needs less memory than mksquashfs.
    let cases = [
        ("-n 20", "runner needs 128 open files, and its caller limits it to 20"),
        ("-n 127", "`ulimit -n 4096`"),
        ("-v 100000 && export RUNNER_MKSQUASHFS=1", "`ulimit -v unlimited`"),
    ];
    for (limit, command) in cases {
        let project = project(IMAGE);
        let built = limited(&project, limit);
        assert_eq!(built.run.code, 3, "{}", built.run);
        assert!(built.run.to_string().contains(command), "{}", built.run);
        assert_nothing_left(&project, &built);
    }
}

/// Where the allocator gets no memory, a process of Rust aborts; where no thread can be made, the system reports only that it is
/// not possible now.
#[test]
fn a_memory_limit_that_ends_runner_anywhere_is_named() {
    let project = project(IMAGE);
    for (option, kibibytes) in [('v', (34_000..90_000).step_by(4000)), ('d', (2000..18_000).step_by(2000))] {
        for kibibytes in kibibytes {
            let limit = format!("-{option} {kibibytes}");
            let built = limited(&project, &limit);
            // Below that limit the libraries are not loaded, or Rust's own start has no memory: no code of runner runs yet.
            let script = format!("ulimit {limit} && exec \"$@\"");
            let starts = project.runner_in_shell(&script, &["--version"]).code == 0;
            let named = built.run.to_string().contains(&format!("`ulimit -{option} unlimited`"));
            assert!(built.run.code == 3 && named || built.run.code == 0 || !starts, "{limit}: {}", built.run);
            assert!(option == 'd' || kibibytes < 60_000 || starts, "{limit}: {}", built.run);
        }
    }
    let built = limited(&project, "-c 0");
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_nothing_left(&project, &built);
}

#[test]
fn a_step_past_the_cpu_time_limit_names_it() {
    let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: 'while :; do :; done' }]\n");
    let built = limited(&project, "-t 2");
    assert!(built.reason("s").contains("`ulimit -t unlimited`"), "{}", built.run);
    assert_nothing_left(&project, &built);
}

#[test]
fn runner_past_its_own_cpu_time_limit_ends_in_order_and_names_it() {
    let project = project(SIGNALS);
    let gate = Gate::new(&project);
    let build = start(&project, "ulimit -t 60 && exec \"$@\"");
    gate.await_step("now");
    build.signal(Signal::XCPU);
    build.signal(Signal::XCPU);
    let built = build.end();
    assert_eq!(built.run.code, 130, "{}", built.run);
    let words = "error: runner has used up its time: runner's caller limits the time on a processor to 60s; raise that";
    assert!(built.run.stderr.contains(words), "{}", built.run);
    assert_nothing_left(&project, &built);
}

#[test]
fn the_lowest_accepted_limit_of_open_files_is_enough_for_a_build() {
    let project = project(IMAGE);
    let built = limited(&project, "-n 128");
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_nothing_left(&project, &built);
}

#[test]
fn a_container_that_a_file_size_limit_prevents_fails_with_the_limits_name() {
    let project = project("containers: { c: { rootfs: { scratch: true } } }\nsteps: [{ name: s, exec: [/nothing] }]\n");
    let built = limited(&project, "-f 20");
    assert_ne!(built.run.code, 0, "{}", built.run);
    assert!(built.reason("s").contains("`ulimit -f unlimited`"), "{}", built.reason("s"));
    assert_nothing_left(&project, &built);
}

#[test]
fn a_low_limit_of_the_stack_is_raised_or_refused_in_words() {
    let project = project(IMAGE);
    let built = limited(&project, "-Ss 64");
    assert_eq!(built.run.code, 0, "{}", built.run);
    let run = project.runner_in_shell("ulimit -s 64 && exec \"$@\"", &["apply"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stderr.contains("runner needs a stack of 1MiB, and its caller limits it to 64KiB"), "{run}");
    let built = limited(&project, "-s unlimited");
    assert_eq!(built.run.code, 0, "{}", built.run);
}

#[test]
fn high_limits_of_the_caller_change_nothing() {
    for limit in ["-l 0", "-u 3", "-t 60", "-c unlimited", "-q 0"] {
        let project = project(IMAGE);
        // dash has no option for some of them.
        let built = start(&project, &format!("exec bash -c 'ulimit {limit} && exec \"$@\"' sh \"$@\"")).end();
        assert_eq!(built.run.code, 0, "{limit}: {}", built.run);
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn the_default_nofile_fits_the_callers_limit_and_a_higher_one_of_the_manifest_is_refused() {
    let project = project(
        r#"
containers:
  default: { rootfs: $TOOLS }
  same: { rootfs: $TOOLS, limits: { nofile: 500 } }
  more: { rootfs: $TOOLS, limits: { nofile: 501 } }
steps:
  - { name: default, container: default, run: ulimit -n; ulimit -Hn }
  - { name: same, container: same, run: ulimit -n }
  - { name: more, container: more, run: ulimit -n }
"#,
    );
    // A process with CAP_SYS_RESOURCE may raise it.
    let without =
        "ulimit -n 500 && exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \"$@\" --keep-going";
    let built = start(&project, without).end();
    assert_eq!(built.run.code, 3, "{}", built.run);
    assert_eq!(built.lines("default"), ["500", "500"]);
    assert_eq!(built.lines("same"), ["500"]);
    assert!(
        built
            .reason("more")
            .contains("501 open files (`nofile` under limits) are more than the 500 that this host allows"),
        "{}",
        built.run
    );
    assert_nothing_left(&project, &built);
    let plan = project.runner_in_shell(without.trim_end_matches(" --keep-going"), &["plan"]);
    assert!(plan.stdout.contains("nofile 500: the default, 4096, is above the limit of runner's caller"), "{plan}");
    assert!(plan.stdout.contains("limits of same: nofile 500 is enforced\n"), "{plan}");
    let not = "limits of more: nofile 501 is not possible, so no step of the container starts: this host allows 500\n";
    assert!(plan.stdout.contains(not), "{plan}");
}

#[test]
fn doctor_and_a_build_agree_on_a_limit_of_open_files() {
    let project = project("\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo it runs }]\n");
    let shell = |limit: &str| {
        format!("ulimit {limit} && exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \"$@\"")
    };
    for limit in ["-n 128", "-Sn 64"] {
        let doctor = project.runner_in_shell(&shell(limit), &["doctor"]);
        assert!(doctor.stdout.ends_with("\nthis host can build\n"), "{limit}: {doctor}");
        let build = project.runner_in_shell(&shell(limit), &["apply"]);
        assert_eq!((doctor.code, build.code), (0, 0), "{limit}: {build}");
    }
    let doctor = project.runner_in_shell(&shell("-n 100"), &["doctor"]);
    let build = project.runner_in_shell(&shell("-n 100"), &["apply"]);
    assert_eq!((doctor.code, build.code), (3, 3), "{doctor}");
    assert!(doctor.stdout.contains("open files") && doctor.stdout.contains("limits it to 100"), "{doctor}");
    assert!(build.stderr.contains("limits it to 100"), "{build}");
    assert_eq!(project.leftovers(build.pid), Vec::<String>::new());
}

/// Builds from a caller that lacks capabilities.
fn without(project: &Project, capabilities: &str) -> Built {
    start(project, &format!("exec capsh --drop={capabilities} -- -c 'exec \"$@\" --keep-going' sh \"$@\"")).end()
}

#[test]
fn a_capability_that_the_caller_lacks_is_named_before_anything_of_the_container_runs() {
    let project = project(
        "
containers:
  default: { rootfs: $TOOLS }
  more: { rootfs: $TOOLS, capabilities: { add: [NET_RAW] } }
  less: { rootfs: $TOOLS, capabilities: { drop: [KILL, MKNOD] } }
steps:
  - { name: default, container: default, run: echo it runs }
  - { name: more, container: more, run: echo it runs }
  - { name: less, container: less, run: echo it runs }
",
    );
    let every = ["default", "more", "less"];
    let cases: [(&str, &[&str], &str); 5] = [
        ("cap_net_raw", &["more"], "the container needs CAP_NET_RAW,"),
        ("cap_kill", &["default", "more"], "the container needs CAP_KILL,"),
        ("cap_mknod", &every, "runner needs CAP_MKNOD,"),
        ("cap_net_admin,cap_setgid", &every, "runner needs CAP_SETGID, CAP_NET_ADMIN,"),
        ("cap_sys_ptrace", &[], ""),
    ];
    for (dropped, failing, words) in cases {
        let built = without(&project, dropped);
        assert_eq!(built.run.code, if failing.is_empty() { 0 } else { 3 }, "{dropped}: {}", built.run);
        for step in every {
            let fails = failing.contains(&step);
            assert_eq!(built.status(step), if fails { "failed" } else { "ran" }, "{dropped}: {}", built.run);
            assert!(!fails || built.reason(step).contains(words), "{dropped}: {}", built.reason(step));
        }
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_caller_without_sys_admin_is_refused_and_doctor_names_missing_capabilities() {
    let project = project(IMAGE);
    let shell = |dropped: &str| format!("exec capsh --drop={dropped} -- -c 'exec \"$@\"' sh \"$@\"");
    let run = project.runner_in_shell(&shell("cap_sys_admin"), &["apply"]);
    assert!(run.code == 3 && run.stderr.contains("run it with CAP_SYS_ADMIN"), "{run}");
    assert!(!project.store().exists(), "nothing is made");
    let run = project.runner_in_shell(&shell("cap_chown,cap_mknod"), &["doctor"]);
    assert!(run.code == 3 && run.stdout.contains("root without CAP_CHOWN, CAP_MKNOD"), "{run}");
}

#[test]
fn without_proc_or_the_null_device_only_the_commands_that_need_them_fail() {
    // In a mount namespace that ends with the command; nothing of the host is changed.
    let cases = [
        ("umount -l /proc", "cannot use /proc, which runner needs: no process filesystem", "mount -t proc proc /proc"),
        (
            "mount -t tmpfs t /dev",
            "cannot use /dev/null, which runner needs: No such file",
            "mknod -m 666 /dev/null c 1 3",
        ),
        (
            "mount -t tmpfs t /dev && touch /dev/null",
            "cannot use /dev/null, which runner needs: it is not",
            "mknod -m 666",
        ),
    ];
    for (change, words, fix) in cases {
        let project = project(IMAGE);
        let shell = format!("exec unshare -m sh -c '{change} && exec \"$@\"' sh \"$@\"");
        for command in [&["apply"][..], &["lock"], &["run", "c", "--", "true"], &["doctor"]] {
            let run = project.runner_in_shell(&shell, command);
            assert_eq!(run.code, 3, "{change}: {command:?}: {run}");
            let message = run.to_string();
            assert!(message.contains(words) && message.contains(fix), "{change}: {command:?}: {run}");
            assert!(!project.store().exists(), "{change}: {command:?} made the store");
        }
        for command in ["plan", "validate"] {
            let run = project.runner_in_shell(&shell, &[command]);
            assert_eq!(run.code, if change.contains("/proc") { 3 } else { 0 }, "{change}: {run}");
        }
        let schema = project.runner_in_shell(&shell, &["schema", "manifest"]);
        assert_eq!(schema.code, 0, "{change}: {schema}");
    }
}

also_with_runc! {
    signals_that_the_caller_ignores_stay_ignored_and_steps_begin_with_default_ones,
    a_step_that_writes_more_than_the_callers_limit_is_killed,
    a_memory_limit_that_ends_runner_anywhere_is_named,
    a_step_past_the_cpu_time_limit_names_it,
    the_lowest_accepted_limit_of_open_files_is_enough_for_a_build,
    a_container_that_a_file_size_limit_prevents_fails_with_the_limits_name,
    a_low_limit_of_the_stack_is_raised_or_refused_in_words,
    high_limits_of_the_caller_change_nothing,
    the_default_nofile_fits_the_callers_limit_and_a_higher_one_of_the_manifest_is_refused,
    doctor_and_a_build_agree_on_a_limit_of_open_files,
    a_capability_that_the_caller_lacks_is_named_before_anything_of_the_container_runs,
}
