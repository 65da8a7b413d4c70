//! System calls that reach the host's kernel or its keyrings.

use std::fs;
use std::path::Path;

use crate::attack::{Attack, Verdict, got_out, safe, tried};
use crate::build::Build;
use crate::lab::Lab;

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "H4",
        name: "keyrings",
        summary: "reads, links, adds and revokes keys of host root",
        run: |lab| keyrings(lab, "user: 0", true),
    },
    Attack {
        row: "H4",
        name: "keyrings-with-sys-admin",
        summary: "the same with SYS_ADMIN",
        run: |lab| keyrings(lab, "capabilities: { add: [SYS_ADMIN] }", true),
    },
    Attack {
        row: "H4",
        name: "keyrings-unconfined",
        summary: "the same unconfined: promised to other users alone",
        run: |lab| keyrings(lab, "seccomp: unconfined", false),
    },
    Attack {
        row: "H4",
        name: "keyrings-by-profile",
        summary: "the same with a profile that lets keyctl through",
        run: |lab| keyrings(lab, "seccomp: ./open.json", false),
    },
    Attack {
        row: "M7",
        name: "kernel-calls",
        summary: "user namespaces, io_uring, userfaultfd, keyctl, perf, vsock, …",
        run: kernel,
    },
    Attack { row: "M7", name: "kernel-calls-as-nobody", summary: "the same as another user", run: kernel_as_nobody },
    Attack {
        row: "M7",
        name: "kernel-calls-of-32-bits",
        summary: "the same by the calls of i386 and x32",
        run: foreign,
    },
    Attack {
        row: "M7",
        name: "kernel-calls-with-sys-admin",
        summary: "what SYS_ADMIN does not open: io_uring, keyctl, vsock, modules, …",
        run: with_sys_admin,
    },
    Attack {
        row: "contained",
        name: "setns-and-handles",
        summary: "setns, open_by_handle_at",
        run: |lab| contained(lab, &["setns", "open_by_handle_at"]),
    },
    Attack {
        row: "contained",
        name: "modules",
        summary: "loads and removes modules, loads a kernel",
        run: |lab| contained(lab, &["init_module", "finit_module", "delete_module", "kexec_load"]),
    },
    Attack {
        row: "contained",
        name: "mount-calls",
        summary: "mount, umount, fsopen, open_tree, pivot_root",
        run: |lab| {
            contained(
                lab,
                &[
                    "mount-tmpfs",
                    "mount-proc",
                    "remount-root",
                    "umount-proc",
                    "fsopen",
                    "open_tree-clone",
                    "pivot_root",
                ],
            )
        },
    },
    Attack {
        row: "contained",
        name: "host-wide-calls",
        summary: "clock, host name, swap, accounting, kernel log, ports",
        run: |lab| {
            contained(lab, &["acct", "swapoff", "sethostname", "clock_settime", "syslog", "iopl", "sched_setscheduler"])
        },
    },
    Attack { row: "contained", name: "chroot-break-out", summary: "chroot and ..", run: chroot },
];

/// Calls that the default profile refuses.
const REFUSED: [&str; 16] = [
    "unshare-user",
    "unshare-all",
    "unshare-mounts",
    "clone-user",
    "clone3-user",
    "add_key",
    "keyctl",
    "request_key",
    "io_uring_setup",
    "userfaultfd",
    "perf_event_open",
    "bpf",
    "socket-vsock",
    "socket-alg",
    "fanotify_init",
    "personality",
];

/// Fails where nothing refused one of these calls: it was made, or failed for its arguments.
fn judge(build: &Build, step: &str, calls: &[&str]) -> Verdict {
    build.tried(step, "calls over")?;
    let lines = build.lines(step);
    let mut through = Vec::new();
    for call in calls {
        let ending = lines.iter().find_map(|line| line.strip_prefix(&format!("{call} ")));
        tried(ending.is_some(), format!("{call} was not called: {lines:?}"))?;
        if ending
            .is_some_and(|ending| !["EPERM", "ENOSYS", "EACCES"].contains(&ending) && !ending.starts_with("killed"))
        {
            through.push(format!("{call} {}", ending.unwrap_or_default()));
        }
    }
    safe(through.is_empty(), format!("not refused: {}", through.join(", ")))
}

fn calls(lab: &Lab, container: &str, attack: &str) -> Result<Build, crate::attack::Failure> {
    let project = lab.project(&format!(
        "
containers: {{ c: {{ rootfs: $BASE, {container} }} }}
steps: [{{ name: s, exec: [/probe, {attack}] }}]
"
    ));
    project.apply(&[])
}

fn kernel(lab: &Lab) -> Verdict {
    judge(&calls(lab, "user: 0", "calls")?, "s", &REFUSED)
}

fn kernel_as_nobody(lab: &Lab) -> Verdict {
    judge(&calls(lab, "user: 65534", "calls")?, "s", &REFUSED)
}

fn with_sys_admin(lab: &Lab) -> Verdict {
    let build = calls(lab, "capabilities: { add: [SYS_ADMIN] }", "calls")?;
    let calls = [
        "add_key",
        "keyctl",
        "request_key",
        "io_uring_setup",
        "userfaultfd",
        "socket-vsock",
        "socket-alg",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "open_by_handle_at",
        "clock_settime",
        "iopl",
    ];
    judge(&build, "s", &calls)
}

fn foreign(lab: &Lab) -> Verdict {
    let build = calls(lab, "user: 0", "foreign-calls")?;
    let mut names = Vec::new();
    if cfg!(target_arch = "x86_64") {
        names.extend([
            "i386-unshare",
            "i386-keyctl",
            "i386-io_uring_setup",
            "i386-bpf",
            "i386-userfaultfd",
            "i386-socket-vsock",
        ]);
        names.extend(["x32-unshare", "x32-keyctl", "x32-socket-vsock"]);
    }
    judge(&build, "s", &names)
}

fn contained(lab: &Lab, names: &[&str]) -> Verdict {
    judge(&calls(lab, "user: 0", "calls")?, "s", names)
}

/// Removes the keys of the test, however it ends.
struct Keys<'a>(&'a Lab, String);

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        self.0.probe_on_host(&["remove-keys", &self.1]);
    }
}

/// Where root's calls for keys are allowed, root inside is the host's root to the kernel: nothing else could refuse them. The
/// pages must say so then, and another user still has no way to the keys of root.
fn keyrings(lab: &Lab, container: &str, is_promised: bool) -> Verdict {
    let name = format!("runner-attack-{}", lab.tag());
    let keys = Keys(lab, name);
    lab.probe_on_host(&["plant-key", &keys.1, "of-host-root"]);
    let there = || lab.probe_on_host(&["look-at-key", &keys.1]);
    tried(there() == "THERE of-host-root\n", "the host's root cannot make a key of its own")?;
    let project = lab.project(&format!(
        "
containers: {{ c: {{ rootfs: $BASE, {container} }} }}
steps:
  - {{ name: root, exec: [/probe, keys, {name}] }}
  - {{ name: other, needs: [], user: 12345, exec: [/probe, keys, {name}] }}
",
        name = keys.1
    ));
    project.write("open.json", r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#);
    let build = project.apply(&[])?;
    for step in ["root", "other"] {
        build.tried(step, "TRYING")?;
        if step == "root" && !is_promised {
            said_of_keys()?;
            continue;
        }
        build.without(step, &["READ", "LISTED"])?;
        for line in ["link made", "add made", "revoke made"] {
            if build.printed(step, line) && step == "root" {
                return Err(got_out(format!("{step}: {line}; the host: {}", there())));
            }
        }
    }
    safe(!is_promised || there() == "THERE of-host-root\n", format!("the host's root has now: {}", there()))
}

/// Checks that SECURITY.md and the book say that keys of root are not safe from root where its calls for keys are allowed.
fn said_of_keys() -> Verdict {
    for (page, words) in
        [("SECURITY.md", "**Keys of the host's root**"), ("docs/src/steps.md", "keys of the host's root")]
    {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        safe(text.contains(words), format!("{page} does not say that root reaches the keys of the host's root"))?;
    }
    Ok(())
}

fn chroot(lab: &Lab) -> Verdict {
    let project = lab.project("");
    project.write("victim/marker", "of the host\n");
    let marker = project.path("victim/marker").display().to_string();
    let text = format!(
        "
containers: {{ c: {{ rootfs: $BASE }} }}
steps: [{{ name: s, exec: [/probe, chroot, {}] }}]
",
        marker.trim_start_matches('/')
    );
    let build = lab.project(&text).apply(&[])?;
    build.tried("s", "TRYING")?;
    tried(!build.lines("s").iter().any(|line| line.starts_with("chroot")), "chroot was refused")?;
    build.without("s", &["REACHED"])
}
