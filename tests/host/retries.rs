//! Steps that are tried again: each try begins with the root and the tmpfs mounts as they were before the first one.

use std::fs;

use crate::built::{Built, names_in, project};
use crate::project::Project;
use crate::runtime::runtime;

/// The first try checks the state, and destroys it before it fails.
const MANIFEST: &str = r#"
mounts:
  out: { type: bind, source: out, target: /out, cache: ignore }
  tmp: { type: tmpfs, target: /tmp }
containers:
  base: { rootfs: $TOOLS }
  c: { rootfs: { snapshot: below }, mounts: [out, tmp]$SCRATCH }
steps:
  - { name: files, container: base, run: mkdir -p /below/deep; echo lower > /below/file; echo gone > /below/gone }
  - { name: below, container: base, snapshot: {} }
  - name: before
    container: c
    run: |
      mkdir -p /d/deep; echo one > /d/file; ln /d/file /d/deep/again; ln -s /nowhere /d/link; mkfifo /d/fifo
      chmod 4750 /d/file; rm /below/gone; rm -r /root; mkdir /root; echo more >> /below/file
      touch -d @1234567890.123456789 /d/file
      mkdir /tmp/kept; echo kept > /tmp/kept/file; chmod 700 /tmp/kept
      stat -c %i /below/file > /out/number
  - name: again
    container: c
    retries: 2
    run: |
      stat -c '%n %a %s %h %y' /d/file /d/deep/again; stat -c '%n %a %s %h' /tmp/kept /tmp/kept/file; cat /below/file; ls -A /tmp /d /below /root
      [ $(stat -c %i /below/file) = $(cat /out/number) ]
      echo try >> /out/tries
      echo half > /half; echo half > /tmp/half; echo half >> /tmp/kept/file; rm -r /d /below /tmp/kept/file; rm -r /root
      [ $(wc -l < /out/tries) -ge $(cat /out/enough) ]
      echo whole > /whole
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
"#;

fn of(scratch: &str, tries: u32) -> (Project, Built) {
    let project = project(&MANIFEST.replace("$SCRATCH", scratch));
    project.write("out/enough", &tries.to_string());
    let built = Built::succeed(&project);
    (project, built)
}

#[test]
fn each_try_starts_from_the_same_state_and_gives_the_layer_of_a_build_without_retries() {
    for scratch in ["", ", scratch: { disk: true }"] {
        let (_first, at_once) = of(scratch, 1);
        let (project, third) = of(scratch, 3);
        let lines = third.lines("again");
        let (first, rest) = lines.split_at(lines.len() / 3);
        assert_eq!((rest.len(), first), (2 * first.len(), &rest[..first.len()]), "{scratch}: {}", third.run);
        assert_eq!((first, &rest[first.len()..]), (at_once.lines("again").as_slice(), first), "{scratch}");
        assert_eq!(third.digest("layer"), at_once.digest("layer"), "{scratch}: {}", third.run);
        // The bind is as the tries left it, and each warning says so.
        assert_eq!(fs::read_to_string(project.path("out/tries")).unwrap(), "try\n".repeat(3));
        let stays = format!("/out ({})", project.path("out").display());
        let warnings = |try_: u32| {
            format!(
                "exit code 1; try {try_} of 3 begins with the root as it was; files that this one wrote to {stays} stay"
            )
        };
        assert_eq!(third.warnings_of("again"), [warnings(2), warnings(3)], "{scratch}");
    }
}

/// The target is half-written whenever make(1) is killed, and up to date for the next make.
const MAKEFILE: &str = "product:\n\ttrap '' TERM; echo half > $@; [ -e /out/second ] || { touch /out/second; sleep 60; }; \
                        echo whole > $@\n";

#[test]
fn a_make_killed_in_its_first_try_gives_the_right_layer_in_the_second_which_is_cached() {
    let project = project(
        "
mounts: { out: { type: bind, source: out, target: /out, cache: ignore } }
containers:
  c: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/sleep, /bin/touch, /usr/bin/make] }, mounts: [out] }
steps:
  - { name: make, timeout: 3s, grace: 200ms, retries: 1, run: 'make -f /out/Makefile; cat product' }
  - { name: layer, snapshot: { output: layer.squashfs } }
",
    );
    project.write("out/Makefile", MAKEFILE);
    let built = Built::succeed(&project);
    assert_eq!(built.lines("make").last().map(String::as_str), Some("whole"), "{}", built.run);
    let warnings = built.warnings_of("make");
    assert!(
        warnings[0].starts_with("timed out after 3s, and was killed 200ms after SIGTERM; try 2 of 2"),
        "{warnings:?}"
    );
    assert!(names_in(&project.path("layer.squashfs")).contains(&"/product".to_owned()));
    let again = Built::succeed(&project);
    assert_eq!((again.status("make"), again.digest("layer")), ("cached", built.digest("layer")), "{}", again.run);
}

#[test]
fn a_retry_undoes_nothing_of_a_parallel_step() {
    let steps: String = (0..6)
        .map(|n| {
            let fails = if n % 2 == 0 { format!("[ $(wc -l < /out/{n}) = 2 ]") } else { ":".to_owned() };
            format!(
                "  - {{ name: s{n}, needs: [], retries: {}, run: 'echo try >> /out/{n}; echo half >> /half{n}; {fails}; \
                 echo {n} > /whole{n}' }}\n",
                (n + 1) % 2
            )
        })
        .collect();
    let project = project(&format!(
        "
mounts: {{ out: {{ type: bind, source: out, target: /out }} }}
containers: {{ c: {{ rootfs: $TOOLS, mounts: [out] }} }}
steps:
{steps}  - {{ name: look, needs: [s0, s1, s2, s3, s4, s5], run: 'cat /whole? /half?' }}
"
    ));
    fs::create_dir(project.path("out")).unwrap();
    let built = Built::of(&project, &["-j", "6"]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    let expected = "012345".chars().map(String::from).chain(std::iter::repeat_n("half".to_owned(), 6));
    assert_eq!(built.lines("look"), expected.collect::<Vec<_>>(), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_root_that_does_not_fit_twice_is_refused_before_a_step_that_may_be_tried_again() {
    let project = project(
        "
containers: { c: { rootfs: $TOOLS, scratch: { tmpfs: 32MiB } } }
steps:
  - { name: fill, run: head -c 16000000 /dev/urandom > /big }
  - { name: again, retries: 1, run: echo never }
",
    );
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 3, "{}", built.run);
    let reason = built.reason("again");
    assert!(
        reason.starts_with("cannot copy the session's content for another try of the step: the root: "),
        "{reason}"
    );
    assert!(reason.contains("`scratch: {tmpfs: "), "{reason}");
    assert_eq!(built.text("again"), "");
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn an_interrupt_between_two_tries_ends_the_build() {
    let project = project(
        "
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps: [{ name: s, retries: 1000000, run: 'echo try >> /gate/tries; false' }]
",
    );
    fs::create_dir(project.path("gate")).unwrap();
    let build = crate::built::Running::start(&project, &[]);
    crate::built::wait_for("a second try", || {
        let tries = fs::read_to_string(project.path("gate/tries")).unwrap_or_default();
        (tries.lines().count() > 1).then_some(())
    });
    build.signal(rustix::process::Signal::INT);
    let built = build.end();
    assert_eq!((built.run.code, built.reason("s")), (130, "interrupted"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_retry_warns_that_the_containers_network_begins_anew() {
    let project = project(
        r#"
mounts: { out: { type: bind, source: out, target: /out, cache: ignore } }
containers: { c: { rootfs: $TOOLS, mounts: [out], capabilities: { add: [NET_ADMIN] } } }
steps:
  - { name: again, retries: 1, run: "[ -e /out/tried ] || { touch /out/tried; exit 1; }" }
"#,
    );
    fs::create_dir(project.path("out")).unwrap();
    let built = Built::of(&project, &[]);
    let warnings = built.warnings_of("again");
    let has_lost = warnings[0].ends_with("; the container's network begins anew");
    // With an external runtime each step has a network of its own.
    assert_eq!(has_lost, runtime() == "embedded", "{warnings:?}");
}

also_with_runc! {
    each_try_starts_from_the_same_state_and_gives_the_layer_of_a_build_without_retries,
    a_make_killed_in_its_first_try_gives_the_right_layer_in_the_second_which_is_cached,
    a_retry_undoes_nothing_of_a_parallel_step,
    a_root_that_does_not_fit_twice_is_refused_before_a_step_that_may_be_tried_again,
    an_interrupt_between_two_tries_ends_the_build,
    a_retry_warns_that_the_containers_network_begins_anew,
}
