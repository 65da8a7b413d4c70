//! Device nodes: those that a step makes of numbers, the host's console, and loop devices that it leaves attached.

use std::fs;
use std::process::Command;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::Lab;

pub const ATTACKS: &[Attack] = &[
    Attack { row: "H6", name: "console", summary: "opens the host's console by a node 5:1", run: console },
    Attack {
        row: "contained",
        name: "device-nodes",
        summary: "makes and opens nodes of 512 majors, block and character",
        run: |lab| nodes(lab, ""),
    },
    Attack {
        row: "contained",
        name: "device-nodes-of-image",
        summary: "opens nodes that lie in the root",
        run: nodes_of_root,
    },
    Attack {
        row: "low",
        name: "loop-device-left",
        summary: "attaches a loop device that nobody granted",
        run: loop_left,
    },
    Attack {
        row: "low",
        name: "parents-of-devices",
        summary: "writes to the directory above a device, as nobody",
        run: parents,
    },
    Attack { row: "C4", name: "device-swapped", summary: "swaps the node of another container's device", run: swapped },
    Attack {
        row: "C4",
        name: "kernel-source-swapped",
        summary: "swaps the disk that another container mounts",
        run: source_swapped,
    },
    Attack {
        row: "C4",
        name: "kernel-options-swapped",
        summary: "swaps a directory that an overlay of another container names, and a disk that is named relatively",
        run: options_swapped,
    },
    Attack {
        row: "C3",
        name: "store-in-overlay",
        summary: "sees the store in an overlay of a directory above it",
        run: store_in_overlay,
    },
];

fn console(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: $BASE } }
steps:
  - name: s
    run: |
      mknod /tmp/console c 5 1; echo TRYING
      (exec 3< /tmp/console) && echo OPENED to read || true
      (exec 3> /tmp/console) && echo OPENED to write || true
      stat -c 'IS %t:%T' /dev/console 2> /dev/null || true
      (exec 3< /dev/null) && echo control
",
    );
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    build.tried("s", "control")?;
    build.without("s", &["OPENED"])
}

fn nodes(lab: &Lab, container: &str) -> Verdict {
    let project = lab.project(&format!(
        "
containers: {{ c: {{ rootfs: $BASE, {container} }} }}
steps: [{{ name: s, exec: [/probe, nodes] }}]
"
    ));
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    let made = build.lines("s").iter().find_map(|line| line.strip_prefix("nodes ")?.parse::<u32>().ok());
    tried(made.is_some_and(|made| made > 5000), format!("{made:?} nodes were made"))?;
    // The host's console is an attack of its own.
    let opened: Vec<_> = build.evidence("s", &["OPENED"]).into_iter().filter(|line| !line.contains("c 5:1 ")).collect();
    safe(opened.is_empty(), opened.join(", "))
}

fn nodes_of_root(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: { dir: root }, capabilities: { drop: [MKNOD] } } }
steps:
  - name: s
    run: |
      echo TRYING
      for node in /nodes/*; do
        (exec 3< $node) 2> /dev/null && echo OPENED $node || true
        (exec 3>> $node) 2> /dev/null && echo OPENED $node || true
      done
      ls /nodes
",
    );
    lab.unpack_base(&project.path("root"));
    fs::create_dir(project.path("root/nodes")).unwrap();
    for (name, kind, major, minor) in [
        ("mem", "c", "1", "1"),
        ("kmsg", "c", "1", "11"),
        ("loop", "b", "7", "0"),
        ("disk", "b", "8", "0"),
        ("vda", "b", "254", "0"),
        ("fuse", "c", "10", "229"),
    ] {
        let made = Command::new("mknod").arg(project.path("root/nodes").join(name)).args([kind, major, minor]).status();
        tried(made.unwrap().success(), "mknod on the host")?;
    }
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    tried(build.printed("s", "mem"), build.to_string())?;
    build.without("s", &["OPENED"])
}

/// With SYS_ADMIN and its own nodes: only a device that the manifest grants can be attached.
fn loop_left(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: bind, source: work, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work], capabilities: { add: [SYS_ADMIN] } } }
steps:
  - name: s
    run: |
      mknod /dev/loop-control c 10 237; i=0
      while [ $i -lt 64 ]; do mknod /dev/loop$i b 7 $i; i=$((i+1)); done
      /probe loop /work/backing
",
    );
    fs::create_dir(project.path("work")).unwrap();
    fs::File::create(project.path("work/backing")).unwrap().set_len(1 << 20).unwrap();
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    tried(build.lines("s").iter().any(|line| line.contains("attached")), build.to_string())?;
    let attached = build.evidence("s", &["attached"]);
    for device in attached.iter().filter_map(|line| line.strip_prefix("attached ")) {
        let _ = Command::new("losetup").args(["-d", device]).status();
    }
    safe(attached.is_empty(), format!("{attached:?}, and stays so on the host"))
}

fn parents(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
devices: { outside: { path: /dev/null, target: /opt/deep/null } }
containers: { c: { rootfs: $BASE, devices: [outside], user: '65534:65534' } }
steps:
  - name: s
    run: |
      echo TRYING
      for directory in /opt /opt/deep; do (touch $directory/planted) 2> /dev/null && echo PLANTED in $directory || true; done
      mv /opt/deep/null /opt/deep/moved 2> /dev/null && echo PLANTED by a rename || true
",
    );
    let arguments = ["apply", "--progress", "json"];
    let build = project.run(project.command_in_bash("umask 0; exec \"$@\"", &arguments))?;
    build.tried("s", "TRYING")?;
    build.without("s", &["PLANTED"])
}

/// The manifest names a node in a directory that a step may write to.
fn swapped(lab: &Lab) -> Verdict {
    let project = lab.project("");
    let manifest = format!(
        "version: 1
mounts: {{ work: {{ type: bind, source: work, target: /work }} }}
containers:
  hostile: {{ rootfs: $BASE, mounts: [work] }}
  victim: {{ rootfs: $BASE, devices: [{{ path: {node}, target: /dev/granted }}, {{ path: {node}, target: /granted }}] }}
steps:
  - {{ name: swap, container: hostile, run: 'rm /work/node; mknod /work/node c 1 7; echo TRYING' }}
  - {{ name: victim, container: victim, needs: [swap], run: 'stat -c \"IS %t:%T\" /dev/granted /granted' }}
",
        node = project.path("work/node").display()
    );
    let base = lab.project("base: $BASE\n").read("build.yaml");
    let base = base.lines().find_map(|line| line.strip_prefix("base: ")).unwrap().to_owned();
    project.write("build.yaml", &manifest.replace("$BASE", &base));
    fs::create_dir(project.path("work")).unwrap();
    let made = Command::new("mknod").arg(project.path("work/node")).args(["c", "1", "3"]).status().unwrap();
    tried(made.success(), "mknod on the host")?;
    let build = project.apply(&[])?;
    build.tried("swap", "TRYING")?;
    build.without("victim", &["IS 1:7"])?;
    build.tried("victim", "IS 1:3")
}

/// A loop device of the test, detached when it is dropped.
struct Disk(String);

impl Disk {
    fn attach(image: &std::path::Path) -> Result<Self, crate::attack::Failure> {
        let made = Command::new("losetup").args(["-r", "-f", "--show"]).arg(image).output().unwrap();
        tried(made.status.success(), String::from_utf8_lossy(&made.stderr))?;
        Ok(Self(String::from_utf8_lossy(&made.stdout).trim().to_owned()))
    }

    fn minor(&self) -> &str {
        self.0.trim_start_matches("/dev/loop")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

fn source_swapped(lab: &Lab) -> Verdict {
    let project = lab.project("");
    for name in ["granted", "other"] {
        project.write(&format!("{name}/{name}"), "");
        let image = project.path(&format!("{name}.squashfs"));
        let made = Command::new("mksquashfs").arg(project.path(name)).arg(&image).arg("-quiet").output().unwrap();
        tried(made.status.success(), "mksquashfs on the host")?;
    }
    let [granted, other] = ["granted", "other"].map(|name| Disk::attach(&project.path(&format!("{name}.squashfs"))));
    let (granted, other) = (granted?, other?);
    let disk = project.path("work/disk").display().to_string();
    let manifest = format!(
        "version: 1
mounts:
  work: {{ type: bind, source: work, target: /work }}
  disk: {{ type: squashfs, source: {disk}, target: /disk, options: [ro] }}
containers:
  hostile: {{ rootfs: $BASE, mounts: [work] }}
  victim: {{ rootfs: $BASE, mounts: [disk] }}
steps:
  - {{ name: swap, container: hostile, run: 'rm /work/disk; mknod /work/disk b 7 {other}; echo TRYING' }}
  - {{ name: victim, container: victim, needs: [swap], run: 'ls /disk' }}
",
        other = other.minor()
    );
    let base = lab.project("base: $BASE\n").read("build.yaml");
    let base = base.lines().find_map(|line| line.strip_prefix("base: ")).unwrap().to_owned();
    project.write("build.yaml", &manifest.replace("$BASE", &base));
    fs::create_dir(project.path("work")).unwrap();
    let made = Command::new("mknod").args([&disk, "b", "7", granted.minor()]).status().unwrap();
    tried(made.success(), "mknod on the host")?;
    let build = project.apply(&[])?;
    build.tried("swap", "TRYING")?;
    build.without("victim", &["other"])?;
    build.tried("victim", "granted")
}

/// Returns the root with the tools, as a manifest has it.
fn base(lab: &Lab) -> String {
    let text = lab.project("base: $BASE\n").read("build.yaml");
    text.lines().find_map(|line| line.strip_prefix("base: ")).unwrap().to_owned()
}

fn options_swapped(lab: &Lab) -> Verdict {
    let project = lab.project("");
    project.write("work/lower/granted", "");
    project.write("outside/of-the-host", "");
    let (lower, outside, base) = (project.path("work/lower"), project.path("outside"), base(lab));
    let manifest = format!(
        "version: 1
mounts:
  work: {{ type: bind, source: work, target: /work }}
  over: {{ type: overlay, source: overlay, target: /over, options: ['lowerdir={lower}:/usr/share'] }}
  disk: {{ type: squashfs, source: work/disk, target: /disk, options: [ro] }}
containers:
  hostile: {{ rootfs: {base}, mounts: [work] }}
  victim: {{ rootfs: {base}, mounts: [over] }}
  relative: {{ rootfs: {base}, mounts: [disk] }}
steps:
  - {{ name: swap, container: hostile, run: 'mv /work/lower /work/old; ln -s {outside} /work/lower; echo TRYING' }}
  - {{ name: victim, container: victim, needs: [swap], run: 'ls /over' }}
  - {{ name: relative, container: relative, needs: [swap], run: 'ls /disk' }}
",
        lower = lower.display(),
        outside = outside.display()
    );
    project.write("build.yaml", &manifest);
    let build = project.apply(&[])?;
    build.tried("swap", "TRYING")?;
    build.without("victim", &["of-the-host"])?;
    build.tried("victim", "granted")?;
    let refused = build.status("relative") == "failed" && build.reason("relative").contains("no absolute path");
    safe(refused, format!("{build} {:?}", build.lines("relative")))
}

fn store_in_overlay(lab: &Lab) -> Verdict {
    let (project, base) = (lab.project(""), base(lab));
    for above in ["", "store", "store/logs"] {
        let lower = project.path(above);
        fs::create_dir_all(&lower).unwrap();
        let manifest = format!(
            "version: 1
mounts: {{ over: {{ type: overlay, source: overlay, target: /over, options: ['lowerdir=/usr/share:{}'] }} }}
containers: {{ c: {{ rootfs: {base}, mounts: [over] }} }}
steps: [{{ name: s, run: 'echo TRYING; ls /over/store /over/logs || true' }}]
",
            lower.display()
        );
        project.write("build.yaml", &manifest);
        let build = project.apply(&[])?;
        let words = build.to_string();
        let refused = build.code == 2 && (words.contains("contains the store") || words.contains("is in the store"));
        tried(refused || build.printed("s", "TRYING"), &words)?;
        safe(refused, words)?;
    }
    Ok(())
}
