//! Hosts where device rules cannot be enforced: no step runs that could make the node of a disk, and no running step opens one.

use crate::built::{Built, project};
use crate::runtime::runtime;

/// Runs runner on a host with cgroup v2 alone, whose kernel has no BPF to set device rules with.
const WITHOUT_RULES: &str = "unshare -m sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
     exec strace -f -qq -o /dev/null -e trace=bpf -e inject=bpf:error=EPERM \"$@\"' sh \"$@\"";

const MANIFEST: &str = r#"
containers:
  maker: { rootfs: $TOOLS }
  user: { rootfs: { snapshot: nodes }, capabilities: { drop: [MKNOD] } }
steps:
  - { name: make, container: maker, run: mknod /zero c 1 5; mknod /loop-control c 10 237 }
  - { name: nodes, container: maker, snapshot: { output: nodes.squashfs } }
  - name: look
    container: user
    run: |
      stat -c "%F %t:%T" /zero /loop-control
      for node in /zero /loop-control; do (exec 3< $node) 2>&1 | grep -o "Permission denied"; done
      mknod /mine c 1 5 2>&1 | grep -o "Operation not permitted"
      head -c 3 /dev/zero | wc -c
"#;

#[test]
fn a_container_without_mknod_opens_no_device_node_of_its_root() {
    let project = project(MANIFEST);
    let built = Built::succeed(&project);
    let character = ["character special file 1:5", "character special file a:ed"];
    let refused = ["Permission denied", "Permission denied", "Operation not permitted"];
    assert_eq!(built.lines("look"), [&character[..], &refused[..], &["3"][..]].concat());
}

#[test]
fn a_container_that_may_make_nodes_is_refused_where_rules_cannot_be_enforced() {
    let project = project(MANIFEST);
    let run = project.runner_in_shell(WITHOUT_RULES, &["apply", "--target", "make"]);
    assert_eq!(run.code, 3, "{run}");
    for words in [
        "device rules cannot be enforced here: cannot load a BPF program",
        "the kernel needs CONFIG_CGROUP_BPF",
        "write `capabilities: { drop: [MKNOD] }` for the container",
    ] {
        assert!(run.stdout.contains(words), "{words}: {run}");
    }
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn a_container_that_may_not_make_nodes_runs_without_rules_if_its_runtime_does() {
    let project = project("\ncontainers: { c: { rootfs: $TOOLS, capabilities: { drop: [MKNOD] } } }\nsteps: []\n");
    let run = project.runner_in_shell(WITHOUT_RULES, &["run", "c", "--", "head", "-c", "3", "/dev/zero"]);
    if runtime() == "runc" {
        assert_eq!(run.code, 125, "{run}");
        assert!(run.stderr.contains("cannot start: runc create failed: ") && run.stderr.contains("bpf"), "{run}");
    } else {
        assert_eq!((run.code, run.stdout.as_str()), (0, "\0\0\0"), "{run}");
    }
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn on_cgroup_v2_alone_its_own_group_is_mounted_read_only_and_devices_are_refused() {
    const V2: &str = "unshare -m sh -c 'umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"' \
         sh \"$@\"";
    let project = project("\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: []\n");
    let script = r#"grep " /sys/fs/cgroup" /proc/self/mounts; cat /proc/self/cgroup | grep ^0
mkdir /sys/fs/cgroup/mine 2>&1 | grep -o "Read-only file system"
mknod /loop-control c 10 237; (exec 3< /loop-control) 2>&1 | grep -o "Operation not permitted""#;
    let run = project.runner_in_shell(V2, &["run", "c", "--", "sh", "-c", script]);
    assert_eq!(run.code, 0, "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    let mounts = lines[0].split(' ').collect::<Vec<_>>();
    assert_eq!((mounts[1], mounts[2]), ("/sys/fs/cgroup", "cgroup2"), "{run}");
    assert!(mounts[3].split(',').any(|option| option == "ro"), "{run}");
    assert_eq!(lines[1..], ["0::/", "Read-only file system", "Operation not permitted"], "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

also_with_runc! {
    a_container_without_mknod_opens_no_device_node_of_its_root,
    a_container_that_may_make_nodes_is_refused_where_rules_cannot_be_enforced,
    a_container_that_may_not_make_nodes_runs_without_rules_if_its_runtime_does,
    on_cgroup_v2_alone_its_own_group_is_mounted_read_only_and_devices_are_refused,
}
