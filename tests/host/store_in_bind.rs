//! Binds around the store: their steps neither see nor move it.

use std::fs;
use std::os::unix::fs::symlink;

use crate::built::{Built, Running, project};
use crate::project::{Project, Run};
use crate::runtime::runtime;

/// Builds from a shell command in a mount namespace of its own; `"$@"` is runner and its arguments.
pub fn built_after(project: &Project, script: &str, arguments: &[&str]) -> Built {
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
pub fn compile_rename(project: &Project, name: &str) {
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
            "embedded" => "⚠ the bind source",
            _ => "⚠ a build will be refused: cannot bind",
        };
        assert_eq!((run.code, run.says(words)), (0, warns), "{store}: {run}");
        let rest = if runtime() == "embedded" { "an empty, read-only directory" } else { "`--store DIRECTORY`" };
        assert_eq!(run.says(rest), warns, "{store}: {run}");
        assert_eq!(run.stderr.contains("source: ., target") && run.stderr.contains("── contains the store\n"), warns);
        let found = if warns { "1 warning" } else { "nothing wrong" };
        assert!(run.stdout.ends_with(&format!("1 step: {found}\n")), "{store}: {run}");
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
        assert!(run.code == 0 && run.says("a build will be refused") && run.says(words), "{run}");
    }
}

also_with_runc! {
    a_bind_that_contains_the_store_shows_and_changes_nothing_of_it,
    a_store_below_other_directories_cannot_be_moved_out_of_its_cover,
    a_mount_below_the_source_of_a_bind_does_not_show_the_store,
    validate_warns_of_a_bind_that_contains_the_store,
    a_bind_that_contains_the_store_is_refused_where_another_container_may_mount,
}
