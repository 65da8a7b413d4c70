//! The program that runs the text of a `run`: the shell, one that the manifest names, or the interpreter that the text names
//! itself.

use crate::built::{Built, project};

#[test]
fn a_text_that_begins_with_an_interpreter_is_a_script_of_it() {
    let project = project(
        r##"
containers:
  c: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/sed, /usr/bin/env, /bin/bash, /bin/ls, /usr/bin/stat] } }
  closed: { rootfs: { programs: [/bin/sh, /bin/cat] }, read_only: true, user: "1000:1000", shell: [/bin/sh, -c] }
steps:
  - name: bash
    container: c
    run: |
      #!/bin/bash -eu
      [[ a == a ]] && echo "options $-"
      false || echo "name $0"
      cat <<EOF
      here
      EOF
      false
      echo not reached
  - name: sed
    container: c
    needs: []
    run: |
      #!/bin/sed -nf
      1p
  - { name: env, container: c, needs: [], run: "#!/usr/bin/env bash\necho $BASH_VERSINFO" }
  - { name: long, container: c, needs: [], run: "#!/bin/sh\n# LONG\necho long" }
  - { name: missing, container: c, needs: [], run: "#!/usr/bin/python9 -u\nprint(1)" }
  - { name: closed, container: closed, run: "#!/bin/sh\necho of a user; cat /proc/self/stat > /dev/null; echo x > $0" }
"##
        .replace("LONG", &"x".repeat(200_000))
        .as_str(),
    );
    let built = Built::of(&project, &["--keep-going", "-j", "1"]);
    let lines = built.lines("bash");
    assert!(lines[0].starts_with("options ") && lines[0].contains('e') && lines[0].contains('u'), "{lines:?}");
    assert_eq!(lines[1..], ["name /dev/runner/bash", "here"]);
    assert_eq!(built.reason("bash"), "exit code 1");
    assert_eq!(built.status("sed"), "ran");
    assert!(built.lines("env")[0].parse::<u32>().is_ok(), "{}", built.run);
    assert_eq!(built.lines("long"), ["long"]);
    assert_eq!(
        built.reason("missing"),
        "cannot start: the interpreter of its script, /usr/bin/python9, is not in the root"
    );
    assert_eq!(built.lines("closed")[0], "of a user");
    assert!(built.text("closed").contains("Read-only file system"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_container_and_a_step_may_name_a_shell_of_their_own_and_another_shell_is_another_step() {
    let project = project(
        r##"
containers:
  c: { rootfs: { programs: [/bin/sh, /bin/bash, /bin/cat, /usr/bin/printf] }, shell: [/bin/bash, -euo, pipefail, -c] }
steps:
  - { name: container, run: "[[ -n $BASH_VERSION ]] && echo \"$SHELLOPTS\"" }
  - { name: step, shell: [/bin/sh, -c], run: "false; echo \"version: $BASH_VERSION\"" }
  - { name: other, shell: [/usr/bin/printf, "<%s>"], run: "a text" }
  - { name: layer, snapshot: {} }
"##,
    );
    let built = Built::succeed(&project);
    assert!(built.text("container").contains("pipefail"), "{}", built.run);
    assert_eq!(built.lines("step"), ["version: "]);
    assert_eq!(built.text("other"), "<a text>");
    assert_eq!(Built::succeed(&project).status("layer"), "cached");
    let text = std::fs::read_to_string(project.path("build.yaml")).unwrap().replace("<%s>", "(%s)");
    project.write("build.yaml", &text);
    let changed = Built::succeed(&project);
    assert_eq!((changed.status("layer"), changed.text("other")), ("ran", "(a text)".to_owned()));
}

#[test]
fn unmasked_paths_are_open_and_with_all_of_them_a_user_namespace_can_mount_its_own_proc() {
    let project = project(
        r##"
containers:
  usual: { rootfs: $ROOT, seccomp: unconfined }
  some: { rootfs: $ROOT, unmask: [/proc/timer_list, /proc/sys] }
  open: { rootfs: $ROOT, seccomp: unconfined, unmask: all }
steps:
  - { name: usual, container: usual, run: "unshare -Urmpf mount -t proc proc /proc 2> /dev/null || echo refused; head -c1 /proc/timer_list | wc -c" }
  - { name: some, container: some, run: "head -c1 /proc/timer_list | wc -c; grep -c ' /proc/' /proc/self/mountinfo; grep ' /proc/sys ' /proc/self/mountinfo || echo open" }
  - { name: open, container: open, run: "unshare -Urmpf sh -c 'mount -t proc proc /proc && echo $$ mounted'; grep ' /proc/' /proc/self/mountinfo || echo none" }
"##
        .replace(
            "$ROOT",
            "{ programs: [/bin/sh, /bin/grep, /bin/mount, /usr/bin/unshare, /usr/bin/head, /usr/bin/wc] }",
        )
        .as_str(),
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("usual"), ["refused", "0"], "{}", built.run);
    let some = built.lines("some");
    assert!(some[0] == "1" && some[1] != "0" && some[2] == "open", "{}", built.run);
    assert_eq!(built.lines("open"), ["1 mounted", "none"], "{}", built.run);
}

also_with_runc! {
    a_text_that_begins_with_an_interpreter_is_a_script_of_it,
    a_container_and_a_step_may_name_a_shell_of_their_own_and_another_shell_is_another_step,
    unmasked_paths_are_open_and_with_all_of_them_a_user_namespace_can_mount_its_own_proc,
}
