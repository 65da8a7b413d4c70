//! Limits of a container: the kernel enforces them on its steps, and the steps cannot raise them.

use std::fs;

use runner::cgroup::GroupSet;

use crate::built::{Built, Gate, Running, processes_of, project, unique_seconds};
use crate::runtime::runtime;

/// Returns the content of a file of the cgroup that limits a runner's only container, by its name on cgroup v1 or on v2.
#[track_caller]
fn of_cgroup(runner: u32, names: [&str; 2]) -> String {
    let prefix = format!("runner-{runner}-");
    let groups = GroupSet::find(|name| name.starts_with(&prefix)).unwrap();
    let own = groups.hierarchies().iter().map(|group| group.own.path());
    // The group of a session whose steps are containers of their own has the limits on one below.
    let limited = own.map(|group| if group.join("p").exists() { group.join("p") } else { group.to_owned() });
    let files = limited.flat_map(|group| names.map(|name| group.join(name)));
    let mut found: Vec<String> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 1, "{names:?} of {prefix}*: {found:?}");
    found.pop().unwrap().trim().to_owned()
}

#[test]
fn processors_and_memory_are_limited_by_the_cgroup_and_a_step_cannot_lift_that() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  c: { rootfs: $TOOLS, mounts: [gate], limits: { cpus: 1.5, memory: 96MiB, pids: 40 } }
steps:
  - name: lift
    run: |
      sh /gate/meet before
      cd /sys/fs/cgroup
      for file in cpu.cfs_quota_us cpu.max memory.limit_in_bytes memory.max pids.max cgroup.procs; do
        for path in $file */$file; do
          [ -e $path ] || continue
          echo $file >> /found
          (echo 1 > $path) 2> /dev/null && echo "$path was written"
        done
      done
      (mkdir /sys/fs/cgroup/new */new) 2> /dev/null && echo "a cgroup was made"
      cat /found
      sh /gate/meet after
"#,
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    for moment in ["before", "after"] {
        gate.await_step(moment);
        let limit = |names| of_cgroup(build.pid(), names);
        let quota = limit(["cpu.cfs_quota_us", "cpu.max"]);
        assert!(quota == "150000" || quota == "150000 100000", "{moment}: {quota}");
        assert_eq!(limit(["memory.limit_in_bytes", "memory.max"]), (96 << 20).to_string(), "{moment}");
        // The embedded runtime's init and its spare and janitor processes belong to no step.
        let processes = if runtime() == "embedded" { "43" } else { "40" };
        assert_eq!(limit(["pids.max", "pids.max"]), processes, "{moment}");
        gate.open(moment);
    }
    let built = build.succeed();
    let lines = built.lines("lift");
    assert!(
        lines.len() >= 3 && !lines.iter().any(|line| line.ends_with("written") || line.ends_with("made")),
        "{lines:?}"
    );
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_reads_its_limits_in_its_own_cgroup() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, limits: { cpus: 1.5, memory: 96MiB, pids: 40 } }
steps:
  - name: look
    run: |
      cd /sys/fs/cgroup
      for file in memory.limit_in_bytes memory.max cpu.cfs_quota_us cpu.max pids.max; do
        for path in $file */$file; do
          [ -e $path ] && echo "$file $(cat $path)"
        done
      done
      true
"#,
    );
    let built = Built::succeed(&project);
    let mut lines = built.lines("look");
    lines.sort_unstable();
    // cpu and cpu,cpuacct are names of one hierarchy.
    lines.dedup();
    let processes = if runtime() == "embedded" { "43" } else { "40" };
    let pids = format!("pids.max {processes}");
    let is_v1 = lines.iter().any(|line| line.starts_with("cpu.cfs"));
    let cpu = if is_v1 { "cpu.cfs_quota_us 150000" } else { "cpu.max 150000 100000" };
    let is_v1 = lines.iter().any(|line| line.starts_with("memory.limit"));
    let memory = if is_v1 { "memory.limit_in_bytes 100663296" } else { "memory.max 100663296" };
    assert_eq!(lines, [cpu, memory, &pids], "{}", built.run);
}

#[test]
fn files_of_ended_steps_in_dev_shm_take_no_memory_from_the_next() {
    let steps: String = (1..9)
        .map(|n| format!("  - {{ name: s{n}, needs: [], run: 'set +e; cat /dev/zero > /dev/shm/f 2> /dev/null; mkdir -p /dev/d; cat /dev/zero > /dev/d/f 2> /dev/null; echo full' }}\n"))
        .collect();
    let project =
        project(&format!("containers: {{ c: {{ rootfs: $TOOLS, limits: {{ memory: 300MiB }} }} }}\nsteps:\n{steps}"));
    let built = Built::of(&project, &["-j", "1", "--keep-going"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.text("s8"), "full\n");
}

#[test]
fn a_plan_shows_the_limits_that_are_enforced() {
    let project = project(
        "containers: { c: { rootfs: $TOOLS, limits: { memory: 96MiB, pids: 40 } } }\nsteps: [{ name: s, run: echo }]\n",
    );
    let plan = project.runner(&["plan"]);
    assert!(
        plan.stdout.contains("limits of c: memory 96MiB is enforced") && plan.stdout.contains("; pids 40 is enforced"),
        "{plan}"
    );
    let plan: serde_json::Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
    assert_eq!(plan["limits"]["c"]["pids"], serde_json::json!({ "value": 40, "default": false, "holds": true }));
}

#[test]
fn a_container_without_limits_of_its_own_has_the_default_number_of_processes() {
    let project = project(
        "mounts: { $GATE }\ncontainers: { c: { rootfs: $TOOLS, mounts: [gate] } }\nsteps: [{ name: s, run: sh /gate/meet now }]\n",
    );
    let gate = Gate::new(&project);
    let build = Running::start(&project, &[]);
    gate.await_step("now");
    assert_eq!(of_cgroup(build.pid(), ["pids.max", "pids.max"]), "32768");
    gate.open("now");
    assert_eq!(build.end().run.code, 0);
}

#[test]
fn a_step_has_at_most_the_processes_that_its_container_allows() {
    let seconds = unique_seconds();
    let project = project(
        &r#"
containers:
  c: { rootfs: $TOOLS, limits: { pids: 12 } }
steps:
  - name: as-many
    run: |
      for i in 1 2 3 4 5 6 7 8 9 10 11; do sleep SECONDS & done
      set -- /proc/[0-9]*; echo $#
  - name: one-more
    needs: [as-many]
    run: for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep SECONDS & done; echo never
  - { name: bomb, needs: [as-many], timeout: 1s, run: "b() { b | b & }; b & while :; do :; done" }
  - { name: after, needs: [as-many], run: echo works }
  - { name: other, needs: [as-many], run: exit 3 }
"#
        .replace("SECONDS", &seconds),
    );
    let built = Built::of(&project, &["--keep-going", "-j", "1"]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!(built.lines("as-many"), ["12"]);
    let refused = "exit code 2; the kernel refused a process or thread: the container may have 12 (`pids` under limits); \
                   `limits: {pids: 24}` allows more";
    assert_eq!((built.status("one-more"), built.reason("one-more")), ("failed", refused), "{}", built.run);
    assert_eq!(built.reason("other"), "exit code 3", "no process was refused to this one");
    let text = built.text("one-more");
    assert!(text.contains("12\n") && text.contains("fork") && !text.contains("never"), "{text}");
    assert_eq!(built.reason("bomb"), "timed out after 1s");
    assert_eq!(built.text("after"), "works\n");
    assert_eq!(processes_of(&format!("sleep {seconds}")), Vec::<String>::new());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_process_over_its_memory_limit_is_killed_and_the_step_reports_that() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, limits: { memory: 64MiB } }
steps:
  - { name: little, exec: [dd, if=/dev/zero, of=/dev/null, bs=16M, count=1] }
  - { name: much, needs: [little], exec: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1] }
  - { name: a-child, needs: [little], run: "dd if=/dev/zero of=/dev/null bs=200M count=1; echo never" }
  - { name: other, needs: [little], run: exit 3 }
  - { name: after, needs: [little], run: echo works }
  - { name: needs-it, needs: [much], run: echo never }
"#,
    );
    let built = Built::of(&project, &["--keep-going", "-j", "1"]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!(built.status("little"), "ran", "{}", built.run);
    let out_of_memory = "out of memory: the container may use 64MiB (`memory` under limits), and files written to its root \
         are in memory and count: `scratch: {disk: true}` puts it on disk; ";
    assert_eq!(built.reason("much"), format!("{out_of_memory}killed by signal 9 (SIGKILL)"));
    assert_eq!(built.ending("much")["exit_code"], 137);
    assert_eq!(built.reason("a-child"), format!("{out_of_memory}exit code 137"));
    assert_eq!(built.reason("other"), "exit code 3", "the one before ran out of memory, this one did not");
    assert_eq!(built.status("needs-it"), "skipped");
    assert_eq!(built.text("after"), "works\n");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_limit_of_one_process_is_enforced_and_an_external_runtime_that_needs_more_is_named() {
    let project = project(
        "
containers:
  one: { rootfs: $TOOLS, limits: { pids: 1 } }
  enough: { rootfs: $TOOLS, limits: { pids: 16 }, hostname: other }
steps:
  - { name: one, container: one, run: echo it runs }
  - { name: enough, container: enough, run: echo it runs }
",
    );
    let built = Built::of(&project, &["--keep-going"]);
    assert_eq!(built.text("enough"), "it runs\n");
    if runtime() == "embedded" {
        return assert_eq!(built.text("one"), "it runs\n");
    }
    let hint = "runc itself needs more processes and threads in the container to start a step than the 1 of `pids` under limits; \
                `limits: {pids: 16}` or `--runtime embedded` leaves enough";
    assert!(built.reason("one").starts_with("cannot start: ") && built.reason("one").ends_with(hint), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

also_with_runc! {
    processors_and_memory_are_limited_by_the_cgroup_and_a_step_cannot_lift_that,
    a_step_reads_its_limits_in_its_own_cgroup,
    files_of_ended_steps_in_dev_shm_take_no_memory_from_the_next,
    a_container_without_limits_of_its_own_has_the_default_number_of_processes,
    a_step_has_at_most_the_processes_that_its_container_allows,
    a_process_over_its_memory_limit_is_killed_and_the_step_reports_that,
    a_limit_of_one_process_is_enforced_and_an_external_runtime_that_needs_more_is_named,
}
