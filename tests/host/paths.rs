//! Host paths under attack: a step that can write to a directory of the host tries to see the store, or to have another
//! container, an image or an output use a file of the host that the manifest does not name.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use crate::built::{Built, project};
use crate::root::make_root;
use crate::store_in_bind::{built_after, compile_rename};

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
                "link" => "is a directory".to_owned(),
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
    paths_of_the_manifest_are_resolved_once_when_the_build_begins,
    set_uid_programs_and_devices_in_a_bind_or_cache_have_no_effect_unless_asked_for,
    a_file_that_the_build_writes_is_bound_in_its_new_state_by_any_path,
}
