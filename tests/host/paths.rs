//! Host paths under attack: a step that can write to a directory of the host tries to see the store, or to have another
//! container, an image or an output use a file of the host that the manifest does not name.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::built::{Built, Running, project};
use crate::project::{Project, Run};
use crate::root::make_root;
use crate::runtime::runtime;

/// Builds from a shell command in a mount namespace of its own; `"$@"` is runner and its arguments.
fn built_after(project: &Project, script: &str, arguments: &[&str]) -> Built {
    Running::spawn(project.shell_in_namespace(script, &[arguments, &["apply", "--progress", "json"]].concat())).end()
}

/// Looks for the store below a directory: one line for each entry that a step should not find.
const LOOK: &str = r#"
      [ -d $at ] || echo "$at is missing"
      ls -A $at
      grep " $at/" /proc/self/mountinfo || true
      for path in $at $at/mnt $at/mnt/w $at/keys $at/layers; do
        (echo evil > $path/evil) 2> /dev/null && echo "$path was written to"
        mkdir $path/evil-dir 2> /dev/null && echo "$path was written to"
      done
      cat $at/mnt/w/mounts*/mount* 2> /dev/null || true
      rm -rf $at 2> /dev/null && echo "$at was removed"
      [ -d $at ] || echo "$at has gone"
      echo looked"#;

/// Expects a refusal: with an external runtime nothing confines steps, and two of them could move the store, so no such bind is
/// writable.
fn assert_refused(run: &Run) {
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("contains the store") && run.stderr.contains("--store DIRECTORY"), "{run}");
    assert!(run.stderr.contains("options: [ro]") && run.stderr.contains("--runtime embedded"), "{run}");
}

#[test]
fn a_bind_that_contains_the_store_shows_and_changes_nothing_of_it() {
    for options in ["[]", "[ro]", "[bind]", "[bind, ro]", "[rslave]"] {
        let project = project(&format!(
            "
mounts:
  all: {{ type: bind, source: ., target: /src, options: {options} }}
  token: {{ type: secret, source: token, target: /run/token }}
containers:
  other: {{ rootfs: $TOOLS, mounts: [token] }}
  hostile: {{ rootfs: $TOOLS, mounts: [all] }}
steps:
  - {{ name: open, container: other, run: cat /run/token }}
  - name: look
    container: hostile
    needs: [open]
    run: |
      at=/src/store{LOOK}
      cat /src/token
  - {{ name: after, container: other, needs: [open, look], run: cat /run/token; touch /etc/still }}
  - {{ name: image, container: other, snapshot: {{ output: out.squashfs }} }}
"
        ));
        project.write("token", "secret");
        if runtime() != "embedded" && !options.contains("ro") {
            assert_refused(&project.runner(&["apply"]));
            continue;
        }
        let built = Built::succeed(&project);
        // The secret is masked where a step prints it.
        assert_eq!(built.lines("look"), ["looked", "***"], "{options}");
        assert_eq!(built.text("after"), "***", "{options}");
        assert!(project.store().join("keys").is_dir() && project.path("out.squashfs").is_file());
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{options}");
    }
}

#[test]
fn a_store_below_other_directories_cannot_be_moved_out_of_its_cover() {
    // `mv` copies an entry that it cannot rename; only renaming counts.
    let project = project(&format!(
        "
mounts:
  all: {{ type: bind, source: ., target: /src }}
  part: {{ type: bind, source: part, target: /part }}
containers:
  a: {{ rootfs: $TOOLS, mounts: [all] }}
  b: {{ rootfs: $TOOLS, mounts: [part] }}
steps:
  - {{ name: open, container: b, run: ls -A /part }}
  - name: move
    container: a
    needs: [open]
    run: |
      mkdir -p /src/part
      for path in /src/cache/of/runner /src/cache/of /src/cache; do
        /src/rename $path /src/part/x 2> /dev/null && echo moved $path
      done
      touch /src/cache/of/beside
      at=/src/cache/of/runner{LOOK}
  - {{ name: after, container: b, needs: [open, move], run: ls -A /part }}
"
    ));
    fs::create_dir(project.path("part")).unwrap();
    compile_rename(&project, "rename");
    let store = project.path("cache/of/runner");
    let run = project.runner(&["--store", store.to_str().unwrap(), "apply"]);
    if runtime() != "embedded" {
        return assert_refused(&run);
    }
    assert_eq!(run.code, 0, "{run}");
    for bad in ["moved", "was written", "is missing", "has gone", "was removed"] {
        assert!(!run.stdout.contains(bad), "{run}");
    }
    assert!(run.stdout.contains("looked"), "{run}");
    assert!(project.path("cache/of/beside").is_file() && store.join("keys").is_dir());
}

/// Compiles a program that only calls rename(2).
fn compile_rename(project: &Project, name: &str) {
    let source = "#include <stdio.h>\nint main(int c, char **v) { return c != 3 || rename(v[1], v[2]) != 0; }\n";
    crate::built::compile(project, name, source, &["-static"]);
}

#[test]
fn a_mount_below_the_source_of_a_bind_does_not_show_the_store() {
    let project = project(&format!(
        "
mounts:
  all: {{ type: bind, source: src, target: /src }}
containers:
  c: {{ rootfs: $TOOLS, mounts: [all] }}
steps:
  - name: look
    run: |
      for at in /src/alias /src/above/store; do{LOOK}
      done
      ls -A /src/keys
"
    ));
    for name in ["src/alias", "src/above", "src/keys", "store"] {
        fs::create_dir_all(project.path(name)).unwrap();
    }
    // The first build makes the store.
    let script = "\"$@\" > /dev/null; mkdir -p src/alias src/above src/keys; mount --bind store src/alias && mount --bind . src/above && \
                  mount --bind store/keys src/keys && exec \"$@\"";
    let built = built_after(&project, script, &[]);
    if runtime() != "embedded" {
        return assert_refused(&built.run);
    }
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("look"), ["looked", "looked"]);
}

#[test]
fn a_path_in_the_store_or_above_it_is_refused() {
    for (container, words) in [
        ("rootfs: $TOOLS, mounts: [{ type: bind, source: store/layers, target: /x }]", "it is in the store"),
        ("rootfs: $TOOLS, mounts: [{ type: bind, source: link, target: /x, options: [ro] }]", "it is in the store"),
        ("rootfs: { dir: . }", "it contains the store"),
    ] {
        let project =
            project(&format!("containers:\n  c: {{ {container} }}\nsteps: [{{ name: s, exec: [/bin/true] }}]\n"));
        fs::create_dir_all(project.path("store/layers")).unwrap();
        fs::write(project.path("store/format"), "1\n").unwrap();
        symlink("store/keys/..", project.path("link")).unwrap();
        fs::create_dir(project.path("store/keys")).unwrap();
        let run = project.runner(&["apply"]);
        assert_eq!(run.code, 2, "{run}");
        assert!(run.stderr.contains(words) && run.stderr.contains("help:"), "{run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
}

#[test]
fn validate_warns_of_a_bind_that_contains_the_store() {
    let project = project(
        "
mounts:
  all: { type: bind, source: ., target: /src }
containers:
  c: { rootfs: $TOOLS, mounts: [all] }
steps: [{ name: s, exec: [/bin/true] }]
",
    );
    for (store, warns) in [("store", true), ("not/yet/there", true), ("link/store", true), ("/nowhere/store", false)] {
        let _ = symlink(".", project.path("link"));
        let run = project.runner(&["--store", store, "validate"]);
        let words = match runtime() {
            "embedded" => "warning: the bind source",
            _ => "warning: a build will be refused: cannot bind",
        };
        assert_eq!((run.code, run.stderr.contains(words)), (0, warns), "{store}: {run}");
        let rest = if runtime() == "embedded" { "an empty, read-only directory" } else { "`--store DIRECTORY`" };
        assert_eq!(run.stderr.contains(rest), warns, "{store}: {run}");
    }
    assert!(!project.path("not").exists());
}

#[test]
fn a_bind_that_contains_the_store_is_refused_where_another_container_may_mount() {
    for (options, words) in [
        ("capabilities: { add: [SYS_ADMIN] }", "container other, which has the capability SYS_ADMIN"),
        ("seccomp: unconfined", "container other, which is `seccomp: unconfined`"),
        ("seccomp: profile.json", "container other, whose seccomp profile permits `mount`"),
    ] {
        let project = project(&format!(
            "
mounts: {{ all: {{ type: bind, source: ., target: /src, options: [ro] }} }}
containers:
  c: {{ rootfs: $TOOLS, mounts: [all] }}
  other: {{ rootfs: $TOOLS, {options} }}
steps:
  - {{ name: s, container: c, run: ':' }}
  - {{ name: o, container: other, run: ':' }}
"
        ));
        project.write("profile.json", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
        let run = project.runner(&["apply"]);
        assert_eq!(run.code, 2, "{run}");
        assert!(run.stderr.contains(words) && run.stderr.contains("--store DIRECTORY"), "{run}");
        // Where only one of them runs, none of its steps gets behind the directory.
        for arguments in [&["apply", "--target", "s"][..], &["run", "c", "--", "sh"], &["run", "other", "--", "sh"]] {
            let run = project.runner(arguments);
            assert_eq!(run.code, 0, "{arguments:?}: {run}");
        }
        let run = project.runner(&["validate"]);
        assert!(run.code == 0 && run.stderr.contains("a build will be refused") && run.stderr.contains(words), "{run}");
    }
}

#[test]
fn paths_of_the_manifest_are_resolved_once_when_the_build_begins() {
    // Each is replaced by a link to a file or directory of the host that the manifest does not name.
    let project = project(
        r#"
mounts:
  work: { type: bind, source: work, target: /work }
  folder: { type: bind, source: work/folder, target: /folder }
  file: { type: bind, source: work/file, target: /file }
  token: { type: secret, source: work/token, target: /run/token }
containers:
  hostile: { rootfs: $TOOLS, mounts: [work] }
  bound: { rootfs: $TOOLS, mounts: [folder, file, token] }
  dir: { rootfs: { dir: work/root } }
  tar: { rootfs: { tar: work/root.tar } }
  image: { rootfs: { squashfs: work/root.squashfs } }
steps:
  - name: swap
    container: hostile
    run: |
      cd /work
      for name in folder file token root root.tar root.squashfs; do
        /work/rename $name old-$name
        ln -s ../victim/$name $name
      done
  - { name: bound, container: bound, needs: [swap], run: cat /folder/name /file /run/token }
  - { name: dir, container: dir, needs: [swap], run: cat /name }
  - { name: tar, container: tar, needs: [swap], run: cat /name }
  - { name: image, container: image, needs: [swap], run: cat /name }
"#,
    );
    for (top, name) in [("work", "named"), ("victim", "host")] {
        for file in ["folder/name", "file"] {
            project.write(&format!("{top}/{file}"), &format!("{name}\n"));
        }
        project.write(&format!("{top}/token"), &format!("token-{name}\n"));
        let root = project.path(top).join("root");
        make_root(&root);
        fs::write(root.join("name"), format!("{name}\n")).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let ended = Command::new(program).args(arguments).current_dir(project.path(top)).output().unwrap();
            assert!(ended.status.success(), "{program}: {ended:?}");
        };
        run("tar", &["-C", "root", "-cf", "root.tar", "."]);
        run("mksquashfs", &["root", "root.squashfs", "-quiet", "-no-progress"]);
    }
    compile_rename(&project, "work/rename");
    let built = Built::succeed(&project);
    // Only the secret that was opened is masked.
    assert_eq!(built.text("bound"), "named\nnamed\n***\n");
    for step in ["dir", "tar", "image"] {
        assert_eq!(built.text(step), "named\n", "{step}");
    }
    assert!(project.path("work/root").is_symlink());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_program_that_a_step_replaced_is_refused() {
    let project = project(
        "
mounts:
  work: { type: bind, source: work, target: /work }
containers:
  hostile: { rootfs: $TOOLS, mounts: [work] }
  programs: { rootfs: { programs: [/bin/sh, $PROGRAM] } }
steps:
  - { name: swap, container: hostile, run: rm /work/program; ln -s /bin/cat /work/program }
  - { name: use, container: programs, needs: [swap], run: echo used }
",
    );
    let program = project.path("work/program");
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("$PROGRAM", program.to_str().unwrap()));
    project.write("work/program", "#!/bin/sh\n");
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 2, "{run}");
    assert!((run.stdout.clone() + &run.stderr).contains("it was replaced after the build began"), "{run}");
}

#[test]
fn set_uid_programs_and_devices_in_a_bind_or_cache_have_no_effect_unless_asked_for() {
    let manifest = |options: &str| {
        format!(
            "
mounts:
  bind: {{ type: bind, source: work, target: /bind, options: {options} }}
  cache: {{ type: cache, target: /cache, options: {options} }}
containers:
  c: {{ rootfs: $TOOLS, mounts: [bind, cache], no_new_privileges: false, devices: [/dev/null] }}
steps:
  - name: plant
    run: |
      for at in /bind /bind/below /cache; do
        [ -d $at ] || continue
        cp /bin/id $at/; chmod 4755 $at/id; mknod -m 666 $at/null c 1 3
      done
  - name: use
    user: 1000:1000
    run: |
      for at in /bind /bind/below /cache; do
        [ -d $at ] || continue
        echo $at $($at/id -u) $( (cat < $at/null) 2> /dev/null && echo opened)
      done
      grep -E ' /(bind|bind/below|cache) ' /proc/self/mountinfo | grep -c nosuid,nodev || true
"
        )
    };
    let script = "mkdir -p work/below && mount -t tmpfs none work/below && exec \"$@\"";
    let hardened = project(&manifest("[]"));
    fs::create_dir(hardened.path("work")).unwrap();
    let built = built_after(&hardened, script, &[]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("use"), ["/bind 1000", "/bind/below 1000", "/cache 1000", "3"]);
    let asked = project(&manifest("[suid, dev]"));
    fs::create_dir(asked.path("work")).unwrap();
    let built = built_after(&asked, script, &[]);
    assert_eq!(built.run.code, 0, "{}", built.run);
    assert_eq!(built.lines("use"), ["/bind 0 opened", "/bind/below 0 opened", "/cache 0 opened", "0"]);
    assert_eq!(fs::metadata(asked.path("work/id")).unwrap().mode() & 0o7000, 0o4000);
}

#[test]
fn an_output_follows_no_link_that_a_step_put_in_its_way() {
    // The command by which a step puts something in the way, and the build's message where that must fail.
    for (script, refused) in [
        ("rm -rf /work/out; ln -s ../victim /work/out", Some("now a link is in the way")),
        ("rm -rf /work/out/deep; ln -s ../../victim /work/out/deep", Some("now a link is in the way")),
        ("rm -rf /work/out; echo > /work/out", Some("now a link is in the way")),
        ("ln -s ../../../victim/image /work/out/deep/image", Some("it is a symbolic link, and an output replaces")),
        ("mkfifo /work/out/deep/image", Some("it is a fifo, and an output replaces")),
        ("mkdir -p /work/out/deep/image/full", Some("it is a directory, and an output replaces")),
        ("rm -rf /work/out", None),
        ("rm -rf /work/out; mkdir -p /work/out/deep; echo old > /work/out/deep/image", None),
    ] {
        let project = project(&format!(
            "
mounts:
  work: {{ type: bind, source: work, target: /work }}
containers:
  hostile: {{ rootfs: $TOOLS, mounts: [work] }}
  built: {{ rootfs: $TOOLS }}
steps:
  - {{ name: swap, container: hostile, run: '{script}' }}
  - {{ name: made, container: built, needs: [swap], run: echo made > /made }}
  - {{ name: image, container: built, snapshot: {{ output: work/out/deep/image }} }}
"
        ));
        project.write("victim/image", "host");
        fs::create_dir(project.path("work")).unwrap();
        let built = Built::of(&project, &[]);
        let output = project.path("work/out/deep/image");
        match refused {
            Some(words) => {
                assert_eq!(built.run.code, 3, "{script}: {}", built.run);
                assert!(built.reason("image").contains(words), "{script}: {}", built.run);
            }
            None => {
                assert_eq!(built.run.code, 0, "{script}: {}", built.run);
                assert!(crate::built::names_in(&output).iter().any(|name| name.ends_with("made")), "{script}");
            }
        }
        assert_eq!(fs::read_to_string(project.path("victim/image")).unwrap(), "host", "{script}");
        assert_eq!(fs::read_dir(project.path("victim")).unwrap().count(), 1, "{script}");
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new(), "{script}");
    }
}

#[test]
fn an_output_replaces_a_regular_file_only() {
    let null = fs::metadata("/dev/null").unwrap();
    for (output, found) in
        [("/dev/null", "a character device"), ("link", "a symbolic link"), ("link/../fifo", "a socket or a fifo")]
    {
        let project = project(&format!(
            "
containers: {{ c: {{ rootfs: {{ scratch: true }} }} }}
steps: [{{ name: s, snapshot: {{ output: {output} }} }}]
"
        ));
        fs::create_dir(project.path("folder")).unwrap();
        symlink("folder", project.path("link")).unwrap();
        let made = Command::new("mkfifo").arg(project.path("fifo")).status().unwrap();
        assert!(made.success());
        for command in ["validate", "apply"] {
            let run = project.runner(&[command]);
            let words = match output {
                "link" => "is a folder".to_owned(),
                _ => format!("is {found}"),
            };
            assert_eq!((run.code, run.stderr.contains(&words)), (2, true), "{command}: {run}");
        }
        assert!(project.path("link").is_symlink());
    }
    let now = fs::metadata("/dev/null").unwrap();
    assert_eq!((now.ino(), now.mode(), now.rdev()), (null.ino(), null.mode(), null.rdev()));
}

#[test]
fn a_file_that_the_build_writes_is_bound_in_its_new_state_by_any_path() {
    let project = project(
        r#"
mounts:
  file: { type: bind, source: link/image, target: /file, options: [ro] }
  folder: { type: bind, source: link, target: /folder, options: [ro] }
containers:
  first: { rootfs: $TOOLS }
  second: { rootfs: $TOOLS, mounts: [file, folder] }
steps:
  - { name: made, container: first, run: echo made > /made }
  - { name: image, container: first, snapshot: { output: out/image } }
  - { name: look, container: second, needs: [image], run: head -c 4 /file; head -c 4 /folder/image }
"#,
    );
    project.write("out/image", "old!");
    symlink("out", project.path("link")).unwrap();
    let built = Built::succeed(&project);
    assert_eq!(built.text("look"), "hsqshsqs");
}

#[test]
fn two_outputs_that_are_one_file_by_two_paths_are_refused() {
    let project = project(
        "
containers: { c: { rootfs: { scratch: true } }, d: { rootfs: { scratch: true } } }
steps:
  - { name: one, container: c, snapshot: { output: out/image } }
  - { name: other, container: d, snapshot: { output: link/image } }
",
    );
    fs::create_dir(project.path("out")).unwrap();
    symlink("out", project.path("link")).unwrap();
    let run = project.runner(&["validate"]);
    assert_eq!((run.code, run.stderr.contains("two snapshots have the same output")), (2, true), "{run}");
}

also_with_runc! {
    a_bind_that_contains_the_store_shows_and_changes_nothing_of_it,
    a_store_below_other_directories_cannot_be_moved_out_of_its_cover,
    a_mount_below_the_source_of_a_bind_does_not_show_the_store,
    validate_warns_of_a_bind_that_contains_the_store,
    a_bind_that_contains_the_store_is_refused_where_another_container_may_mount,
    paths_of_the_manifest_are_resolved_once_when_the_build_begins,
    set_uid_programs_and_devices_in_a_bind_or_cache_have_no_effect_unless_asked_for,
    a_file_that_the_build_writes_is_bound_in_its_new_state_by_any_path,
}
