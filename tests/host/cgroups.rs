//! Cgroups: a step sees none of the host's, raises none of its limits, is ended even if it freezes itself, and is bound by the
//! group that runner was started in.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
use runner::cgroup::{GroupSet, LimitedGroup};
use rustix::process::{Pid, Signal, kill_process};

use crate::built::{Built, Gate, Running, descendants, processes_of, project, unique_seconds, wait_for};
use crate::project::Project;

/// Mounts every hierarchy that the kernel names below /h, as a step may that has CAP_SYS_ADMIN.
const MOUNT_ALL: &str = r#"rm -rf /h; mkdir /h
      while IFS=: read -r number controllers path; do
        mkdir "/h/$number"
        case $controllers in
          "") mount -t cgroup2 none "/h/$number";;
          name=*) mount -t cgroup -o "none,$controllers" none "/h/$number";;
          *) mount -t cgroup -o "$controllers" none "/h/$number";;
        esac || exit 9
        [ "$path" = / ] || echo "$controllers: $path"
      done < /proc/self/cgroup
"#;

fn hostile(limits: &str, steps: &str) -> Project {
    let steps = steps.replace("$MOUNT_ALL", MOUNT_ALL);
    let project = project(&format!(
        "mounts: {{ $GATE }}\ncontainers:\n  c: {{ rootfs: $TOOLS, mounts: [gate], limits: {limits}, \
         capabilities: {{ add: [SYS_ADMIN] }} }}\nsteps:\n{steps}"
    ));
    fs::create_dir(project.path("gate")).unwrap();
    project
}

#[test]
fn a_step_that_mounts_the_hierarchies_sees_no_group_of_the_host() {
    let project = hostile(
        "{}",
        r#"
  - name: look
    run: |
      $MOUNT_ALL
      for group in /h/*/*/; do if [ -d "$group" ]; then echo "seen: $group"; fi; done
      for file in /h/*/release_agent; do if [ -e "$file" ]; then echo "seen: $file"; fi; done
      echo over
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["over"]);
}

#[test]
fn a_step_that_kills_its_cgroup_kills_no_process_of_the_host() {
    let project = hostile(
        "{}",
        "\n  - name: kill\n    run: |\n      $MOUNT_ALL\n      for file in /h/*/cgroup.kill; do echo 1 > $file; done\n",
    );
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let built = Built::of(&project, &[]);
    let survived = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(survived, "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_that_mounts_the_hierarchies_cannot_lift_its_limits() {
    let project = hostile(
        "{ memory: 64MiB, pids: 30, cpus: 1.5 }",
        r#"
  - name: memory
    run: |
      $MOUNT_ALL
      for file in /h/*/memory.limit_in_bytes /h/*/memory.memsw.limit_in_bytes; do [ -e $file ] && (echo -1 > $file) || true; done
      for file in /h/*/memory.max /h/*/memory.swap.max; do [ -e $file ] && (echo max > $file) || true; done
      exec dd if=/dev/zero of=/dev/null bs=200M count=1
  - name: pids
    needs: []
    run: |
      $MOUNT_ALL
      for file in /h/*/pids.max; do [ -e $file ] && (echo max > $file) || true; done
      for i in $(seq 40); do sleep 1000 & done
      echo never
"#,
    );
    let built = Built::of(&project, &["--keep-going", "-j", "1"]);
    assert!(built.reason("memory").starts_with("out of memory: the container may use 64MiB"), "{}", built.run);
    let text = built.text("pids");
    assert!(text.contains("fork") && !text.contains("never"), "{text}");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_cannot_allow_itself_other_devices() {
    let project = hostile(
        "{}",
        r#"
  - name: devices
    run: |
      $MOUNT_ALL
      for file in /h/*/devices.allow; do
        [ -e $file ] || continue
        for rule in a "c 5:1 rwm" "c 10:200 rwm" "c 10:237 rwm"; do (echo "$rule" > $file) 2> /dev/null || true; done
      done
      mknod /console c 5 1; mknod /tun c 10 200; mknod /loop c 10 237
      for node in /console /tun /loop; do (exec 3< $node) 2>&1 | grep -o "Operation not permitted" || echo "$node opens"; done
"#,
    );
    let built = Built::succeed(&project);
    let lines = built.lines("devices");
    let opened = lines.iter().any(|line| line.ends_with(" opens"));
    assert!(!opened && lines.iter().filter(|line| *line == "Operation not permitted").count() == 3, "{lines:?}");
}

/// Freezes all groups that it can, its own last.
const FREEZE: &str = r#"$MOUNT_ALL
      for tree in /h/*; do
        [ -e $tree/freezer.state ] || [ -e $tree/cgroup.freeze ] || continue
        mkdir $tree/inner
        sleep $MARK & echo $! > $tree/inner/cgroup.procs
      done
      touch /gate/frozen.here
      for inner in /h/*/inner; do
        if [ -e $inner/cgroup.freeze ]; then echo 1 > $inner/cgroup.freeze; fi
        if [ -e $inner/freezer.state ]; then echo FROZEN > $inner/freezer.state; fi
      done
      for tree in /h/*; do
        if [ -e $tree/cgroup.freeze ]; then echo 1 > $tree/cgroup.freeze; fi
        if [ -e $tree/freezer.state ]; then echo FROZEN > $tree/freezer.state; fi
      done
      sleep $MARK
"#;

/// Returns a project whose step freezes itself, and the command that it leaves running then, which no other test uses.
fn freezing(timeout: &str) -> (Project, String) {
    let mark = unique_seconds();
    let script = FREEZE.replace("$MARK", &mark);
    let project = hostile("{}", &format!("\n  - name: freeze\n    {timeout}\n    run: |\n      {script}\n"));
    (project, format!("sleep {mark}"))
}

#[test]
fn a_step_that_freezes_itself_is_ended_by_its_timeout() {
    // Once thawed, it may freeze itself again.
    let (project, frozen) = freezing("timeout: 2s\n    grace: 1s");
    let built = Built::of(&project, &[]);
    assert!(built.reason("freeze").starts_with("timed out after 2s"), "{}", built.run);
    assert_eq!(processes_of(&frozen), Vec::<String>::new());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_that_freezes_itself_is_ended_by_an_interrupt() {
    let (project, frozen) = freezing("timeout: 1h\n    grace: 1s");
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("frozen");
    wait_for("a frozen group", || is_any_frozen(build.pid()).then_some(()));
    build.signal(Signal::INT);
    let built = build.end();
    assert_eq!(built.run.code, 130, "{}", built.run);
    assert_eq!(processes_of(&frozen), Vec::<String>::new());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn the_next_start_removes_a_frozen_step_of_a_killed_runner() {
    let (project, frozen) = freezing("timeout: 1h");
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("frozen");
    wait_for("a frozen group", || is_any_frozen(build.pid()).then_some(()));
    let pid = build.pid();
    // Its helpers are killed at the same time: no process remains that could clean up.
    let helpers = descendants(pid);
    for process in [vec![pid], helpers].concat() {
        match kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL) {
            // A helper ends by itself after runner.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(build);
    let next = project.runner(&["run", "c", "--", "sh", "-c", "echo works"]);
    assert_eq!((next.code, next.stdout.as_str(), next.stderr.as_str()), (0, "works\n", ""), "{next}");
    assert_eq!(processes_of(&frozen), Vec::<String>::new());
    assert_eq!(project.leftovers(pid), Vec::<String>::new());
}

fn is_any_frozen(runner: u32) -> bool {
    let prefix = format!("runner-{runner}-");
    let groups = GroupSet::find(|name| name.starts_with(&prefix)).unwrap();
    let mut open: Vec<PathBuf> = groups.hierarchies().iter().map(|group| group.own.path().to_owned()).collect();
    while let Some(directory) = open.pop() {
        if fs::read_to_string(directory.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
            || fs::read_to_string(directory.join("cgroup.events")).is_ok_and(|events| events.contains("frozen 1"))
        {
            return true;
        }
        let inside = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
        open.extend(inside.filter(|path| path.is_dir()));
    }
    false
}

/// Returns a group with those limits, as that of a service or a CI job, and the shell commands with which runner is started in it.
fn caller(name: &str, memory: i64, pids: i64) -> (LimitedGroup, String) {
    let name = format!("test-{name}-{}", unique_seconds());
    let memory = LinuxMemoryBuilder::default().limit(memory).build().unwrap();
    let pids = LinuxPidsBuilder::default().limit(pids).build().unwrap();
    let resources = LinuxResourcesBuilder::default().memory(memory).pids(pids).build().unwrap();
    let caller = LimitedGroup::create(&GroupSet::of_this_process().unwrap(), &name, &resources).unwrap();
    let files = caller.groups().hierarchies().iter().map(|group| group.own.path().join("cgroup.procs"));
    let join: String = files.map(|file| format!("echo $$ > '{}'; ", file.display())).collect();
    (caller, format!("{join} exec \"$@\""))
}

#[test]
fn a_callers_limit_that_is_too_small_for_runner_itself_is_named_with_its_value() {
    let project = project(
        "containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo | cat }, { name: layer, snapshot: {} }]\n",
    );
    let mut too_few = 0;
    for most in 1..=16 {
        let (caller, shell) = caller("few", 1 << 30, most);
        let run = project.runner_in_shell(&shell, &["apply", "--progress", "plain", "--no-cache"]);
        assert!(caller.groups().remove(), "runner has left groups");
        let limit = format!("has a limit of {most} processes and threads (");
        // The step that failed reports it itself, not only a warning beside it.
        let said = run.stdout.clone() + &run.stderr;
        let mut failed = said.lines().filter(|line| line.contains(" * failed after ") || line.starts_with("  help: "));
        assert!(run.code == 0 || failed.any(|line| line.contains(&limit)), "{most}: {run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new(), "{most}");
        too_few += usize::from(run.code != 0);
    }
    assert!(too_few > 5, "runner and a step are more than 5 processes and threads");
    let (caller, shell) = caller("little", 30 << 20, 1000);
    let run = project.runner_in_shell(&shell, &["apply", "--progress", "plain", "--no-cache"]);
    assert!(caller.groups().remove(), "runner has left groups");
    assert!(
        run.stderr.clone().contains("has a limit of 30MiB of memory")
            || run.stdout.contains("has a limit of 30MiB of memory"),
        "{run}"
    );
}

#[test]
fn a_step_is_bound_by_the_group_of_the_shell_that_runner_is_started_from() {
    let (caller, shell) = caller("caller", 64 << 20, 50);
    let many = "for i in $(seq 60); do sleep 1000 & done; echo never";
    let project =
        project(&format!("containers: {{ c: {{ rootfs: $TOOLS }} }}\nsteps: [{{ name: many, run: '{many}' }}]\n"));
    let in_group = |arguments: &[&str]| project.runner_in_shell(&shell, arguments);
    let run = |script: &str| in_group(&["run", "c", "--", "sh", "-c", script]);
    let much = run("dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?");
    let many = run(many);
    let step = in_group(&["apply", "--progress", "plain"]);
    let group = caller.groups().v1("pids").or(caller.groups().v2()).unwrap().path().to_owned();
    assert!(caller.groups().remove(), "runner has left groups");
    assert!(much.stdout.contains("137"), "{much}");
    assert!(many.code != 0 && many.stderr.contains("fork") && !many.stdout.contains("never"), "{many}");
    let limit = format!("has a limit of 50 processes and threads ({}/pids.max); raise that limit", group.display());
    assert!(step.code == 1 && (step.stdout.clone() + &step.stderr).contains(&limit), "{limit}: {step}");
}

#[test]
fn a_group_of_the_caller_that_allows_no_more_groups_is_named_with_its_file() {
    let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo ran }]\n");
    for (file, most) in [("cgroup.max.depth", 0), ("cgroup.max.depth", 1), ("cgroup.max.descendants", 1)] {
        let (caller, shell) = caller("full", 1 << 30, 1000);
        let file = caller.groups().v2().unwrap().path().join(file);
        fs::write(&file, most.to_string()).unwrap();
        let run = project.runner_in_shell(&shell, &["apply", "--progress", "plain"]);
        assert!(caller.groups().remove(), "runner has left groups");
        let said = run.stdout.clone() + &run.stderr;
        let why = format!("{} is {most}, which allows no more", file.display());
        assert!(said.contains(&why) && said.contains(&format!("`echo max > {}`", file.display())), "{why}: {run}");
    }
}

#[test]
fn out_of_memory_the_kernel_ends_a_step_before_runner() {
    let project = project(
        "mounts: { $GATE }\ncontainers: { c: { rootfs: $TOOLS, mounts: [gate] } }\n\
         steps: [{ name: s, run: 'cat /proc/self/oom_score_adj; sh /gate/meet now' }]\n",
    );
    let gate = Gate::new(&project);
    let lower = "echo 7 > /proc/self/oom_score_adj; exec \"$@\"";
    let build = Running::spawn(project.shell(lower, &["apply", "--progress", "json"]));
    gate.await_step("now");
    let runner = fs::read_to_string(format!("/proc/{}/oom_score_adj", build.pid())).unwrap();
    gate.open("now");
    let built = build.end();
    // Without that capability a process can lower no score.
    let may_lower = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE).unwrap();
    let expected = if may_lower { "-500" } else { "7" };
    assert_eq!((runner.trim(), built.lines("s")), (expected, vec!["7".to_owned()]), "{}", built.run);
}

/// On v2 a group above refuses devices by a program of its own, and runner cannot read that.
#[test]
fn a_v1_group_of_the_caller_that_refuses_a_device_is_named_with_the_command_that_allows_it() {
    let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, run: echo ran > /dev/zero }]\n");
    let (caller, shell) = caller("devices", 1 << 30, 1000);
    let group = caller.groups().v1("devices").map(|group| group.path().to_owned());
    if let Some(group) = &group {
        fs::write(group.join("devices.deny"), "c 1:5 w").unwrap();
    }
    let run = project.runner_in_shell(&shell, &["apply", "--progress", "plain"]);
    assert!(caller.groups().remove(), "runner has left groups");
    let Some(group) = group else { return assert_eq!(run.code, 0, "{run}") };
    let fix = format!("refuses it, or a part of it: `echo 'c 1:5 rwm' > {}/devices.allow` allows it", group.display());
    assert!((run.stdout.clone() + &run.stderr).contains(&fix), "{fix}: {run}");
}

#[test]
fn a_build_runs_where_runner_is_scheduled_in_real_time() {
    for policy in ["-r", "-f"] {
        let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: []\n");
        let shell = format!("exec chrt {policy} 1 \"$@\"");
        let run = project.runner_in_shell(&shell, &["run", "c", "--", "sh", "-c", "echo works"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "works\n"), "{policy}: {run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
}

#[test]
fn a_step_whose_limit_is_raised_from_outside_fails_with_that_reason() {
    let project = hostile("{ pids: 77 }", "\n  - { name: lifted, run: sh /gate/meet now }\n");
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("now");
    let prefix = format!("runner-{}-", build.pid());
    let limit =
        |directory: &PathBuf| fs::read_to_string(directory.join("pids.max")).is_ok_and(|most| most.trim() != "max");
    let holder = wait_for("the group with the limit", || {
        let groups = GroupSet::find(|name| name.starts_with(&prefix)).unwrap();
        let own = groups.hierarchies().iter().map(|group| group.own.path().to_owned());
        own.flat_map(|group| [group.join("p"), group]).find(limit)
    });
    fs::write(holder.join("pids.max"), "max").unwrap();
    gate.open("now");
    let built = build.end();
    assert_eq!(built.run.code, 1, "{}", built.run);
    let reason = built.reason("lifted");
    assert!(
        reason.starts_with("`pids` under limits did not stay in force: ") && reason.contains("and is max"),
        "{reason}"
    );
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

also_with_runc! {
    a_step_that_mounts_the_hierarchies_sees_no_group_of_the_host,
    a_step_that_kills_its_cgroup_kills_no_process_of_the_host,
    a_step_that_mounts_the_hierarchies_cannot_lift_its_limits,
    a_step_cannot_allow_itself_other_devices,
    a_step_that_freezes_itself_is_ended_by_its_timeout,
    a_step_that_freezes_itself_is_ended_by_an_interrupt,
    the_next_start_removes_a_frozen_step_of_a_killed_runner,
    a_callers_limit_that_is_too_small_for_runner_itself_is_named_with_its_value,
    a_step_is_bound_by_the_group_of_the_shell_that_runner_is_started_from,
    a_group_of_the_caller_that_allows_no_more_groups_is_named_with_its_file,
    out_of_memory_the_kernel_ends_a_step_before_runner,
    a_v1_group_of_the_caller_that_refuses_a_device_is_named_with_the_command_that_allows_it,
    a_build_runs_where_runner_is_scheduled_in_real_time,
    a_step_whose_limit_is_raised_from_outside_fails_with_that_reason,
}
