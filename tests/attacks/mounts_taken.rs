//! Mounts that a step removes: it removes or renames the directory on which another container, the next step or the host has
//! mounted something.

use std::fs;

use crate::attack::{Attack, Verdict, safe};
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C4",
        name: "mounts-taken-away",
        summary: "removes and renames, in a shared bind, the places of another container's mounts",
        run: taken_away,
    },
    Attack {
        row: "C4",
        name: "mounts-taken-away-meanwhile",
        summary: "the same while a step of the other container runs",
        run: taken_away_meanwhile,
    },
    Attack {
        row: "C4",
        name: "mounts-of-the-host",
        summary: "removes, in a bind without what is mounted below, a directory that the host has mounted on",
        run: of_the_host,
    },
    Attack {
        row: "contained",
        name: "mounts-of-the-next-step",
        summary: "removes and renames the places of /proc, /dev/shm, /dev/mqueue",
        run: places,
    },
];

/// The three ways to move the mount points below: swapped with the attacker's directories, or with each other, or removed.
const TAKEN: [&str; 3] = [
    "mv /shared/private /shared/away; mkdir /shared/private; chmod 777 /shared/private; rm /shared/tool; echo FAKE > /shared/tool",
    "mv /shared/private /shared/away; ln -s away /shared/private; mv /shared/tool /shared/x; mv /shared/other /shared/tool; \
     mv /shared/x /shared/other",
    "rmdir /shared/private; rm /shared/tool /shared/other; ln -s . /shared/private",
];

fn with_mounts_in_a_shared_one(lab: &Lab, shared: &str, steps: &str) -> Project {
    let project = lab.project(&format!(
        "
mounts:
  shared: {{ {shared}, target: /shared }}
  private: {{ type: tmpfs, target: /shared/private }}
  tool: {{ type: bind, source: tool, target: /shared/tool, options: [ro] }}
  other: {{ type: bind, source: other, target: /shared/other, options: [ro] }}
containers:
  hostile: {{ rootfs: $BASE, mounts: [shared] }}
  victim: {{ rootfs: $BASE, mounts: [shared, private, tool, other] }}
steps:
{steps}"
    ));
    fs::create_dir(project.path("shared")).unwrap();
    project.write("tool", "TOOL\n");
    project.write("other", "OTHER\n");
    project
}

/// A later step fails and names the mount, or has its own mounts: those of an external runtime are made for each step.
fn taken_away(lab: &Lab) -> Verdict {
    for shared in ["type: bind, source: shared", "type: cache"] {
        for taken in TAKEN {
            let project = with_mounts_in_a_shared_one(
                lab,
                shared,
                &format!(
                    "
  - {{ name: first, container: victim, run: 'cat /shared/tool; echo of-the-victim > /shared/private/note' }}
  - {{ name: attack, container: hostile, needs: [first], run: '{taken}; echo TRYING' }}
  - {{ name: victim, container: victim, needs: [attack], run: 'cat /shared/tool; echo of-the-victim > /shared/private/note' }}
  - {{ name: look, container: hostile, needs: [attack, first], run: 'sleep 1; cat /shared/*/note || echo NOTHING' }}
"
                ),
            );
            let build = project.apply(&[])?;
            build.tried("first", "TOOL")?;
            build.tried("attack", "TRYING")?;
            build.without("victim", &["FAKE", "OTHER"])?;
            build.without("look", &["of-the-victim"])?;
            let failed = build.status("victim") == "failed" && build.reason("victim").contains("/shared/");
            let ran = build.status("victim") == "ran" && build.printed("victim", "TOOL");
            safe(failed || ran, format!("{taken}: {build} {:?}", build.lines("victim")))?;
        }
    }
    Ok(())
}

fn taken_away_meanwhile(lab: &Lab) -> Verdict {
    for taken in TAKEN {
        let project = with_mounts_in_a_shared_one(
            lab,
            "type: bind, source: shared",
            &format!(
                "
  - {{ name: victim, container: victim, needs: [], run: 'echo > /shared/began; until [ -e /shared/done ]; do sleep 0.02; done' }}
  - {{ name: attack, container: hostile, needs: [], run: 'until [ -e /shared/began ]; do sleep 0.02; done; {taken}; echo > /shared/done; echo TRYING' }}
"
            ),
        );
        let build = project.apply(&["-j", "2"])?;
        build.tried("attack", "TRYING")?;
        let named = build.status("victim") == "failed" && build.reason("victim").contains("its mount /shared/");
        safe(named, format!("{taken}: {build}"))?;
    }
    Ok(())
}

/// In a mount namespace that stands for the host's.
fn of_the_host(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { shared: { type: bind, source: shared, target: /shared, options: [bind] } }
containers: { c: { rootfs: $BASE, mounts: [shared] } }
steps: [{ name: s, run: 'echo TRYING; rmdir /shared/disk; mv /shared/disk /shared/other; rm -r /shared/disk; true' }]
",
    );
    fs::create_dir_all(project.path("shared/disk")).unwrap();
    let script = "mount -t tmpfs of-the-host shared/disk; touch shared/disk/mark; \"$@\"; [ -e shared/disk/mark ] && touch mounted";
    let script = format!("exec unshare --mount --propagation private bash -c '{script}' bash \"$@\"");
    let build = project.run(project.command_in_bash(&script, &["apply", "--progress", "json"]))?;
    build.tried("s", "TRYING")?;
    safe(project.path("mounted").exists(), format!("what the host had mounted is gone: {build}"))
}

/// A directory that is removed or renamed takes the mounts on it away in every mount namespace: also in that of the preforked
/// process of the next step.
fn places(lab: &Lab) -> Verdict {
    const AWAY: &str = "mkdir -p /away; for place in dev/shm dev/mqueue proc; do
      mkdir -p /away/$place; mount --move /$place /away/$place || true; done";
    const MADE_ANEW: &str = "for place in proc dev/shm dev/mqueue; do mkdir /$place; echo FAKE > /$place/fake; done";
    let project = lab.project(
        &format!(
            "
containers: {{ c: {{ rootfs: $BASE, capabilities: {{ add: [SYS_ADMIN] }} }} }}
steps:
  - name: removes
    run: |
      {AWAY}
      rmdir /proc /dev/shm /dev/mqueue && echo TRYING
      {MADE_ANEW}
  - {{ name: first, run: $LOOK }}
  - name: renames
    run: |
      {AWAY}
      mv /proc /proc2; mv /dev/shm /dev/shm2; mv /dev/mqueue /dev/shm; mv /dev/shm2 /dev/mqueue && echo TRYING
      mkdir /proc && echo FAKE > /proc/fake
  - {{ name: second, run: $LOOK }}
  - name: takes-the-place
    run: |
      {AWAY}
      # What gets the next step ready makes the directory anew, perhaps just then.
      for try in 1 2 3 4 5 6 7 8 9; do rm -r /proc; if (echo FAKE > /proc); then echo TRYING; break; fi; done
  - {{ name: third, run: echo RAN }}
"
        )
        .replace(
            "$LOOK",
            "'cat /proc/fake /dev/shm/fake /dev/mqueue/fake || true; \
         cat /proc/self/mountinfo; (echo >> /proc/sys/kernel/core_pattern) && echo WRITABLE || true'",
        ),
    );
    let build = project.apply(&[])?;
    for (attack, step) in [("removes", "first"), ("renames", "second")] {
        build.tried(attack, "TRYING")?;
        let found = |kind: &str, place: &str| {
            let expected = format!(" {place} ");
            build.lines(step).iter().any(|line| line.contains(&expected) && line.contains(&format!(" - {kind} ")))
        };
        for (kind, place) in
            [("proc", "/proc"), ("tmpfs", "/dev/shm"), ("mqueue", "/dev/mqueue"), ("proc", "/proc/sys")]
        {
            safe(found(kind, place), format!("{step} has no {place}: {build}"))?;
        }
        build.without(step, &["FAKE", "WRITABLE"])?;
    }
    build.tried("takes-the-place", "TRYING")?;
    // Nothing can be mounted on a file: that step fails, in words, and no other.
    safe(build.status("third") == "failed" && build.reason("third").contains("/proc"), format!("third: {build}"))
}
