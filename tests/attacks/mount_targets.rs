//! Mount targets in a bind or a cache that a hostile step can write to: links that it plants there lead nowhere.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::build::Build;
use crate::lab::Lab;

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C4",
        name: "target-by-planted-link",
        summary: "a link in a shared bind or cache puts another container's mount over its programs",
        run: planted,
    },
    Attack {
        row: "C4",
        name: "target-by-planted-link-of-each-kind",
        summary: "the same for a mount of each kind, a secret at /etc/passwd for one",
        run: each_kind,
    },
    Attack {
        row: "C4",
        name: "target-by-link-and-back",
        summary: "the link is a directory again when the next step reads what should be mounted there",
        run: and_back,
    },
    Attack {
        row: "C4",
        name: "target-swapped-meanwhile",
        summary: "directory and link change places all the time while other containers open",
        run: swapped,
    },
    Attack {
        row: "C4",
        name: "mounts-taken-away-unconfined",
        summary: "unmounts in namespaces of its own, and removes the place of its container's mount",
        run: unconfined,
    },
];

/// Returns whether the refusal names the link and the mount that it lies in.
fn is_refused(build: &Build, step: &str, link: &str) -> bool {
    let reason = build.reason(step);
    build.status(step) == "failed" && reason.contains(&format!("{link} is a link that lies in the mount /"))
}

/// Returns the mount points that a step's mountinfo shows.
fn places<'a>(build: &'a Build, step: &str) -> Vec<&'a str> {
    build.lines(step).into_iter().filter_map(|line| line.split(' ').nth(4)).collect()
}

fn planted(lab: &Lab) -> Verdict {
    for shared in ["type: bind, source: shared", "type: cache, id: one"] {
        let project = lab.project(&format!(
            r#"
mounts:
  cache: {{ {shared}, target: /root/.cache }}
  pip: {{ type: cache, target: /root/.cache/pip, id: two }}
  of-hostile: {{ type: cache, target: /pip, id: two }}
  token: {{ type: secret, source: token, target: /run/token }}
containers:
  hostile: {{ rootfs: $BASE, mounts: [cache, of-hostile] }}
  victim: {{ rootfs: $BASE, mounts: [cache, pip, token] }}
steps:
  - name: plant
    container: hostile
    run: |
      ln -s ../../usr/bin /root/.cache/pip; cp -a /usr/bin/. /pip/; rm -f /pip/id
      echo '#!/bin/sh' > /pip/id; echo 'echo FAKE; [ -r /run/token ] && echo FAKE has the secret' >> /pip/id
      chmod 755 /pip/id; echo TRYING
  - {{ name: victim, container: victim, needs: [plant], run: id }}
"#
        ));
        fs::create_dir(project.path("shared")).unwrap();
        project.write("token", "of-the-victim\n");
        let build = project.apply(&[])?;
        build.tried("plant", "TRYING")?;
        build.without("victim", &["FAKE"])?;
        tried(is_refused(&build, "victim", "/root/.cache/pip"), format!("{shared}: {build}"))?;
    }
    Ok(())
}

/// Mounts of each kind; the device has none.
const KINDS: [(&str, &str); 9] = [
    ("secret", "type: secret, source: token"),
    ("file", "type: bind, source: token, options: [ro]"),
    ("directory", "type: bind, source: directory"),
    ("tmpfs", "type: tmpfs"),
    ("cache", "type: cache, id: other"),
    ("ramfs", "type: ramfs"),
    ("proc", "type: proc"),
    ("sysfs", "type: sysfs"),
    ("device", ""),
];

fn each_kind(lab: &Lab) -> Verdict {
    let mut manifest = "
mounts: { shared: { type: bind, source: shared, target: /shared } }
containers:
  hostile: { rootfs: $BASE, mounts: [shared] }
"
    .to_owned();
    let mut steps = "steps:\n  - name: plant\n    container: hostile\n    run: |\n".to_owned();
    for (name, mount) in KINDS {
        for (place, target) in [("at", name.to_owned()), ("below", format!("{name}-above/led"))] {
            let own = match name {
                "device" => {
                    format!("mounts: [shared], devices: [{{ path: /dev/full, target: /shared/{target} }}]")
                }
                _ => format!("mounts: [shared, {{ {mount}, target: /shared/{target} }}]"),
            };
            let _ = writeln!(manifest, "  {name}-{place}: {{ rootfs: $BASE, {own} }}");
        }
        let led = if name == "secret" { "../etc/passwd".to_owned() } else { format!("../opt/{name}") };
        let _ = writeln!(steps, "      ln -s {led} /shared/{name}; ln -s ../opt/above /shared/{name}-above");
    }
    steps.push_str("      echo TRYING\n");
    for (name, _) in KINDS {
        for place in ["at", "below"] {
            let step = format!("name: s-{name}-{place}, container: {name}-{place}, needs: [plant]");
            let _ = writeln!(steps, "  - {{ {step}, exec: [cat, /proc/self/mountinfo] }}");
        }
    }
    // A node that a runtime would make itself, but for the bind.
    manifest.push_str(
        "  node: { rootfs: $BASE, mounts: [{ type: bind, source: shared, target: /dev/shared }], \
         devices: [{ path: /dev/full, target: /dev/shared/device }] }\n",
    );
    steps.push_str("  - { name: node, container: node, needs: [plant], exec: [ls, /opt] }\n");
    let project = lab.project(&(manifest + &steps));
    for directory in ["shared", "directory"] {
        fs::create_dir(project.path(directory)).unwrap();
    }
    project.write("token", "of-the-victim\n");
    let build = project.apply(&[])?;
    build.tried("plant", "TRYING")?;
    build.without("node", &["device"])?;
    tried(is_refused(&build, "node", "/dev/shared/device"), format!("node: {build}"))?;
    for (name, _) in KINDS {
        for (place, link) in [("at", name.to_owned()), ("below", format!("{name}-above"))] {
            let step = format!("s-{name}-{place}");
            let led = places(&build, &step);
            let led: Vec<_> =
                led.into_iter().filter(|at| at.starts_with("/opt/") || at.starts_with("/etc/passwd")).collect();
            safe(led.is_empty(), format!("{step} is mounted at {led:?}"))?;
            tried(is_refused(&build, &step, &format!("/shared/{link}")), format!("{step}: {build}"))?;
        }
    }
    Ok(())
}

fn and_back(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts:
  shared: { type: cache, target: /shared }
  tool: { type: bind, source: tool, target: /shared/below, options: [ro] }
containers: { hostile: { rootfs: $BASE, mounts: [shared] }, victim: { rootfs: $BASE, mounts: [shared, tool] } }
steps:
  - { name: plant, container: hostile, run: 'ln -s ../opt /shared/below; echo TRYING' }
  - { name: first, container: victim, needs: [plant], run: 'cat /shared/below/file' }
  - name: back
    container: hostile
    needs: [first]
    run: 'rm /shared/below; mkdir /shared/below; echo FAKE > /shared/below/file'
  - { name: victim, container: victim, needs: [back], run: 'cat /shared/below/file' }
  - { name: image, container: victim, snapshot: { output: image.squashfs } }
",
    );
    project.write("tool/file", "TOOL\n");
    let build = project.apply(&[])?;
    build.tried("plant", "TRYING")?;
    build.without("victim", &["FAKE"])?;
    safe(!project.path("image.squashfs").exists(), "the layer of a step that was deceived was stored")?;
    tried(is_refused(&build, "first", "/shared/below"), build.to_string())
}

fn swapped(lab: &Lab) -> Verdict {
    const VICTIMS: usize = 24;
    let mut manifest = "
mounts:
  shared: { type: bind, source: shared, target: /shared }
  tool: { type: bind, source: tool, target: /shared/a/led, options: [ro] }
containers:
  hostile: { rootfs: $BASE, mounts: [shared] }
"
    .to_owned();
    let mut steps = "
steps:
  - { name: plant, container: hostile, run: 'mkdir -p /shared/a/led; ln -s ../usr /shared/b; echo TRYING' }
  - { name: swap, container: hostile, needs: [plant], exec: [/probe, swap, /shared/a, /shared/b] }
"
    .to_owned();
    for victim in 0..VICTIMS {
        let _ = writeln!(manifest, "  v{victim}: {{ rootfs: $BASE, mounts: [shared, tool] }}");
        let step = format!("name: s{victim}, container: v{victim}, needs: [plant]");
        let _ = writeln!(steps, "  - {{ {step}, exec: [cat, /proc/self/mountinfo] }}");
    }
    let project = lab.project(&(manifest + &steps));
    fs::create_dir(project.path("shared")).unwrap();
    project.write("tool/file", "TOOL\n");
    let apply = project.command(&["apply", "--progress", "json", "--keep-going", "-j", "3"]);
    let build = project.run_within(Duration::from_secs(400), apply)?;
    build.tried("plant", "TRYING")?;
    build.tried("swap", "SWAPPED")?;
    for victim in 0..VICTIMS {
        let step = format!("s{victim}");
        let places = places(&build, &step);
        safe(!places.contains(&"/usr/led"), format!("{step} has its mount at /usr/led"))?;
        let right = build.status(&step) == "ran" && !places.is_empty();
        let refused = build.status(&step) == "failed" && build.reason(&step).contains("/shared/");
        tried(right || refused, format!("{step}: {build}"))?;
    }
    Ok(())
}

/// A later step fails and names the mount, or has its own mounts: those of an external runtime are made for each step.
fn unconfined(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { tool: { type: bind, source: tool, target: /opt/tool, options: [ro] } }
containers: { c: { rootfs: $BASE, mounts: [tool], seccomp: unconfined } }
steps:
  - name: attack
    run: |
      /probe remove-place /opt tool && echo TRYING
      mkdir -p /opt/tool; echo FAKE > /opt/tool/file
  - { name: victim, run: 'cat /opt/tool/file' }
  - { name: image, snapshot: { output: image.squashfs } }
",
    );
    project.write("tool/file", "TOOL\n");
    let build = project.apply(&[])?;
    build.tried("attack", "TRYING")?;
    build.without("victim", &["FAKE"])?;
    let named = build.status("attack") == "failed" && build.reason("attack").contains("its mount /opt/tool");
    let anew = build.status("victim") == "ran" && build.printed("victim", "TOOL");
    safe(named || anew, build.to_string())
}
