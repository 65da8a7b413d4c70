//! The system calls that a step may make: by the default profile, by none, and by one of the manifest's author.

use std::fs;
use std::process::Command;

use runner::seccomp::{Architecture, Kernel, Profile, compile};

use crate::built::{self, Built, project};
use crate::project::Project;
use crate::runtime::runtime;

/// Makes calls, and prints for each whether it was made or how it failed.
const CALLS: &str = r##"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void tell(const char *name, long result) {
    printf("%s %s\n", name, result >= 0 ? "made" : strerrorname_np(errno));
    fflush(stdout);
}
/* In a process of its own: what is made of namespaces must not change what comes after. */
static void apart(const char *name, long (*call)(void)) {
    pid_t child = fork();
    if (child == 0) {
        tell(name, call());
        _exit(0);
    }
    waitpid(child, NULL, 0);
}
static long new_user(void) { return unshare(CLONE_NEWUSER); }
static long new_net(void) { return unshare(CLONE_NEWUSER | CLONE_NEWNET); }
static long cloned(void) {
    long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return child;
}
static long plain_clone(void) {
    long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return child;
}
int main(void) {
    char zeros[128] = {0};
    apart("unshare-user", new_user);
    apart("unshare-net", new_net);
    apart("clone-user", cloned);
    apart("clone", plain_clone);
    tell("clone3", syscall(SYS_clone3, zeros, 0));
    tell("add_key", syscall(SYS_add_key, "user", "runner-test", "x", 1, -2 /* the process' own keyring */));
    tell("keyctl", syscall(SYS_keyctl, 0 /* which keyring */, -2, 1));
    tell("request_key", syscall(SYS_request_key, "user", "runner-test", NULL, -2));
    tell("io_uring_setup", syscall(SYS_io_uring_setup, 1, zeros));
    tell("userfaultfd", syscall(SYS_userfaultfd, 1 /* of this process alone */));
    tell("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    tell("bpf", syscall(SYS_bpf, 0, zeros, sizeof zeros));
    tell("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    tell("vsock-upper-half", syscall(SYS_socket, AF_VSOCK | 1L << 32, SOCK_STREAM, 0));
    tell("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    tell("unix", socket(AF_UNIX, SOCK_STREAM, 0));
    tell("personality", syscall(SYS_personality, 0x0040000 /* no random addresses */));
    tell("of-the-future", syscall(1000));
    return 0;
}
"##;

/// Loads the filter of a file, and becomes the program that makes the calls.
const LOADER: &str = r##"
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static struct sock_filter instructions[4096];
    ssize_t bytes = read(open(argv[1], O_RDONLY), instructions, sizeof instructions);
    struct sock_fprog program = {bytes / sizeof *instructions, instructions};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) {
        perror("the kernel does not take the filter");
        return 1;
    }
    execl(argv[2], argv[2], (char *)NULL);
    perror(argv[2]);
    return 1;
}
"##;

/// Returns a project with the program that makes the calls at /gift/calls.
fn with_calls(manifest: &str) -> Project {
    let gift = "mounts:\n  gift: { type: bind, source: gift, target: /gift, options: [ro] }\n";
    let tools = "{ programs: [/bin/sh, /bin/cat, /bin/mkdir, /bin/true, /usr/bin/unshare] }";
    let project = project(&format!("{gift}{}", manifest.replace("$ROOT", tools)));
    fs::create_dir(project.path("gift")).unwrap();
    built::compile(&project, "gift/calls", CALLS, &["-static"]);
    project
}

#[track_caller]
fn build(project: &Project, arguments: &[&str]) -> Built {
    let built = Built::of(project, arguments);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    built
}

/// Returns how a call ended in a step.
#[track_caller]
fn ending(built: &Built, step: &str, call: &str) -> String {
    let lines = built.lines(step);
    let line = lines.iter().find_map(|line| line.strip_prefix(&format!("{call} ")));
    line.unwrap_or_else(|| panic!("no {call} in {lines:?}")).to_owned()
}

#[test]
fn the_default_profile_refuses_calls_that_reach_the_host_and_unconfined_does_not() {
    let project = with_calls(
        "
containers:
  default: { rootfs: $ROOT, mounts: [gift] }
  unconfined: { rootfs: $ROOT, mounts: [gift], seccomp: unconfined }
  admin: { rootfs: $ROOT, mounts: [gift], capabilities: { add: [SYS_ADMIN] } }
steps:
  - { name: default, container: default, exec: [/gift/calls] }
  - { name: unconfined, container: unconfined, exec: [/gift/calls] }
  - { name: admin, container: admin, exec: [/gift/calls] }
  - { name: by-another, container: default, user: \"1000:1000\", exec: [/gift/calls] }
  - { name: mode, container: default, exec: [cat, /proc/self/status] }
",
    );
    let built = build(&project, &[]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    for step in ["default", "by-another"] {
        for call in [
            "unshare-user",
            "unshare-net",
            "clone-user",
            "add_key",
            "keyctl",
            "request_key",
            "io_uring_setup",
            "userfaultfd",
            "perf_event_open",
            "bpf",
            "vsock",
            "vsock-upper-half",
            "alg",
            "personality",
        ] {
            assert_eq!(ending(&built, step, call), "EPERM", "{step}: {call}");
        }
        for call in ["clone3", "of-the-future"] {
            assert_eq!(ending(&built, step, call), "ENOSYS", "{step}: {call}");
        }
        for call in ["clone", "unix"] {
            assert_eq!(ending(&built, step, call), "made", "{step}: {call}");
        }
    }
    // The filter refuses them: without it, and some with the capability for them, they are made.
    for call in ["unshare-user", "unshare-net", "clone-user", "add_key", "keyctl", "userfaultfd", "personality"] {
        assert_eq!(ending(&built, "unconfined", call), "made", "{call}");
    }
    for call in ["unshare-user", "unshare-net", "clone-user"] {
        assert_eq!(ending(&built, "admin", call), "made", "{call}");
    }
    assert_eq!(ending(&built, "admin", "keyctl"), "EPERM");
    // 2 is SECCOMP_MODE_FILTER of proc(5).
    assert!(built.lines("mode").iter().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])));
}

#[test]
fn the_kernel_answers_by_a_compiled_filter_as_by_the_one_of_runc() {
    let project = with_calls(
        "
containers:
  c: { rootfs: $ROOT, mounts: [gift] }
steps:
  - { name: calls, exec: [/gift/calls] }
",
    );
    let built = Built::of(&project, &["--runtime", "runc"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    let capabilities = ["CHOWN", "DAC_OVERRIDE", "MKNOD", "SYS_CHROOT"].map(|name| name.parse().unwrap());
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let (machine, kernel) = (Architecture::native().unwrap(), Kernel::of_release(&release).unwrap());
    let program = compile(&Profile::standard().resolve(&capabilities, machine, kernel).unwrap()).unwrap();
    fs::write(project.path("filter"), program.iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    built::compile(&project, "loader", LOADER, &[]);
    let mut loader = Command::new(project.path("loader"));
    let output = loader.arg(project.path("filter")).arg(project.path("gift/calls")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), built.text("calls"));
}

#[test]
fn a_seccomp_profile_of_the_manifest_is_applied_and_is_an_input() {
    let project = with_calls(
        "
containers:
  c: { rootfs: $ROOT, mounts: [gift], seccomp: profile.json }
steps:
  - { name: refused, run: mkdir /made 2>&1 || echo refused; /gift/calls }
  - { name: layer, snapshot: {} }
",
    );
    let profile = |errno: u32| {
        let rules = format!(
            r#"{{"names": ["mkdir", "mkdirat", "call_of_the_future"], "action": "SCMP_ACT_ERRNO", "errnoRet": {errno}}}"#
        );
        project.write("profile.json", &format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rules}]}}"#));
    };
    profile(13);
    let first = build(&project, &[]);
    assert_eq!(first.run.code, 0, "{}", first.run);
    let lines = first.lines("refused");
    assert!(lines[0].ends_with("Permission denied") && lines[1] == "refused", "{lines:?}");
    assert_eq!(ending(&first, "refused", "unshare-user"), "made");
    assert_eq!(build(&project, &[]).status("refused"), "cached");
    profile(28);
    let third = build(&project, &[]);
    assert_eq!(third.status("refused"), "ran");
    assert!(third.lines("refused")[0].ends_with("No space left on device"), "{:?}", third.lines("refused"));
    let reasons = third.all("step_started")[0]["reasons"].to_string();
    assert!(reasons.contains(r#""field":"seccomp""#), "{reasons}");
}

#[test]
fn a_step_that_its_seccomp_profile_stops_gets_a_hint_with_the_call() {
    let project = with_calls(
        "
containers:
  closed: { rootfs: $ROOT }
  open: { rootfs: $ROOT, seccomp: unconfined }
steps:
  - { name: closed, container: closed, exec: [unshare, -Ur, \"true\"] }
  - { name: open, container: open, exec: [unshare, -Ur, \"true\"] }
  - { name: another, container: closed, needs: [], run: echo no luck; exit 1 }
",
    );
    let built = build(&project, &["--keep-going"]);
    assert_eq!((built.run.code, built.status("closed"), built.status("open")), (1, "failed", "ran"), "{}", built.run);
    let hint = "the default seccomp profile of container closed refuses `unshare`; if the step needs it, write `seccomp: \
                unconfined` there, or `capabilities: { add: [SYS_ADMIN] }`";
    assert_eq!(built.ending("closed")["failure"]["hint"], hint);
    assert!(built.ending("another")["failure"].get("hint").is_none());
    let shown = project.runner(&["apply", "--progress", "quiet", "--target", "closed"]);
    assert!((shown.stdout + &shown.stderr).contains(&format!("\n  help: {hint}\n")));
    let reports = ["--report", "report.xml", "--report", "report.html"];
    project.runner(&[&["apply", "--target", "closed"], &reports[..]].concat());
    for report in ["report.xml", "report.html"] {
        let text = fs::read_to_string(project.path(report)).unwrap();
        assert!(text.contains("the default seccomp profile of container closed refuses"), "{report}");
    }
}

#[test]
fn a_step_that_lacks_a_capability_gets_a_hint_and_works_with_it() {
    let steps = |container: &str| {
        format!(
            "  - {{ name: mount{container}, container: c{container}, exec: [mount, -t, tmpfs, none, /mnt] }}\n\
             \x20 - {{ name: chattr{container}, container: c{container}, needs: [], run: touch /f; chattr +i /f; chattr -i /f }}\n\
             \x20 - {{ name: renice{container}, container: c{container}, needs: [], run: renice -n -5 -p $$ }}\n"
        )
    };
    let root = "{ programs: [/bin/sh, /bin/mount, /bin/true, /usr/bin/touch, /usr/bin/chattr, /usr/bin/renice] }";
    let project = project(&format!(
        "mounts: {{ mnt: {{ type: tmpfs, target: /mnt }} }}\ncontainers:\n  c: {{ rootfs: {root}, mounts: [mnt] }}\n  cx: \
         {{ rootfs: {root}, mounts: [mnt], scratch: {{ disk: true }}, capabilities: {{ add: [SYS_ADMIN, LINUX_IMMUTABLE, SYS_NICE] }} }}\n\
         steps:\n{}{}",
        steps(""),
        steps("x")
    ));
    let built = build(&project, &["--keep-going"]);
    for (step, capability) in [("mount", "SYS_ADMIN"), ("chattr", "LINUX_IMMUTABLE"), ("renice", "SYS_NICE")] {
        let hint = format!(
            "`{step}` needs the capability {capability}, which the step does not have; write `capabilities: {{ add: \
             [{capability}] }}` in container c"
        );
        assert_eq!(built.ending(step)["failure"]["hint"], hint, "{}", built.run);
        assert_eq!(built.status(&format!("{step}x")), "ran", "{}", built.run);
    }
}

#[test]
fn a_process_whose_profile_refuses_exit_ends_and_one_that_its_profile_kills_gets_a_hint() {
    let project = with_calls(
        "
containers:
  endless: { rootfs: $ROOT, seccomp: endless.json }
  killing: { rootfs: $ROOT, seccomp: killing.json }
steps:
  - { name: killed, container: killing, needs: [], exec: [mkdir, /made] }
  - { name: missing, container: endless, exec: [/no/such/program], timeout: 20s }
",
    );
    let rule = r#"{"names": ["exit_group", "exit"], "action": "SCMP_ACT_ERRNO"}"#;
    project.write("endless.json", &format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#));
    let rule = r#"{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}"#;
    project.write("killing.json", &format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#));
    let built = build(&project, &["--keep-going"]);
    let hint = built.ending("killed")["failure"]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("/killing.json of container killing ends a process (SIGSYS)"), "{}", built.run);
    assert_eq!(built.status("missing"), "failed", "{}", built.run);
    if runtime() == "embedded" {
        assert!(built.reason("missing").contains("/no/such/program does not exist"), "{}", built.reason("missing"));
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_whose_profile_prevents_its_start_names_the_profile_and_the_call() {
    let project = with_calls(
        "
containers:
  silent: { rootfs: $ROOT, seccomp: sendmsg.json }
  partly: { rootfs: $ROOT, seccomp: partly.json }
  user: { rootfs: $ROOT, seccomp: setresuid.json, no_new_privileges: false }
steps:
  - { name: silent, container: silent, exec: [/no/such/program] }
  - { name: partly, container: partly, exec: [/no/such/program] }
  - { name: user, container: user, user: 12:12, exec: [cat, /proc/version] }
  - { name: runs, container: silent, needs: [], exec: [cat, /proc/version] }
",
    );
    for (name, rule) in [
        ("sendmsg", r#"{"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO"}"#),
        ("setresuid", r#"{"names": ["setresuid"], "action": "SCMP_ACT_ERRNO"}"#),
        // Needed only for the descriptor of the status socket.
        (
            "partly",
            r#"{"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]}"#,
        ),
    ] {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
        project.write(&format!("{name}.json"), &text);
    }
    let built = build(&project, &["--keep-going"]);
    assert_eq!(built.status("runs"), "ran", "{}", built.run);
    for (step, call) in [("silent", "sendmsg"), ("partly", "sendmsg"), ("user", "setresuid")] {
        // runc loads such a filter once the user is set, and reports itself that a program is missing.
        if runtime() == "embedded" {
            let reason = built.reason(step);
            assert_eq!(built.status(step), "failed", "{reason}");
            let words = format!("the container's seccomp profile refuses `{call}`, with which runner starts a step");
            assert!(reason.contains(&words), "{step}: {reason}");
        }
    }
}

also_with_runc! {
    the_default_profile_refuses_calls_that_reach_the_host_and_unconfined_does_not,
    a_seccomp_profile_of_the_manifest_is_applied_and_is_an_input,
    a_step_that_its_seccomp_profile_stops_gets_a_hint_with_the_call,
    a_step_that_lacks_a_capability_gets_a_hint_and_works_with_it,
    a_process_whose_profile_refuses_exit_ends_and_one_that_its_profile_kills_gets_a_hint,
    a_step_whose_profile_prevents_its_start_names_the_profile_and_the_call,
}
