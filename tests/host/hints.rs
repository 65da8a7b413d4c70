//! Causes that runner names for a step that fails: the full mount, the device, the network, the limit.

use crate::built::{Built, project};

const MANIFEST: &str = r#"
containers:
  c:
    rootfs: $TOOLS
    scratch: { tmpfs: 24MiB }
    limits: { nofile: 64 }
    mounts:
      - { type: tmpfs, target: /tmp, options: [size=1m] }
      - { type: bind, source: src, target: /src }
      - { type: bind, source: ., target: /ro, options: [ro] }
      - { type: secret, env: RUNNER_TEST_TOKEN, target: /run/token, options: [uid=1001, mode=0400] }
      - { type: secret, env: RUNNER_TEST_TOKEN, target: /run/open, options: [uid=1001, mode=0444] }
  closed: { rootfs: $TOOLS, read_only: true }
  dropped:
    rootfs: $TOOLS
    capabilities: { drop: [CHOWN, DAC_OVERRIDE] }
    mounts: [{ type: tmpfs, target: /home, options: [uid=1000, mode=0700] }]
steps:
  - { name: tmpfs, container: c, run: cat /dev/zero > /tmp/f }
  - { name: relative, needs: [], container: c, cwd: /tmp, run: cat /dev/zero > g }
  - { name: bind, needs: [], container: c, run: cat /dev/zero > /src/f }
  - { name: shm, needs: [], container: c, run: cat /dev/zero > /dev/shm/f }
  - { name: node, needs: [], container: c, run: mknod /node c 10 237; cat /node }
  - { name: absent, needs: [], container: c, run: cat /dev/loop-control }
  - { name: secret, needs: [], container: c, user: "1000", run: cat /run/token }
  - { name: readable, needs: [], container: c, user: "1000", run: "cat /run/open; echo /run/open: Permission denied; exit 1" }
  - { name: in-store, needs: [], container: c, run: touch /ro/store/f }
  - { name: read-only, needs: [], container: c, run: touch /ro/f }
  - { name: root, needs: [], container: closed, run: touch /f }
  - { name: chown, needs: [], container: dropped, run: touch /tmp-f; chown 7 /tmp-f }
  - { name: write, needs: [], container: dropped, run: touch /home/f }
  - { name: network, needs: [], container: c, run: "echo 'curl: (6) Could not resolve host: example.org' >&2; exit 6" }
  - { name: numbers, needs: [], container: c, run: "echo 'ld: cannot stat /x: Value too large for defined data type' >&2; exit 1" }
  - { name: files, needs: [], container: c, run: "echo 'cc: /x: Too many open files' >&2; exit 1" }
"#;

/// Runs runner with a small filesystem mounted on `src`.
const SMALL: &str = "mkdir src && exec unshare -m sh -c 'mount -t tmpfs -o size=1m none src && exec \"$@\"' sh \"$@\"";

#[test]
fn a_failed_step_gets_a_hint_with_the_mount_device_or_key_that_it_may_need() {
    let project = project(MANIFEST);
    let mut command = project.shell(SMALL, &["apply", "--keep-going", "-j1", "--progress", "json"]);
    let output = command.env("RUNNER_TEST_TOKEN", "a-token-of-the-tests").output().unwrap();
    let built = Built::from_run(crate::project::Run::new(0, &output));
    for (step, words) in [
        ("tmpfs", "the tmpfs mounted at /tmp has 0B of 1MiB"),
        ("relative", "; `options: [size=SIZE]` of that mount gives more"),
        ("bind", "the bind mounted at /src is on a filesystem of the host that has 0B of 1MiB"),
        ("shm", "/dev/shm takes 64MiB; a mount of the container, `{type: tmpfs, target: /dev/shm, "),
        ("node", "/node is the character device 10:237, which container c does not list"),
        ("node", "write `devices: [{path: /dev/loop-control, target: /node}]` there"),
        ("absent", "write `devices: [/dev/loop-control]` there"),
        ("secret", "the secret /run/token belongs to user 1001 and group 0 with mode 0400; `options: [uid=1000]` or"),
        ("in-store", "/ro/store/f is in the empty, read-only directory that hides runner's store, which /"),
        ("read-only", "the mount at /ro is read-only (`ro`)"),
        ("root", "the root is read-only (`read_only: true` of the container)"),
        ("network", "container c has no network; write `network: host` there"),
        ("numbers", "`xino: false` in container c gives smaller ones"),
        ("files", "may have 64 files open (`nofile` under limits); `limits: {nofile: 128}` allows more"),
    ] {
        assert!(built.reason(step).contains(words), "{step}: {}", built.reason(step));
    }
    let hint = "`chown` needs the capability CHOWN, which the step does not have; leave CHOWN out of `drop` under the \
                `capabilities` of container dropped";
    assert_eq!(built.ending("chown")["failure"]["hint"], hint, "{}", built.run);
    let words = "/home belongs to user 1000 and group 0 with mode 0700, which root passes only with the capability DAC_OVERRIDE";
    assert!(built.reason("write").contains(words), "{}", built.reason("write"));
    assert_eq!(built.reason("readable"), "exit code 1");
    assert!(built.ending("node")["failure"].get("hint").is_none(), "{}", built.run);
}

also_with_runc! {
    a_failed_step_gets_a_hint_with_the_mount_device_or_key_that_it_may_need,
}
