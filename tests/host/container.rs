//! The resources that a container gives its steps: environment, working directory, host name, network, a root that may be read-only.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::built::{Built, Gate, Running, project};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[test]
fn the_environment_is_that_of_the_manifest_and_nothing_of_the_hosts() {
    let project = project(
        r#"
containers:
  plain: { rootfs: $TOOLS }
  own: { rootfs: $TOOLS, env: { A: of container, B: of container, TERM: dumb, EMPTY: "", LINES: "one\ntwo" } }
steps:
  - { name: plain, container: plain, exec: [env, "-0"] }
  - { name: own, container: own, env: { B: of step, C: "= $A" }, exec: [env, "-0"] }
  - { name: next, container: own, env: { PATH: /bin, HOME: /elsewhere }, exec: [env, "-0"] }
"#,
    );
    let mut command = project.command(&["apply", "--progress", "json"]);
    command
        .env("OF_THE_HOST", "1")
        .env("LANG", "C.UTF-8")
        .env("B", "of the host")
        .env("HOME", "/host")
        .env("TERM", "of-host");
    let built = Running::spawn(command).end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    let variables = |step: &str| {
        let text = built.text(step);
        let mut variables: Vec<String> = text.split_terminator('\0').map(|line| line.trim_end().to_owned()).collect();
        variables.sort();
        variables
    };
    let time = "SOURCE_DATE_EPOCH=315532800";
    assert_eq!(variables("plain"), ["HOME=/root", PATH, time, "TERM=xterm"]);
    let own =
        ["A=of container", "B=of step", "C== $A", "EMPTY=", "HOME=/root", "LINES=one\ntwo", PATH, time, "TERM=dumb"];
    assert_eq!(variables("own"), own);
    let next = [
        "A=of container",
        "B=of container",
        "EMPTY=",
        "HOME=/elsewhere",
        "LINES=one\ntwo",
        "PATH=/bin",
        time,
        "TERM=dumb",
    ];
    assert_eq!(variables("next"), next);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_step_starts_in_its_own_directory_or_its_containers_or_the_root() {
    let project = project(
        r#"
mounts:
  tmp: { type: tmpfs, target: /tmp }
containers:
  plain: { rootfs: $TOOLS }
  placed: { rootfs: $TOOLS, cwd: /tmp, mounts: [tmp] }
steps:
  - { name: plain, container: plain, run: pwd }
  - { name: placed, container: placed, run: pwd; mkdir sub; echo here > sub/file }
  - { name: own, container: placed, cwd: /tmp/sub, run: pwd; cat file }
  - { name: nowhere, container: placed, cwd: /no/where, run: pwd }
"#,
    );
    let built = Built::of(&project, &[]);
    assert_eq!(built.lines("plain"), ["/"]);
    assert_eq!(built.lines("placed"), ["/tmp"]);
    assert_eq!(built.lines("own"), ["/tmp/sub", "here"]);
    let reason =
        "cannot start: it cannot go to the working directory /no/where: No such file or directory (os error 2)";
    assert_eq!((built.run.code, built.reason("nowhere")), (1, reason));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn the_host_name_is_the_containers_name_or_its_hostname_key() {
    let project = project(
        r#"
containers:
  by-name: { rootfs: $TOOLS }
  named: { rootfs: $TOOLS, hostname: build.example, network: host }
steps:
  - { name: by-name, container: by-name, run: uname -n; cat /proc/sys/kernel/hostname }
  - { name: named, container: named, run: uname -n }
"#,
    );
    let before = rustix::system::uname().nodename().to_owned();
    let built = Built::succeed(&project);
    assert_eq!(built.lines("by-name"), ["by-name", "by-name"]);
    assert_eq!(built.lines("named"), ["build.example"]);
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
}

#[test]
fn a_container_without_a_network_has_its_own_loopback_or_else_the_hosts() {
    let project = project(
        r#"
mounts:
  $GATE
containers:
  none: { rootfs: $TOOLS, mounts: [gate] }
  another: { rootfs: $TOOLS, mounts: [gate], network: none }
  host: { rootfs: $TOOLS, mounts: [gate], network: host }
steps:
  - { name: none, container: none, exec: [sh, /gate/look, none] }
  - { name: another, container: another, exec: [sh, /gate/look, another] }
  - { name: host, container: host, exec: [sh, /gate/look, host] }
"#,
    );
    let gate = Gate::new(&project);
    project.write(
        "gate/look",
        "stat -L -c %i /proc/self/ns/net; ls /sys/class/net; cat /sys/class/net/lo/flags; ls -A /etc; sh /gate/meet $1",
    );
    let build = Running::start(&project, &["-j", "3"]);
    // The number of a namespace that ended may be given again: all three exist at once.
    let steps = ["none", "another", "host"];
    steps.iter().for_each(|step| gate.await_step(step));
    steps.iter().for_each(|step| gate.open(step));
    let built = build.succeed();
    let of_host = fs::metadata("/proc/self/ns/net").unwrap().ino().to_string();
    let [none, another, host] = steps.map(|step| built.lines(step));
    assert_eq!(host[0], of_host);
    assert!(none[0] != of_host && another[0] != of_host && none[0] != another[0], "{none:?} {another:?}");
    // 1 is IFF_UP, 8 IFF_LOOPBACK of netdevice(7): a server on 127.0.0.1 can be reached.
    assert_eq!(none[1..3], ["lo", "0x9"]);
    assert_eq!(another[1..3], ["lo", "0x9"]);
    let interfaces = fs::read_dir("/sys/class/net").unwrap().flatten();
    let mut interfaces: Vec<String> = interfaces.map(|entry| entry.file_name().into_string().unwrap()).collect();
    interfaces.sort();
    assert_eq!(host[1..=interfaces.len()], interfaces);
    assert!(
        host.iter().any(|line| line == "resolv.conf") && !none.iter().any(|line| line == "resolv.conf"),
        "{none:?}"
    );
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_read_only_root_cannot_be_written_but_the_mounts_on_it_can() {
    let project = project(
        r#"
mounts:
  tmp: { type: tmpfs, target: /tmp }
  deep: { type: tmpfs, target: /not/there/yet }
  out: { type: bind, source: out, target: /out }
containers:
  seed: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: image }, read_only: true, mounts: [tmp, deep, out] }
steps:
  - { name: image, container: seed, snapshot: { mode: full } }
  - name: write
    container: c
    run: |
      for path in /new /bin/sh /bin/new /not/new /not/there/new /proc/new /sys/new; do
        (echo x > $path) 2> /dev/null && echo "$path was written"
      done
      mkdir /folder 2> /dev/null && echo "a directory was made"
      rm -f /bin/cat 2> /dev/null || echo kept
      chmod 700 /bin 2>&1 | grep -c "Read-only file system"
      echo tmp > /tmp/file; echo deep > /not/there/yet/file; echo out > /out/file; echo null > /dev/null
  - { name: read, container: c, run: cat /tmp/file /not/there/yet/file }
"#,
    );
    fs::create_dir(project.path("out")).unwrap();
    let built = Built::succeed(&project);
    assert_eq!(built.lines("write"), ["kept", "1"]);
    assert_eq!(built.lines("read"), ["tmp", "deep"]);
    assert_eq!(fs::read_to_string(project.path("out/file")).unwrap(), "out\n");
}

also_with_runc! {
    the_environment_is_that_of_the_manifest_and_nothing_of_the_hosts,
    a_step_starts_in_its_own_directory_or_its_containers_or_the_root,
    the_host_name_is_the_containers_name_or_its_hostname_key,
    a_container_without_a_network_has_its_own_loopback_or_else_the_hosts,
    a_read_only_root_cannot_be_written_but_the_mounts_on_it_can,
}
