//! Cgroups: other groups of the host, a step's own limits, the freezer, and the limits of runner's caller.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::attack::{Attack, Verdict, got_out, not_tried, safe, tried};
use crate::build::Build;
use crate::groups::{Groups, limits_home};
use crate::lab::{self, Lab, Project};
use crate::leftovers::{clear, groups_of, hierarchies, kill, processes_of, wait_until};
use crate::patience;

/// Settings beside the default, under whose profile a container cannot even begin.
const VARIANTS: [&str; 3] = ["user: 0", "seccomp: unconfined", "capabilities: { add: [SYS_ADMIN] }"];

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "H1",
        name: "host-cgroups",
        summary: "mounts all hierarchies, looks for the host's groups",
        run: |lab| other_groups(lab, VARIANTS[0]),
    },
    Attack {
        row: "H1",
        name: "host-cgroups-unconfined",
        summary: "the same without seccomp",
        run: |lab| other_groups(lab, VARIANTS[1]),
    },
    Attack {
        row: "H1",
        name: "host-cgroups-with-sys-admin",
        summary: "the same with SYS_ADMIN",
        run: |lab| other_groups(lab, VARIANTS[2]),
    },
    Attack {
        row: "H2",
        name: "own-limits",
        summary: "lifts memory, pids and cpu limits",
        run: |lab| own_limits(lab, VARIANTS[0]),
    },
    Attack {
        row: "H2",
        name: "own-limits-unconfined",
        summary: "the same without seccomp",
        run: |lab| own_limits(lab, VARIANTS[1]),
    },
    Attack {
        row: "H2",
        name: "own-limits-with-sys-admin",
        summary: "the same with SYS_ADMIN",
        run: |lab| own_limits(lab, VARIANTS[2]),
    },
    Attack {
        row: "H3",
        name: "frozen-timeout",
        summary: "freezes itself, past its timeout",
        run: |lab| frozen(lab, VARIANTS[0], "freeze", End::Timeout),
    },
    Attack {
        row: "H3",
        name: "frozen-timeout-unconfined",
        summary: "the same without seccomp",
        run: |lab| frozen(lab, VARIANTS[1], "freeze", End::Timeout),
    },
    Attack {
        row: "H3",
        name: "frozen-interrupt",
        summary: "freezes itself, then Ctrl-C, without seccomp",
        run: |lab| frozen(lab, VARIANTS[1], "freeze", End::Signal("INT")),
    },
    Attack {
        row: "H3",
        name: "frozen-again",
        summary: "freezes a child whenever it is thawed, past its timeout",
        run: |lab| frozen(lab, VARIANTS[1], "freeze-child", End::Timeout),
    },
    Attack {
        row: "H3",
        name: "frozen-again-with-sys-admin",
        summary: "the same with SYS_ADMIN, then Ctrl-C",
        run: |lab| frozen(lab, VARIANTS[2], "freeze-child", End::Signal("INT")),
    },
    Attack {
        row: "H3",
        name: "frozen-kill",
        summary: "freezes itself, runner is killed, without seccomp",
        run: |lab| frozen(lab, VARIANTS[1], "freeze", End::Signal("KILL")),
    },
    Attack {
        row: "H3",
        name: "frozen-kill-with-sys-admin",
        summary: "the same with SYS_ADMIN",
        run: |lab| frozen(lab, VARIANTS[2], "freeze", End::Signal("KILL")),
    },
    Attack {
        row: "M2",
        name: "no-pids-limit",
        summary: "a step without limits is bounded by default",
        run: default_pids,
    },
    Attack {
        row: "M2",
        name: "limits-of-the-caller",
        summary: "a step leaves its caller's memory and pids limits",
        run: limits_of_caller,
    },
    Attack {
        row: "M3",
        name: "full-root-in-memory",
        summary: "fills the root past limits.memory: init is no victim",
        run: full_root,
    },
    Attack { row: "contained", name: "fork-bomb", summary: "a fork bomb with limits.pids", run: fork_bomb },
];

fn other_groups(lab: &Lab, container: &str) -> Verdict {
    let name = format!("attack-victim-{}", lab.tag());
    let mut victim = Groups::make(name);
    let project = lab.project(&format!(
        "
containers: {{ c: {{ rootfs: $BASE, {container} }} }}
steps: [{{ name: s, exec: [/probe, cgroups, {}] }}]
",
        victim.name
    ));
    let build = project.apply(&[])?;
    build.tried("s", "searched")?;
    build.without("s", &["SEEN", "JOINED", "KILLED"])?;
    thread::sleep(patience::time(Duration::from_millis(50)));
    safe(victim.process.try_wait().unwrap().is_none(), "a process of the host was killed")
}

fn own_limits(lab: &Lab, container: &str) -> Verdict {
    let project = lab.project(&format!(
        "
containers: {{ c: {{ rootfs: $BASE, limits: {{ memory: 64MiB, pids: 60, cpus: 0.5 }}, {container} }} }}
steps:
  - {{ name: lift, exec: [/probe, lift] }}
  - {{ name: both, run: '/probe lift; /probe fork 300' }}
  - {{ name: fork, exec: [/probe, fork, 300] }}
  - {{ name: memory, needs: [lift], run: '/probe lift; exec /probe memory 300' }}
"
    ));
    let home = limits_home(lab, &project)?;
    let build = project.run(home.command(&project, &["apply", "--progress", "json", "--keep-going", "-j", "1"]))?;
    for step in ["lift", "both", "memory"] {
        tried(build.printed(step, "tried to lift") || step == "memory", build.to_string())?;
    }
    build.tried("memory", "TRYING")?;
    for step in ["both", "fork"] {
        let forked = build.lines(step).iter().find_map(|line| line.strip_prefix("forked ")?.parse::<u32>().ok());
        let forked = forked.ok_or_else(|| not_tried(format!("{step}: {build}")))?;
        safe(forked < 100, format!("{step}: {forked} processes where 60 may be: {}", writes(&build)))?;
    }
    safe(!build.printed("memory", "TOOK 300"), format!("took 300 MiB where 64 may be: {}", writes(&build)))
}

/// Returns the step's writes to files of cgroups.
fn writes(build: &Build) -> String {
    build
        .lines("lift")
        .into_iter()
        .filter(|line| line.starts_with("write ") && line.ends_with("made"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The end of a build whose step has frozen itself.
enum End {
    Timeout,
    Signal(&'static str),
}

/// Removes the groups and processes of an attack that got through, so that the host and the other attacks do not suffer.
struct Rescue<'a>(u32, &'a str);

impl Drop for Rescue<'_> {
    fn drop(&mut self) {
        clear(self.0, self.1);
    }
}

fn frozen(lab: &Lab, container: &str, how: &str, end: End) -> Verdict {
    let marker = format!("{how} {}", lab.tag());
    let timeout =
        if matches!(end, End::Timeout) { format!("timeout: {}s, ", patience::seconds(1)) } else { String::new() };
    let timeout = format!("{timeout}grace: {}s,", patience::seconds(1));
    let project = lab.project(&format!(
        "
mounts: {{ gate: {{ type: bind, source: gate, target: /gate }} }}
containers: {{ c: {{ rootfs: $BASE, mounts: [gate], {container} }} }}
steps: [{{ name: s, {timeout} run: 'touch /gate/begun; exec /probe {marker}' }}]
"
    ));
    fs::create_dir(project.path("gate")).unwrap();
    let log = fs::File::create(project.path("stdout")).unwrap();
    let mut command = project.command(&["apply", "--progress", "json"]);
    let mut runner = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let rescue = Rescue(runner.id(), &marker);
    let begun = wait_until(20, || project.path("gate/begun").exists() || has_ended(runner.id()));
    // Time for the step to freeze, or to report that it cannot.
    wait_until(1, || project.read("stdout").contains("not frozen") || project.read("stdout").contains("FREEZING"));
    if let End::Signal(signal) = end {
        kill(&runner.id().to_string(), signal);
    }
    let status = lab::wait(&mut runner, Duration::from_secs(25));
    let shown = project.read("stdout");
    tried(begun && project.path("gate/begun").exists(), format!("the step never began: {shown}"))?;
    safe(
        status.is_some(),
        "runner did not end in the time that it has: a frozen step outlives its timeout and Ctrl-C",
    )?;
    let left = || processes_of(&marker).len() + groups_of(rescue.0).len();
    // The next start removes the resources that the kernel does not free by itself.
    project.write("next.yaml", &project.read("build.yaml").replace(&format!("exec /probe {marker}"), "true"));
    let next = project.run(project.command(&["apply", "next.yaml"]))?;
    tried(next.code == 0, next.to_string())?;
    let cleared = wait_until(10, || left() == 0);
    let (processes, groups) = (processes_of(&marker), groups_of(rescue.0));
    safe(cleared, format!("the next start left processes {processes:?} and groups {groups:?}"))
}

fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn default_pids(lab: &Lab) -> Verdict {
    let marker = format!("8639.{}", lab.tag().replace('-', ""));
    let project = lab.project(&format!(
        "
mounts: {{ gate: {{ type: bind, source: gate, target: /gate }} }}
containers: {{ c: {{ rootfs: $BASE, mounts: [gate] }} }}
steps: [{{ name: s, run: 'sleep {marker} & until [ -e /gate/go ]; do sleep 0.05; done' }}]
"
    ));
    fs::create_dir(project.path("gate")).unwrap();
    let home = limits_home(lab, &project)?;
    let mut command = home.command(&project, &["apply", "--progress", "json"]);
    let mut runner = command.stdout(Stdio::null()).spawn().unwrap();
    let expected = format!("sleep {marker} ");
    // The shell's own command line has the text, too, and so has the shell's child until it becomes sleep.
    let is_sleep = |pid: &String| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let find = || processes_of(&expected).into_iter().find(is_sleep);
    wait_until(20, || find().is_some() || has_ended(runner.id()));
    let pid = find();
    let limit = pid.as_deref().map(least_pids);
    project.write("gate/go", "");
    let ended = lab::wait_for_end(&mut runner);
    tried(ended.is_some() && limit.is_some(), "the step's process was not found on the host")?;
    let limit = limit.flatten();
    safe(limit.is_some_and(|limit| limit <= 33_000), format!("a step without limits may have {limit:?} processes"))
}

/// Returns the lowest of a process' pids limits over its group and those above it, but for the host's own groups.
fn least_pids(pid: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().lines() {
        let path = line.rsplit(':').next().unwrap_or_default();
        for hierarchy in hierarchies() {
            let mut group = hierarchy.join(path.trim_start_matches('/'));
            while group.starts_with(&hierarchy) && group != hierarchy {
                if group.to_string_lossy().contains("runner-") {
                    let limit = fs::read_to_string(group.join("pids.max")).unwrap_or_default();
                    limits.extend(limit.trim().parse::<u64>().ok());
                }
                group.pop();
            }
        }
    }
    limits.into_iter().min()
}

fn limits_of_caller(lab: &Lab) -> Verdict {
    let name = format!("attack-caller-{}", lab.tag());
    let caller = Groups::make(name);
    let set =
        caller.limit(["memory.limit_in_bytes", "memory.max"], "160M") && caller.limit(["pids.max", "pids.max"], "120");
    tried(set, "the host has no memory and pids controllers")?;
    let _ = caller.limit(["memory.memsw.limit_in_bytes", "memory.swap.max"], "0");
    let project = lab.project(
        "
containers: { c: { rootfs: $BASE } }
steps:
  - { name: fork, exec: [/probe, fork, 400] }
  - { name: memory, needs: [], exec: [/probe, memory, 600] }
",
    );
    let build = project.run(caller.command(&project, &["apply", "--progress", "json", "--keep-going", "-j", "1"]))?;
    build.did_not_hang()?;
    let forked = build.lines("fork").iter().find_map(|line| line.strip_prefix("forked ")?.parse::<u32>().ok());
    // The caller's limit may end runner itself: that, too, shows that the limit is enforced.
    tried(forked.is_some() || build.code != 0, build.to_string())?;
    tried(build.printed("memory", "TRYING") || build.code > 1, build.to_string())?;
    safe(forked.unwrap_or(0) < 120, format!("{forked:?} processes where the caller may have 120"))?;
    safe(!build.printed("memory", "TOOK 600"), "a step took 600 MiB where its caller may take 160")
}

fn full_root(lab: &Lab) -> Verdict {
    let project = lab.project(
        &"
containers: { c: { rootfs: $BASE, limits: { memory: 64MiB } } }
steps:
  - { name: fill, timeout: $SECONDS, run: 'echo TRYING; head -c 300000000 /dev/zero > /big; echo WROTE' }
  - { name: after, needs: [], timeout: $SECONDS, run: sleep 0.1; echo works }
"
        .replace("$SECONDS", &format!("{}s", patience::seconds(6))),
    );
    let build = project.apply(&["-j", "1"])?;
    build.tried("fill", "TRYING")?;
    safe(!build.printed("fill", "WROTE"), "wrote 300 MB where 64 MiB may be")?;
    // Where the shell's own pages have no memory beside the file, it makes no progress, until its timeout.
    for step in ["fill", "after"] {
        let reason = build.reason(step);
        let named = reason.contains("memory") || reason.starts_with("timed out");
        let cause_is_clear = build.code == 1 && (named || step == "after" && build.status(step) == "ran");
        safe(cause_is_clear, format!("{step}: no cause was named, or init was killed: {build}"))?;
    }
    Ok(())
}

fn fork_bomb(lab: &Lab) -> Verdict {
    let project: Project = lab.project(
        &"
containers: { c: { rootfs: $BASE, limits: { pids: 50 } } }
steps:
  - { name: bomb, timeout: $SECONDS, run: 'echo TRYING; b() { b | b & }; b & while :; do :; done' }
  - { name: after, needs: [], run: echo works }
"
        .replace("$SECONDS", &format!("{}s", patience::seconds(1))),
    );
    let build = project.apply(&["-j", "1"])?;
    build.tried("bomb", "TRYING")?;
    if build.lines("after") != ["works"] {
        return Err(got_out(format!("a fork bomb stops the next step: {build}")));
    }
    let left = groups_of(build.pid);
    safe(wait_until(5, || groups_of(build.pid).is_empty()), format!("it left {left:?}"))
}
