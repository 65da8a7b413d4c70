//! Tools of real builds, stopped by a timeout or an interrupt: none of their half-written files is in a layer, or in a bind
//! unless the failure says so.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::built::{Built, Gate, processes_of, project};
use crate::ending::{assert_nothing_left, read, sleep, stopped};
use crate::project::Project;

const NINJA: &str = "{ programs: [/bin/sh, /bin/cat, /bin/mv, /bin/sleep, /bin/touch, /usr/bin/ninja] }";

/// Writes half of its target, meets the gate, and waits for ever.
const NINJA_FILE: &str = "rule part
  command = echo whole > $out
rule product
  command = cat $in $in > $out; touch /gate/half.here; sleep $mark; cat $in >> $out
build part: part
build product: product part
";

/// The programs that dpkg(1) looks for in PATH before it installs something.
const DPKG: &str = "{ programs: [/bin/sh, /bin/cat, /bin/mkdir, /bin/rm, /bin/sleep, /bin/touch, /bin/tar, /usr/bin/dpkg, \
     /usr/bin/dpkg-deb, /usr/bin/dpkg-split, /usr/bin/dpkg-query, /usr/bin/diff, /sbin/ldconfig, /sbin/start-stop-daemon] }";

/// Returns a package whose maintainer script writes half of a file, meets the gate, and then waits as long as the gate has no
/// `quick`.
fn package(project: &Project, mark: &str) {
    let script = format!(
        "#!/bin/sh -e\nroot=${{DPKG_ROOT-}}\necho half > $root/etc/tool.conf\ntouch /gate/half.here\n\
         [ -e /gate/quick ] || sleep {mark}\necho whole >> $root/etc/tool.conf\n"
    );
    project.write(
        "tool/DEBIAN/control",
        "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: n <n@x.y>\nDescription: x\n",
    );
    project.write("tool/DEBIAN/postinst", &script);
    project.write("tool/usr/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(project.path("tool/DEBIAN/postinst"), PermissionsExt::from_mode(0o755)).unwrap();
    let made =
        Command::new("dpkg-deb").arg("-b").args([project.path("tool"), project.path("in/tool.deb")]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn ninja_leaves_no_half_written_target() {
    for is_timeout in [true, false] {
        let (command, mark) = sleep();
        let project = project(
            &r#"
mounts:
  $GATE
  out: { type: bind, source: out, target: /out }
containers:
  c: { rootfs: $NINJA, mounts: [gate, out] }
steps:
  - { name: ninja, exec: [ninja, -C, /out, product], $TIMEOUT grace: 1h }
"#
            .replace("$NINJA", NINJA)
            .replace("$TIMEOUT", if is_timeout { "timeout: 3s," } else { "" }),
        );
        let gate = Gate::new(&project);
        project.write("out/build.ninja", &NINJA_FILE.replace("$mark", &mark));
        let built = stopped(&project, &gate, "ninja", is_timeout);
        assert_eq!(read(&project, "out/product"), None, "{}", built.run);
        assert_eq!(read(&project, "out/part").as_deref(), Some("whole\n"));
        assert_eq!(processes_of(&command), Vec::<String>::new());
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_package_half_installed_in_a_bind_is_reported() {
    for is_timeout in [true, false] {
        let (command, mark) = sleep();
        let project = project(
            &r#"
mounts:
  $GATE
  in: { type: bind, source: in, target: /in, options: [ro] }
  target: { type: bind, source: target, target: /target }
containers:
  c: { rootfs: $DPKG, mounts: [gate, in, target] }
steps:
  - name: dpkg
    $TIMEOUT
    grace: 1h
    run: |
      mkdir -p /target/etc /target/var/lib/dpkg/info /target/var/lib/dpkg/updates /target/var/lib/dpkg/triggers
      : > /target/var/lib/dpkg/status
      dpkg --force-script-chrootless --root=/target --log=/dev/null -i /in/tool.deb
"#
            .replace("$DPKG", DPKG)
            .replace("$TIMEOUT", if is_timeout { "timeout: 3s" } else { "timeout: 1h" }),
        );
        for directory in ["in", "target"] {
            fs::create_dir_all(project.path(directory)).unwrap();
        }
        package(&project, &mark);
        let gate = Gate::new(&project);
        let built = stopped(&project, &gate, "dpkg", is_timeout);
        assert_eq!(read(&project, "target/etc/tool.conf").as_deref(), Some("half\n"), "{}", built.run);
        let half_written = built.ending("dpkg")["failure"]["half_written"].to_string();
        assert!(half_written.contains("\"/target\""), "{half_written}");
        assert_eq!(processes_of(&command), Vec::<String>::new());
        assert_nothing_left(&project, &built);
    }
}

#[test]
fn a_package_half_installed_by_the_first_try_is_whole_in_the_layer_of_the_second() {
    let (command, mark) = sleep();
    let project = project(
        &r#"
mounts:
  $GATE
  in: { type: bind, source: in, target: /in, options: [ro] }
containers:
  c: { rootfs: $DPKG, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }, in] }
steps:
  - name: database
    run: |
      mkdir -p /etc /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers
      : > /var/lib/dpkg/status
  - name: dpkg
    timeout: 3s
    retries: 1
    grace: 1h
    run: |
      [ ! -e /etc/tool.conf ] && [ ! -s /var/lib/dpkg/status ]
      if [ -e /gate/half.here ]; then touch /gate/quick; fi
      dpkg --log=/dev/null -i /in/tool.deb
  - { name: see, run: "cat /etc/tool.conf; dpkg --audit; dpkg -l tool" }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#
        .replace("  $GATE\n", "")
        .replace("$DPKG", DPKG),
    );
    for directory in ["in", "gate"] {
        fs::create_dir_all(project.path(directory)).unwrap();
    }
    package(&project, &mark);
    let built = Built::succeed(&project);
    assert_eq!(built.all("step_started").iter().filter(|event| event["step"] == "dpkg").count(), 2, "{}", built.run);
    let seen = built.lines("see");
    assert_eq!(seen[..2], ["half", "whole"], "{seen:?}");
    assert!(seen.last().unwrap().starts_with("ii  tool"), "{seen:?}");
    assert_eq!(processes_of(&command), Vec::<String>::new());
    assert_nothing_left(&project, &built);
}

also_with_runc! {
    ninja_leaves_no_half_written_target,
    a_package_half_installed_in_a_bind_is_reported,
}
