//! Mounts that a hostile root or step leads elsewhere, and the effect of a set-uid program or a device in a bind.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "H7",
        name: "set-uid-in-bind",
        summary: "plants a set-uid program in a bind, another user runs it",
        run: set_uid,
    },
    Attack { row: "H7", name: "device-in-bind", summary: "a device node that lies in a bind", run: device_in_bind },
    Attack {
        row: "H7",
        name: "set-uid-in-cache",
        summary: "plants a set-uid program in a cache mount",
        run: set_uid_in_cache,
    },
    Attack {
        row: "M6",
        name: "target-to-masked-file",
        summary: "mount targets that are links into /proc, /sys, /dev",
        run: targets,
    },
    Attack {
        row: "M6",
        name: "target-planted-in-bind",
        summary: "a step plants such a link for another container",
        run: planted,
    },
    Attack {
        row: "M8",
        name: "cache-of-another-build",
        summary: "reads and spoils another manifest's cache mount",
        run: cache,
    },
    Attack {
        row: "contained",
        name: "links-in-root",
        summary: "dev, proc, sys, etc, tmp, passwd, resolv.conf are links out",
        run: links,
    },
    Attack {
        row: "contained",
        name: "masked-paths",
        summary: "reads and writes what runtimes mask in /proc and /sys",
        run: masked,
    },
];

fn set_uid(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: bind, source: work, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work], no_new_privileges: false } }
steps:
  - { name: plant, run: 'cp /probe /work/root; chmod 6755 /work/root; cp /probe /root-here; chmod 6755 /root-here' }
  - { name: victim, user: '65534:65534', run: 'echo TRYING; /work/root who' }
  - { name: control, user: '65534:65534', run: /root-here who }
",
    );
    fs::create_dir(project.path("work")).unwrap();
    judge_set_uid(&project)
}

fn set_uid_in_cache(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: cache, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work], no_new_privileges: false } }
steps:
  - { name: plant, run: 'cp /probe /work/root; chmod 6755 /work/root; cp /probe /root-here; chmod 6755 /root-here' }
  - { name: victim, user: '65534:65534', run: 'echo TRYING; /work/root who' }
  - { name: control, user: '65534:65534', run: /root-here who }
",
    );
    judge_set_uid(&project)
}

/// The control shows that a set-uid program elsewhere has its effect, so that the mount is what takes it away.
fn judge_set_uid(project: &Project) -> Verdict {
    let build = project.apply(&[])?;
    build.tried("victim", "TRYING")?;
    build.tried("control", "euid 0 egid 0")?;
    let expected = build.printed("victim", "euid 65534 egid 65534");
    safe(expected, format!("a planted program made nobody {:?}", build.lines("victim")))
}

fn device_in_bind(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: bind, source: work, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work] } }
steps:
  - name: s
    run: |
      mknod /work/made c 1 3; echo TRYING
      for node in made planted; do (exec 3< /work/$node) && echo OPENED $node || true; done
      (exec 3< /dev/null) && echo control
",
    );
    fs::create_dir(project.path("work")).unwrap();
    let made = Command::new("mknod").arg(project.path("work/planted")).args(["c", "1", "3"]).status().unwrap();
    tried(made.success(), "mknod on the host")?;
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    build.tried("s", "control")?;
    build.without("s", &["OPENED"])
}

/// Links, and the kernel's files that they lead to.
const LED: [(&str, &str); 9] = [
    ("masked", "/proc/sys/kernel/core_pattern"),
    ("file", "/proc/kcore"),
    ("sysrq", "/proc/sysrq-trigger"),
    ("magic", "../proc/self/fd"),
    ("dev", "/dev"),
    ("node", "/dev/full"),
    ("sys", "/sys/kernel"),
    ("cgroup", "/sys/fs/cgroup"),
    ("round", "dev/../proc/self/../sys"),
];

fn targets(lab: &Lab) -> Verdict {
    let mut manifest = "\ncontainers:\n  made: { rootfs: $BASE }\n".to_owned();
    for (name, _) in LED {
        let file = ["masked", "file", "sysrq", "node"].contains(&name);
        let mount = if file { "type: bind, source: note" } else { "type: tmpfs, options: [size=1212k]" };
        let mounts = format!("[{{ {mount}, target: /l/{name} }}]");
        let _ = writeln!(manifest, "  {name}: {{ rootfs: {{ snapshot: layer }}, mounts: {mounts} }}");
    }
    manifest.push_str("steps:\n  - name: links\n    container: made\n    run: |\n      mkdir /l\n");
    for (name, link) in LED {
        let _ = writeln!(manifest, "      ln -s {link} /l/{name}");
    }
    manifest.push_str("  - { name: layer, container: made, snapshot: {} }\n");
    for (name, _) in LED {
        let _ = writeln!(manifest, "  - {{ name: s-{name}, container: {name}, exec: [cat, /proc/self/mountinfo] }}");
    }
    let project = lab.project(&manifest);
    project.write("note", "note\n");
    let build = project.apply(&[])?;
    build.did_not_hang()?;
    for (name, link) in LED {
        judge_target(&build, &format!("s-{name}"), &format!("/l/{name}"), link)?;
    }
    Ok(())
}

/// A step whose container has a mount at a link was refused for it, or sees that mount below no filesystem of the kernel.
fn judge_target(build: &crate::build::Build, step: &str, target: &str, link: &str) -> Verdict {
    let refused = build.status(step) == "failed" && build.reason(step).contains(target);
    let ran = build.status(step) == "ran";
    safe(!ran, format!("{target}, a link to {link}, was mounted on: {:?}", build.lines(step)))?;
    tried(refused, format!("{target}: {build}"))
}

fn planted(lab: &Lab) -> Verdict {
    for link in ["/proc/sys", "/dev", "/proc/self/fd", "/sys"] {
        let project = lab.project(&format!(
            "
mounts:
  shared: {{ type: bind, source: shared, target: /shared }}
  below: {{ type: tmpfs, target: /shared/below }}
containers: {{ hostile: {{ rootfs: $BASE, mounts: [shared] }}, victim: {{ rootfs: $BASE, mounts: [shared, below] }} }}
steps:
  - {{ name: plant, container: hostile, run: 'rmdir /shared/below; ln -s {link} /shared/below; echo TRYING' }}
  - {{ name: victim, container: victim, needs: [plant], exec: [cat, /proc/self/mountinfo] }}
"
        ));
        fs::create_dir_all(project.path("shared/below")).unwrap();
        let build = project.apply(&[])?;
        build.tried("plant", "TRYING")?;
        judge_target(&build, "victim", "/shared/below", link)?;
    }
    Ok(())
}

/// Another build on the same store names a cache by the same target, without knowledge of the first.
fn cache(lab: &Lab) -> Verdict {
    let manifest = |name: &str, step: &str| {
        format!(
            "
name: {name}
mounts: {{ cache: {{ type: cache, target: /var/cache/tool }} }}
containers: {{ c: {{ rootfs: $BASE, mounts: [cache] }} }}
steps: [{{ name: s, always: true, run: '{step}' }}]
"
        )
    };
    let victim = lab.project(&manifest("victim", "echo of-the-victim > /var/cache/tool/first; cat /var/cache/tool/*"));
    let hostile = lab.project(&manifest(
        "hostile",
        "echo TRYING; cat /var/cache/tool/* || true; echo evil > /var/cache/tool/second",
    ));
    let in_one_store = |project: &Project| {
        let mut command = project.command(&["apply", "--progress", "json"]);
        command.env("RUNNER_STORE", victim.path("store"));
        project.run(command)
    };
    in_one_store(&victim)?.succeeded()?.tried("s", "of-the-victim")?;
    let build = in_one_store(&hostile)?;
    build.tried("s", "TRYING")?;
    let again = in_one_store(&victim)?;
    let shared = build.printed("s", "of-the-victim") || again.printed("s", "evil");
    // Where builds share a cache by its target, the book must say so: users who run hostile builds choose ids.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/mounts.md");
    let page = fs::read_to_string(page).unwrap();
    let said = page.lines().any(|line| line.contains("`cache`") && line.contains("same `id`"));
    safe(!shared || said, "a build reads and writes another build's cache, and the book does not say so")
}

fn links(lab: &Lab) -> Verdict {
    const NAMES: [&str; 6] = ["dev", "proc", "sys", "tmp", "run", "var"];
    let project = lab.project(
        "
mounts:
  tmp: { type: tmpfs, target: /tmp }
  cache: { type: cache, target: /var/cache/deep }
  file: { type: bind, source: note, target: /etc/new/note }
devices: { outside: { path: /dev/full, target: /etc/full } }
containers:
  c: { rootfs: { dir: root }, network: NETWORK, mounts: [tmp, cache, file], devices: [outside] }
  named: { rootfs: { dir: root }, user: ann }
steps:
  - name: s
    container: c
    run: |
      echo TRYING; cat /etc/shadow || true
      for file in /etc/passwd /etc/resolv.conf /etc/hosts /tmp/evil /proc/evil /dev/evil /sys/evil /var/evil /run/evil; do
        (echo evil > $file) 2> /dev/null || true
      done
  - { name: named, container: named, exec: [/probe, who] }
",
    );
    project.write("note", "note\n");
    lab.unpack_base(&project.path("root"));
    project.write("victim/etc/shadow", "of the host\n");
    project.write("victim/etc/passwd", "ann:x:4242:4242::/:/bin/sh\n");
    let manifest = project.read("build.yaml");
    for (etc, network) in [(true, "none"), (false, "host")] {
        project.write("build.yaml", &manifest.replace("NETWORK", network));
        for name in NAMES.into_iter().chain(["etc"]) {
            let (inside, outside) = (project.path("root").join(name), project.path("victim").join(name));
            fs::create_dir_all(&outside).unwrap();
            let _ = fs::remove_dir_all(&inside);
            let _ = fs::remove_file(&inside);
            // The second time, /etc is a directory, and its entries are links.
            if name == "etc" && !etc {
                fs::create_dir(&inside).unwrap();
                for file in ["passwd", "resolv.conf", "hosts", "shadow"] {
                    symlink(outside.join(file), inside.join(file)).unwrap();
                }
            } else {
                symlink(&outside, &inside).unwrap();
            }
        }
        let before = listing(&project);
        let build = project.apply(&[])?;
        build.did_not_hang()?;
        let ended = build.printed("s", "TRYING") || build.status("s") == "failed" && !build.reason("s").is_empty();
        tried(ended, build.to_string())?;
        safe(!build.printed("s", "of the host"), "a step reads the host's shadow")?;
        safe(!build.printed("named", "euid 4242 egid 4242"), "the host's passwd was read")?;
        safe(listing(&project) == before, format!("the host's directory has become {}", listing(&project)))?;
    }
    Ok(())
}

/// Returns all entries of the victim's directory, with their content.
fn listing(project: &Project) -> String {
    let script = "cd \"$1\" && find . -printf '%p %m %s %l\\n' | sort && find . -type f -exec cat {} +";
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(project.path("victim")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn masked(lab: &Lab) -> Verdict {
    let project = lab.project(
        r#"
containers: { c: { rootfs: $BASE } }
steps:
  - name: s
    run: |
      echo TRYING
      for file in sysrq-trigger sys/kernel/core_pattern sys/kernel/modprobe sys/kernel/hostname sys/vm/drop_caches \
        sys/fs/binfmt_misc/register sys/kernel/uevent_helper irq/0/smp_affinity bus/pci acpi/wakeup mtrr scsi/scsi; do
        [ -e /proc/$file ] && (exec 3>> /proc/$file) 2> /dev/null && echo "WRITABLE /proc/$file" || true
      done
      for file in kernel/uevent_helper kernel/profiling power/state kernel/mm/ksm/run firmware/efi/vars module/kernel/parameters/panic fs/cgroup/cgroup.procs fs/cgroup/memory/cgroup.procs fs/cgroup/unified/cgroup.procs; do
        [ -e /sys/$file ] && (exec 3>> /sys/$file) 2> /dev/null && echo "WRITABLE /sys/$file" || true
      done
      for file in kcore keys timer_list sched_debug latency_stats; do
        [ -n "$(head -c 16 /proc/$file 2> /dev/null | tr -d '\0')" ] && echo "READABLE /proc/$file" || true
      done
      ls /sys/firmware /proc/scsi /proc/acpi 2> /dev/null | while read name; do case $name in /*|"") ;; *) echo "LISTED $name";; esac; done
      mount -o remount,rw /proc/sys 2> /dev/null && echo "WRITABLE by remount" || true
"#,
    );
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    build.without("s", &["WRITABLE", "READABLE", "LISTED"])
}
