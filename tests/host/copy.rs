//! Steps that copy files from a snapshot or from the host into a container's root.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::built::{Built, Running, names_in, project, wait_for};
use crate::project::Project;

also_with_runc! {
    files_of_a_snapshot_come_into_another_root_with_all_their_attributes,
    a_copy_between_two_steps_is_seen_by_the_second,
}

/// An SDK that makes two files, and a product with one of them.
const CHAIN: &str = r#"
containers: { sdk: { rootfs: $TOOLS }, product: { rootfs: { scratch: true } } }
steps:
  - { name: make, container: sdk, run: "mkdir -p /opt/out /usr/share/doc; echo tool > /opt/out/tool; echo doc > /usr/share/doc/d" }
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: files, container: product, copy: { from: sdk, source: /opt/out, target: /opt/tool } }
  - { name: product, container: product, snapshot: { output: product.squashfs } }
"#;

/// Builds, and returns the statuses of the steps `files` and `product`.
#[track_caller]
fn statuses(project: &Project) -> (Built, [String; 2]) {
    let built = Built::succeed(project);
    let of = |step| built.status(step).to_owned();
    let statuses = [of("files"), of("product")];
    (built, statuses)
}

fn change(project: &Project, manifest: &str, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    assert!(text.contains(from), "{manifest}");
    project.write("build.yaml", &text.replace(from, to));
}

#[test]
fn files_of_a_snapshot_come_into_another_root_with_all_their_attributes() {
    let project = project(
        r#"
containers: { sdk: { rootfs: $TOOLS }, product: { rootfs: $TOOLS } }
steps:
  - name: make
    container: sdk
    run: |
      mkdir -p /opt/a/sub; echo one > /opt/a/one; ln /opt/a/one /opt/a/two; ln -s one /opt/a/link; mkfifo /opt/a/fifo
      chown 7:8 /opt/a/one; chmod 4751 /opt/a/one; chmod 1777 /opt/a/sub; touch -d @86400 /opt/a/sub
      dd if=/dev/zero of=/opt/a/hole bs=1 count=0 seek=64M 2> /dev/null
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: tree, container: product, copy: { from: sdk, source: /opt/a, target: /opt/b } }
  - { name: into, container: product, copy: { from: sdk, source: [/opt/a/one, /opt/a/two, /opt/a/sub], target: /new/dir } }
  - { name: owned, container: product, copy: { from: sdk, source: /opt/a/one, target: /owned/one, owner: "5:6", mode: "0600" } }
  - name: look
    container: product
    run: |
      cd /opt/b; stat -c '%n %A %u:%g %h %Y' one two link fifo sub; stat -c '%n %s %b' hole
      cd /new/dir; stat -c '%n %A %u:%g %h' one two sub; stat -c '%A %u:%g' /owned/one /owned
"#,
    );
    let built = Built::succeed(&project);
    let epoch = 315_532_800;
    let lines = built.lines("look");
    assert_eq!(
        lines,
        [
            &format!("one -rwsr-x--x 7:8 2 {epoch}"),
            &format!("two -rwsr-x--x 7:8 2 {epoch}"),
            &format!("link lrwxrwxrwx 0:0 1 {epoch}"),
            &format!("fifo prw-r--r-- 0:0 1 {epoch}"),
            "sub drwxrwxrwt 0:0 2 86400",
            "hole 67108864 0",
            "one -rwsr-x--x 7:8 2",
            "two -rwsr-x--x 7:8 2",
            "sub drwxrwxrwt 0:0 2",
            "-rw------- 5:6",
            "drwxr-xr-x 5:6",
        ]
    );
    assert_eq!(built.text("into"), "copied 2 files, 4 bytes\n");
    assert!(!project.store().join("sources").exists(), "steps without a key have no file read for it");
}

#[test]
fn a_copy_between_two_steps_is_seen_by_the_second() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: before, run: "mkdir -p /usr/lib /etc; ln -s usr/lib /lib2; echo app:x:77:78::/:/bin/sh > /etc/passwd; echo old > /usr/lib/conf" }
  - { name: conf, copy: { from: host, source: conf, target: /lib2/, owner: app } }
  - { name: tree, copy: { from: host, source: tree, target: / } }
  - { name: after, run: "cat /usr/lib/conf /tree-file; stat -c %u:%g /usr/lib/conf /tree-file; ls -a /sub" }
"#,
    );
    project.write("conf", "new\n");
    project.write("tree/tree-file", "tree\n");
    project.write("tree/sub/kept", "");
    project.write("tree/sub/left.o", "");
    project.write("tree/.runnerignore", "*.o\n.runnerignore\n");
    let built = Built::succeed(&project);
    assert_eq!(built.lines("after"), ["new", "tree", "77:78", "0:0", ".", "..", "kept"]);
}

#[test]
fn a_product_is_cached_unless_the_files_that_it_copies_change() {
    let project = project(CHAIN);
    assert_eq!(statuses(&project).1, ["ran", "ran"]);
    assert_eq!(names_in(&project.path("product.squashfs")), ["/opt/tool/tool"]);
    assert_eq!(statuses(&project).1, ["cached", "cached"]);
    // The SDK changed elsewhere.
    change(&project, CHAIN, "echo doc >", "echo other >");
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("maybe  copy: sdk:/opt/out → /opt/tool"), "{plan}");
    assert!(plan.stdout.contains("runs if the files that it takes from sdk have changed"), "{plan}");
    let (built, found) = statuses(&project);
    assert_eq!((built.status("sdk"), found), ("ran", ["cached".to_owned(), "cached".to_owned()]));
    // In the files themselves.
    change(&project, CHAIN, "echo tool >", "echo better >");
    let (built, found) = statuses(&project);
    assert_eq!(found, ["ran", "ran"]);
    let started = built.all("step_started").into_iter().find(|event| event["step"] == "files").unwrap().to_string();
    assert!(started.contains(r#""source":"sdk:/opt/out""#) && started.contains("tool"), "{started}");
}

#[test]
fn a_file_that_the_sdk_stops_making_is_gone_from_the_product() {
    let project =
        project(&CHAIN.replace("echo tool > /opt/out/tool;", "echo tool > /opt/out/tool; echo x > /opt/out/extra;"));
    Built::succeed(&project);
    assert!(names_in(&project.path("product.squashfs")).contains(&"/opt/tool/extra".to_owned()));
    change(&project, CHAIN, " echo x > /opt/out/extra;", "");
    assert_eq!(statuses(&project).1, ["ran", "ran"]);
    assert!(!names_in(&project.path("product.squashfs")).contains(&"/opt/tool/extra".to_owned()));
}

#[test]
fn a_changed_file_of_the_host_is_named_and_its_owner_there_does_not_count() {
    let project = project(
        "containers: { c: { rootfs: { scratch: true } } }
steps:
  - { name: files, copy: { from: host, source: tree, target: /tree } }
  - { name: product, snapshot: { output: product.squashfs } }
",
    );
    project.write("tree/a", "a");
    project.write("tree/b", "b");
    statuses(&project);
    std::os::unix::fs::chown(project.path("tree/a"), Some(1000), Some(1000)).unwrap();
    assert_eq!(statuses(&project).1, ["cached", "cached"]);
    project.write("tree/b", "c");
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("the content of tree, which files copies, changed: b (content)"), "{plan}");
    assert_eq!(statuses(&project).1, ["ran", "ran"]);
    let image = project.path("product.squashfs");
    assert_eq!(names_in(&image), ["/tree/a", "/tree/b"]);
}

#[test]
fn a_missing_source_and_a_wrong_place_fail_the_step_with_the_cause_and_the_fix() {
    let project = project(&CHAIN.replace("source: /opt/out,", "source: /opt/uot/tool,"));
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    assert_eq!(
        built.reason("files"),
        "there is no /opt/uot/tool in the root at sdk: /opt is the last part of it that exists; write a path that the root \
         has; `runner shell sdk` shows it"
    );
    // A failure is not cached.
    assert_eq!(Built::of(&project, &[]).status("files"), "failed");
    change(&project, "", "/opt/uot/tool", "/opt/out");
    assert_eq!(statuses(&project).1, ["ran", "ran"]);
    change(&project, "", "target: /opt/tool }", "target: /opt/tool/tool/x, owner: nobody }");
    let built = Built::of(&project, &[]);
    assert!(
        built.reason("files").starts_with("cannot look up the user: user nobody is not in /etc/passwd of the rootfs"),
        "{}",
        built.run
    );
}

#[test]
fn hostile_links_on_both_sides_lead_nowhere_outside() {
    let project = project(
        r#"
containers: { sdk: { rootfs: $TOOLS }, product: { rootfs: $TOOLS } }
steps:
  - { name: make, container: sdk, run: "mkdir /o; ln -s /../../../../../../etc/shadow /o/shadow; ln -s ../../../../../.. /o/up; ln -s /proc/self/root /o/root" }
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: prepare, container: product, run: "ln -s /../../../../../../../$HOST /out; ln -s ../../../.. /up" }
  - { name: links, container: product, copy: { from: sdk, source: /o, target: /o } }
  - { name: write, container: product, copy: { from: sdk, source: /o, target: /out/in } }
  - { name: look, container: product, run: "ls -l /o; ls $HOST/in" }
  - { name: read, container: product, copy: { from: sdk, source: /o/up/root/etc/hostname, target: /x } }
"#,
    );
    let outside = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("$HOST", outside.path().to_str().unwrap()));
    let built = Built::of(&project, &[]);
    assert_eq!(built.status("look"), "ran", "{}", built.run);
    assert!(built.text("look").contains("shadow -> /../../../../../../etc/shadow"), "{}", built.run);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing is written on the host");
    assert!(built.reason("read").starts_with("there is no /o/up/root/etc/hostname"), "{}", built.run);
}

#[test]
fn a_host_file_that_changes_while_the_build_runs_is_in_no_stored_result() {
    let project = project(
        r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [{ type: bind, source: gate, target: /gate, cache: ignore }] } }
steps:
  - { name: files, copy: { from: host, source: conf, target: /conf } }
  - { name: wait, run: "touch /gate/in; while ! [ -e /gate/go ]; do sleep 0.01; done" }
  - { name: product, snapshot: {} }
"#,
    );
    fs::create_dir(project.path("gate")).unwrap();
    project.write("conf", "old");
    let running = Running::start(&project, &[]);
    wait_for("the step", || project.path("gate/in").exists().then_some(()));
    project.write("conf", "new");
    project.write("gate/go", "");
    let built = running.end();
    assert_eq!(built.run.code, 0, "{}", built.run);
    let warning = built.all("warning").into_iter().map(ToString::to_string).collect::<String>();
    assert!(warning.contains("conf"), "{}", built.run);
    assert_eq!(statuses(&project).1, ["ran", "ran"]);
}

#[test]
fn an_interrupted_copy_leaves_nothing_and_the_next_build_is_whole() {
    let project = project(
        &CHAIN.replace("echo tool > /opt/out/tool", "dd if=/dev/urandom of=/opt/out/tool bs=1M count=200 2> /dev/null"),
    );
    let mut command = project.command(&["apply", "--target", "sdk"]);
    assert!(command.status().unwrap().success());
    for delay in [0.05, 0.2, 0.4] {
        let mut child = project.spawn(&["apply"]);
        std::thread::sleep(std::time::Duration::from_secs_f64(delay));
        let _ = child.kill();
        let _ = child.wait();
    }
    let built = Built::succeed(&project);
    assert!(["ran", "cached"].contains(&built.status("product")), "{}", built.run);
    let image = project.path("product.squashfs");
    assert!(fs::metadata(&image).unwrap().size() > 200 << 20);
}

#[test]
fn a_plan_a_graph_and_a_lock_show_and_take_a_copy() {
    let project = project(CHAIN);
    let plan: serde_json::Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
    let files = plan["steps"].as_array().unwrap().iter().find(|step| step["name"] == "files").unwrap().clone();
    assert_eq!(
        (&files["action"], &files["from"], &files["needs"]),
        (&"copy".into(), &"sdk".into(), &serde_json::json!(["sdk"]))
    );
    assert_eq!(files["files_of"], serde_json::json!(["sdk"]));
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("copy: sdk:/opt/out → /opt/tool  (files of 2)"), "{plan}");
    let graph = project.runner(&["graph", "--format", "mermaid"]);
    assert!(graph.stdout.contains("s1 -.->|\"files\"| s2"), "{graph}");
    project.apply();
    for arguments in [&["lock"][..], &["apply", "--locked"], &["verify"]] {
        let run = project.runner(arguments);
        assert_eq!(run.code, 0, "{run}");
    }
}

#[test]
fn a_product_waits_for_the_snapshot_and_no_other_step_of_the_sdk() {
    let project = project(
        &CHAIN.replace("  - { name: files", "  - { name: later, container: sdk, run: 'exit 1' }\n  - { name: files"),
    );
    let built = Built::of(&project, &["--keep-going"]);
    assert_eq!((built.run.code, built.status("product"), built.status("later")), (1, "ran", "failed"), "{}", built.run);
    let built = Built::of(&project, &["--target", "product"]);
    assert_eq!((built.run.code, built.status("product")), (0, "cached"), "{}", built.run);
    // Without the snapshot nothing of the product runs.
    change(&project, CHAIN, "echo tool > /opt/out/tool;", "exit 3;");
    let built = Built::of(&project, &["--keep-going"]);
    assert_eq!(
        (built.status("make"), built.status("files"), built.status("product")),
        ("failed", "skipped", "skipped")
    );
}

#[test]
fn a_container_copies_from_its_own_earlier_snapshot() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: make, run: "echo x > /x" }
  - { name: first, snapshot: {} }
  - { name: remove, run: "rm /x" }
  - { name: back, copy: { from: first, source: /x, target: /y } }
  - { name: look, run: "cat /y; ! test -e /x" }
  - { name: second, snapshot: { output: second.squashfs } }
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["x"]);
    assert_eq!(Built::succeed(&project).status("second"), "cached");
}

#[test]
fn an_output_among_the_copied_files_is_named_with_the_rules_that_exclude_it() {
    let project = project(
        "containers: { c: { rootfs: { scratch: true } } }
steps:
  - { name: files, copy: { from: host, source: tree, target: /tree } }
  - { name: product, snapshot: { output: tree/out.squashfs } }
",
    );
    project.write("tree/a", "a");
    let built = Built::succeed(&project);
    let warnings: String = built.all("warning").into_iter().map(ToString::to_string).collect();
    assert!(warnings.contains("tree/out.squashfs") && warnings.contains("tree/.runnerignore"), "{}", built.run);
    project.write("tree/.runnerignore", "/out.squashfs\n");
    Built::succeed(&project);
    let built = Built::succeed(&project);
    assert_eq!(built.status("product"), "cached");
    assert_eq!(names_in(&project.path("tree/out.squashfs")), ["/tree/.runnerignore", "/tree/a"]);
}

#[test]
fn a_copy_that_finds_no_room_names_the_full_place() {
    let project = project(
        "containers: { c: { rootfs: { scratch: true }, scratch: { tmpfs: 1MiB } } }
steps:
  - { name: files, copy: { from: host, source: large, target: /large } }
",
    );
    fs::write(project.path("large"), vec![1; 3 << 20]).unwrap();
    let built = Built::of(&project, &[]);
    let reason = built.reason("files");
    assert!(reason.starts_with("cannot copy to /large: No space left on device"), "{reason}");
    assert!(reason.contains("the scratch of the container, where changes live, is full"), "{reason}");
}

#[test]
fn a_plan_says_maybe_of_all_that_depends_on_files_which_may_be_the_same() {
    let project = project(
        r#"
containers:
  sdk: { rootfs: $TOOLS, mounts: [{ type: bind, source: src, target: /src, options: [ro] }] }
  product: { rootfs: { scratch: true } }
steps:
  - { name: make, container: sdk, run: "cp /src/copied /src/other /" }
  - { name: layer, container: sdk, snapshot: {} }
  - { name: take, container: product, copy: { from: layer, source: /copied, target: / } }
  - { name: image, container: product, snapshot: {} }
  - { name: archive, container: product, export: { format: tar, output: out.tar } }
"#,
    );
    project.write("src/copied", "one");
    project.write("src/other", "one");
    Built::succeed(&project);
    project.write("src/other", "two");
    let plan = project.runner(&["plan", "--json"]).stdout;
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let reasons = |name: &str| {
        let step = plan["steps"].as_array().unwrap().iter().find(|step| step["name"] == name).unwrap();
        step["reasons"].as_array().unwrap().iter().map(|reason| reason["kind"].as_str().unwrap().to_owned()).collect()
    };
    let kinds: Vec<Vec<String>> = ["take", "image", "archive"].map(reasons).into();
    assert_eq!(kinds, [["source_may_change"], ["source_may_change"], ["below_may_change"]]);
    let built = Built::succeed(&project);
    assert_eq!(["take", "image", "archive"].map(|step| built.status(step).to_owned()), ["cached"; 3]);
}
