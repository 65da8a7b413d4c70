//! The rights of a step, read back inside: user, groups, capabilities, no-new-privileges, open files.

use crate::built::{Built, compile, project};
use crate::runtime::runtime;

/// The bit of each capability is its index, as in linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The capabilities of a step whose manifest sets none.
const DEFAULT: [&str; 12] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Returns a set as /proc/self/status prints it.
fn mask(names: &[&str]) -> String {
    let bit = |name: &&str| 1u64 << CAPABILITIES.iter().position(|known| known == name).unwrap();
    format!("{:016x}", names.iter().map(bit).fold(0, |mask, bit| mask | bit))
}

/// Returns the default set with some more and without some.
fn changed(add: &[&'static str], drop: &[&str]) -> Vec<&'static str> {
    let kept = DEFAULT.into_iter().filter(|name| !drop.contains(name));
    kept.chain(add.iter().copied()).collect()
}

/// The rights of a process, as proc(5) shows them.
#[derive(Debug, PartialEq, Eq)]
struct Privileges {
    /// The four numbers of each: real, effective, saved, of the filesystem.
    uid: String,
    gid: String,
    groups: String,
    sets: [String; 5],
    no_new_privileges: String,
    umask: String,
    /// Soft and hard.
    open_files: String,
}

/// The capability sets of /proc/self/status: inheritable, permitted, effective, bounding, ambient.
const SETS: [&str; 5] = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];

/// Returns the words after `key` at the start of a line.
#[track_caller]
fn words(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let line = line.unwrap_or_else(|| panic!("there is no {key} in {text}"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Privileges {
    /// Reads those of the step that printed /proc/self/status and /proc/self/limits.
    #[track_caller]
    fn of(built: &Built, step: &str) -> Self {
        let text = built.text(step);
        let words = |key: &str| words(&text, key);
        Self {
            uid: words("Uid:"),
            gid: words("Gid:"),
            groups: words("Groups:"),
            sets: SETS.map(words),
            no_new_privileges: words("NoNewPrivs:"),
            umask: words("Umask:"),
            open_files: words("Max open files"),
        }
    }

    /// Returns those of user 0, whose capabilities are in its sets. The ambient one is empty.
    fn of_root(names: &[&str]) -> Self {
        let (set, none) = (mask(names), mask(&[]));
        Self::new("0", "0", [set.clone(), set.clone(), set.clone(), set, none])
    }

    /// Returns those of another user, who has no capability: execve(2) preserves only ambient capabilities and those of the file,
    /// and there are none. The inheritable and the bounding set limit those that a file may give.
    fn of_another(uid: &str, gid: &str) -> Self {
        let (set, none) = (mask(&DEFAULT), mask(&[]));
        Self::new(uid, gid, [set.clone(), none.clone(), none.clone(), set, none])
    }

    fn new(uid: &str, gid: &str, sets: [String; 5]) -> Self {
        Self {
            uid: [uid; 4].join(" "),
            gid: [gid; 4].join(" "),
            // As after a login, and for a good reason: a set-gid program changes the group alone.
            groups: gid.to_owned(),
            sets,
            no_new_privileges: "1".into(),
            umask: "0022".into(),
            open_files: "4096 4096 files".into(),
        }
    }
}

#[test]
fn a_step_has_the_privileges_that_the_manifest_gives() {
    // runc refuses numbers that are negative where they have a sign.
    let (uid, gid) = if runtime() == "embedded" { ("4000000000", "3000000000") } else { ("2147483647", "2147483646") };
    let project = project(
        r#"
containers:
  plain: { rootfs: $TOOLS }
  changed: { rootfs: $TOOLS, capabilities: { add: [SYS_PTRACE, cap_net_admin, CAP_CHECKPOINT_RESTORE], drop: [MKNOD, CAP_KILL] } }
  bare: { rootfs: $TOOLS, capabilities: { drop: [ALL_OF_THEM] } }
  trusted: { rootfs: $TOOLS, no_new_privileges: false, limits: { nofile: 1234 } }
  numbers: { rootfs: $TOOLS, user: "1000:100", limits: { nofile: 64 } }
  large: { rootfs: $TOOLS, user: LARGE }
steps:
  - { name: plain, container: plain, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: own-user, container: plain, user: "7:8", exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: again, container: plain, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: changed, container: changed, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: bare, container: bare, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: trusted, container: trusted, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: numbers, container: numbers, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: back-to-root, container: numbers, user: "0", exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: large, container: large, exec: [cat, /proc/self/status, /proc/self/limits] }
"#
        .replace("LARGE", &format!("\"{uid}:{gid}\""))
        .replace("ALL_OF_THEM", &DEFAULT.join(", "))
        .as_str(),
    );
    let built = Built::succeed(&project);
    let check = |step: &str, expected: Privileges| assert_eq!(Privileges::of(&built, step), expected, "{step}");
    check("plain", Privileges::of_root(&DEFAULT));
    check("own-user", Privileges::of_another("7", "8"));
    check("again", Privileges::of_root(&DEFAULT));
    let more = changed(&["SYS_PTRACE", "NET_ADMIN", "CHECKPOINT_RESTORE"], &["MKNOD", "KILL"]);
    check("changed", Privileges::of_root(&more));
    check("bare", Privileges::of_root(&[]));
    let trusted = Privileges::of_root(&DEFAULT);
    let open_files = "1234 1234 files".into();
    check("trusted", Privileges { no_new_privileges: "0".into(), open_files, ..trusted });
    let open_files = || "64 64 files".into();
    check("numbers", Privileges { open_files: open_files(), ..Privileges::of_another("1000", "100") });
    check("back-to-root", Privileges { open_files: open_files(), ..Privileges::of_root(&DEFAULT) });
    check("large", Privileges::of_another(uid, gid));
}

#[test]
fn a_user_has_the_groups_that_an_earlier_step_gave_it() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS }
  named: { rootfs: { snapshot: image }, user: ann }
steps:
  - name: make
    container: c
    run: |
      mkdir -p /etc /home/ann
      echo "root:x:0:0::/root:/bin/sh" > /etc/passwd
      echo "ann:x:1000:100::/home/ann:/bin/sh" >> /etc/passwd
      echo "users:x:100:bob" > /etc/group
      echo "audio:x:29:bob,ann" >> /etc/group
      echo "video:x:44:ann" >> /etc/group
      echo "tape:x:26:joann,ann2" >> /etc/group
  - { name: of-a-step, container: c, user: ann, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: image, container: c, snapshot: { mode: full } }
  - { name: of-a-container, container: named, exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: with-a-group, container: named, user: "ann:video", exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: by-number, container: named, user: "1000", exec: [cat, /proc/self/status, /proc/self/limits] }
  - { name: home, container: named, run: echo $HOME }
"#,
    );
    let built = Built::succeed(&project);
    for step in ["of-a-step", "of-a-container", "by-number"] {
        let expected = Privileges { groups: "29 44 100".into(), ..Privileges::of_another("1000", "100") };
        assert_eq!(Privileges::of(&built, step), expected, "{step}");
    }
    assert_eq!(Privileges::of(&built, "with-a-group"), Privileges::of_another("1000", "44"));
    assert_eq!(built.text("home"), "/home/ann\n");
}

#[test]
fn an_unknown_user_fails_the_step_with_the_file_that_lacks_it() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - { name: step, user: nobody-at-all, exec: ["true"] }
"#,
    );
    let built = Built::of(&project, &[]);
    assert_eq!(
        (built.run.code, built.reason("step")),
        (
            1,
            "cannot look up the user: user nobody-at-all is not in /etc/passwd of the rootfs; `user` may be numbers, as in `1000:1000`, which need no entry"
        )
    );
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_file_gives_capabilities_and_users_only_where_new_privileges_are_allowed() {
    let project = project(
        r#"
containers:
  c: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/cp, /bin/chmod, /sbin/setcap] } }
  closed: { rootfs: { snapshot: image }, user: "1000:1000" }
  open: { rootfs: { snapshot: image }, user: "1000:1000", no_new_privileges: false }
  small: { rootfs: { snapshot: image }, user: "1000:1000", no_new_privileges: false, capabilities: { drop: [CHOWN] } }
steps:
  - name: make
    container: c
    run: |
      cp /bin/cat /with-capability; setcap cap_chown+ep /with-capability
      cp /bin/cat /set-uid; chmod 4755 /set-uid
      cp /bin/cat /of-root; chmod 700 /of-root
  - { name: image, container: c, snapshot: { mode: full } }
  - { name: closed-capability, container: closed, exec: [/with-capability, /proc/self/status, /proc/self/limits] }
  - { name: closed-uid, container: closed, exec: [/set-uid, /proc/self/status, /proc/self/limits] }
  - { name: open-capability, container: open, exec: [/with-capability, /proc/self/status] }
  - { name: open-uid, container: open, exec: [/set-uid, /proc/self/status] }
  - { name: of-root, container: closed, needs: [image], exec: [/of-root, /proc/self/status] }
  - { name: dropped, container: small, exec: [/with-capability, /proc/self/status] }
  - { name: by-shell, container: small, needs: [image], run: PATH=/:/bin with-capability /proc/self/status || /with-capability }
"#,
    );
    let built = Built::of(&project, &["--keep-going"]);
    for step in ["closed-capability", "closed-uid"] {
        assert_eq!(Privileges::of(&built, step), Privileges::of_another("1000", "1000"), "{step}");
    }
    let (default, chown, none) = (mask(&DEFAULT), mask(&["CHOWN"]), mask(&[]));
    let with_capability = built.text("open-capability");
    assert_eq!(words(&with_capability, "Uid:"), "1000 1000 1000 1000");
    assert_eq!(
        SETS.map(|set| words(&with_capability, set)),
        [&default, &chown, &chown, &default, &none].map(String::clone)
    );
    let set_uid = built.text("open-uid");
    assert_eq!(words(&set_uid, "Uid:"), "1000 0 0 0");
    assert_eq!(SETS.map(|set| words(&set_uid, set)), Privileges::of_root(&DEFAULT).sets);
    // A file that only user 0 may execute, another user may not, whatever the container's capabilities are.
    assert_eq!(built.reason("of-root"), "cannot start: /of-root cannot be executed: Permission denied");
    let hint = "/with-capability has the file capability CHOWN, which the container does not have, so the kernel does not \
                execute it; leave CHOWN out of `drop` under its `capabilities`";
    assert!(built.reason("by-shell").ends_with(hint), "{}", built.reason("by-shell"));
    // A file cannot give a capability outside of the bounding set: the kernel refuses to run it.
    if runtime() == "embedded" {
        let reason = "cannot start: /with-capability cannot be executed: Operation not permitted";
        assert_eq!(built.reason("dropped"), format!("{reason}; {hint}"));
    } else {
        // By then runc counts the container as started.
        assert_eq!(built.reason("dropped"), format!("exit code 1; {hint}"));
        assert_eq!(built.text("dropped"), "exec /with-capability: operation not permitted\n");
    }
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn more_open_files_than_the_host_allows_are_refused_with_its_limit() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, limits: { nofile: 3001 } }
steps:
  - { name: step, exec: [cat, /proc/self/limits] }
"#,
    );
    let shell = "ulimit -n 3000; exec setpriv --bounding-set=-sys_resource \"$@\"";
    let run = project.runner_in_shell(shell, &["apply"]);
    assert_eq!(run.code, 3, "{run}");
    let reason = "cannot open the session: 3001 open files (`nofile` under limits) are more than the 3000 that this host allows; \
                  write `nofile: 3000` or less";
    assert!(run.stdout.contains(reason), "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

/// Binds the TCP ports 1 and 443 of 127.0.0.1.
const BIND: &str = "
#include <arpa/inet.h>
#include <stdio.h>
int main(void) {
    int ports[] = { 1, 443 };
    for (int n = 0; n < 2; n++) {
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(ports[n]) };
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&at, sizeof at)) {
            perror(\"bind\");
            return 1;
        }
    }
}
";

#[test]
fn a_step_of_another_user_than_root_binds_each_port_of_a_network_of_its_own() {
    let project = project(
        "
mounts:
  tools: { type: bind, source: tools, target: /tools, options: [ro] }
containers:
  c: { rootfs: $TOOLS, user: '1000', mounts: [tools] }
steps:
  - { name: binds, exec: [/tools/bind] }
",
    );
    std::fs::create_dir(project.path("tools")).unwrap();
    compile(&project, "tools/bind", BIND, &["-static"]);
    project.apply();
}

also_with_runc! {
    a_step_has_the_privileges_that_the_manifest_gives,
    a_user_has_the_groups_that_an_earlier_step_gave_it,
    an_unknown_user_fails_the_step_with_the_file_that_lacks_it,
    a_file_gives_capabilities_and_users_only_where_new_privileges_are_allowed,
    more_open_files_than_the_host_allows_are_refused_with_its_limit,
    a_step_of_another_user_than_root_binds_each_port_of_a_network_of_its_own,
}
