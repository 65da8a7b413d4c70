//! Exports of files: their owners, what they leave out, what they replace, and how they come back from the store.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::built::{Built, project};
use crate::project::Project;

const MANIFEST: &str = r"
containers: { c: { rootfs: $TOOLS } }
steps:
  - name: make
    run: |
      mkdir -p /opt/sdk/bin /opt/sdk/share
      echo hello > /opt/sdk/bin/hello; chown 7:8 /opt/sdk/bin/hello; chmod 4755 /opt/sdk/bin/hello
      ln /opt/sdk/bin/hello /opt/sdk/bin/hard
      ln -s ../../../etc/passwd /opt/sdk/share/link; ln -s sdk /opt/current
      mkfifo /opt/sdk/fifo; mknod /opt/sdk/node c 1 3
      echo product > /opt/product
  - { name: tree, export: { format: files, path: /opt/current, output: out/sdk } }
  - { name: file, export: { format: files, path: /opt/product, output: out/product } }
";

fn fact<'e>(events: &'e [Value], step: &str, event: &str, key: &str) -> &'e Value {
    let is_it = |found: &&Value| found["event"] == event && found["step"] == step;
    &events.iter().find(is_it).unwrap_or_else(|| panic!("no {event} of {step}"))[key]
}

fn statuses(built: &Built) -> Vec<&str> {
    let of = |step| fact(&built.events, step, "step_finished", "status").as_str().unwrap();
    ["make", "tree", "file"].map(of).to_vec()
}

/// Returns each file of a directory: its path, mode, owner, and content or target.
fn files(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_dir() => {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
            kind if kind.is_file() => fs::read_to_string(&path).unwrap(),
            kind => format!("{kind:?}"),
        };
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let (mode, links) = (metadata.mode() & 0o7777, if metadata.is_dir() { 0 } else { metadata.nlink() });
        found.push(format!("{name} {mode:o} {}:{} {links} {}", metadata.uid(), metadata.gid(), content.trim()));
    }
    found.sort();
    found
}

#[test]
fn files_of_a_root_are_the_callers_and_give_no_rights_and_no_link_is_followed() {
    let project =
        project(&format!("{MANIFEST}  - {{ name: image, snapshot: {{ output: images/deep/it.squashfs }} }}\n"));
    let mut command = project.command(&["apply", "--progress", "plain"]);
    let output = command.env("SUDO_UID", "1234").env("SUDO_GID", "56").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(
        files(&project.path("out/sdk")),
        [
            " 755 1234:56 0 ",
            "bin 755 1234:56 0 ",
            "bin/hard 755 1234:56 2 hello",
            "bin/hello 755 1234:56 2 hello",
            "share 755 1234:56 0 ",
            "share/link 777 1234:56 1 -> ../../../etc/passwd",
        ]
    );
    assert_eq!(files(&project.path("out/product")), [" 644 1234:56 1 product"]);
    let owner = |name: &str| {
        let found = fs::metadata(project.path(name)).unwrap();
        (found.uid(), found.gid())
    };
    // The directories that were made for outputs are the caller's, and no others.
    assert_eq!(["out", "images", "images/deep"].map(owner), [(1234, 56); 3]);
    assert_eq!(owner(""), (0, 0));
    for expected in [
        "device nodes, fifos and sockets are not exported; 2 left out: /opt/current/",
        "set-uid and set-gid bits and file capabilities are not exported; 1 file or directory has none on the host: /opt/current/bin/h",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert_eq!(project.leftovers(0), Vec::<String>::new());
}

#[test]
fn a_removed_or_changed_output_comes_back_from_the_store_and_an_equal_one_is_not_touched() {
    let project = project(MANIFEST);
    assert_eq!(statuses(&Built::succeed(&project)), ["ran"; 3]);
    let before = (files(&project.path("out/sdk")), files(&project.path("out/product")));
    let identity = |name: &str| {
        let metadata = fs::metadata(project.path(name)).unwrap();
        (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    };
    let unchanged = [identity("out/sdk"), identity("out/product")];
    let built = Built::succeed(&project);
    assert_eq!(statuses(&built), ["cached"; 3]);
    assert_eq!(unchanged, [identity("out/sdk"), identity("out/product")]);
    assert_eq!(fact(&built.events, "tree", "export_written", "changed"), &Value::Bool(false));
    let changes: [&dyn Fn(); 4] = [
        &|| {
            fs::remove_dir_all(project.path("out/sdk")).unwrap();
            fs::remove_file(project.path("out/product")).unwrap();
        },
        &|| fs::remove_dir_all(project.path("out")).unwrap(),
        &|| {
            fs::write(project.path("out/sdk/bin/hello"), "other").unwrap();
            fs::write(project.path("out/product"), "other").unwrap();
        },
        &|| {
            fs::remove_file(project.path("out/sdk/share/link")).unwrap();
            fs::create_dir(project.path("out/sdk/share/link")).unwrap();
        },
    ];
    for (n, change) in changes.iter().enumerate() {
        change();
        let plan = project.runner(&["plan"]);
        let noted = |words: &str| plan.stdout.matches(words).count();
        let missing = noted("its output does not exist: the build writes it from the store");
        let changed = noted("its output is not as the build wrote it: the build writes it from the store");
        assert_eq!((missing, changed), [(2, 0), (2, 0), (0, 2), (0, 1)][n], "{plan}");
        // A plan makes no directory.
        assert_eq!(project.path("out").exists(), n != 1, "{plan}");
        let built = Built::succeed(&project);
        assert_eq!(statuses(&built), ["cached"; 3], "{n}");
        assert_eq!((files(&project.path("out/sdk")), files(&project.path("out/product"))), before, "{n}");
        assert_eq!(fact(&built.events, "tree", "export_written", "changed"), &Value::Bool(true));
    }
}

#[test]
fn only_a_directory_of_exported_files_is_replaced() {
    let project = project(MANIFEST);
    fs::create_dir_all(project.path("out/sdk")).unwrap();
    fs::write(project.path("out/sdk/notes"), "mine").unwrap();
    let refused = |project: &Project| {
        let run = project.runner(&["apply"]);
        assert_eq!(run.code, 2, "{run}");
        let message = "out/sdk: runner did not export notes there";
        assert!(run.stderr.contains(message) && run.stderr.contains("rm -r"), "{run}");
        assert_eq!(fs::read_to_string(project.path("out/sdk/notes")).unwrap(), "mine");
    };
    refused(&project);
    // An empty directory has nothing to lose.
    fs::remove_file(project.path("out/sdk/notes")).unwrap();
    Built::succeed(&project);
    fs::write(project.path("out/sdk/notes"), "mine").unwrap();
    refused(&project);
    fs::remove_file(project.path("out/sdk/notes")).unwrap();
    // Files that a step no longer makes are gone; those of the last export may be replaced.
    project.write(
        "build.yaml",
        &fs::read_to_string(project.path("build.yaml"))
            .unwrap()
            .replace("/bin/hard\n", "/bin/hard; rm /opt/sdk/bin/hard\n"),
    );
    Built::succeed(&project);
    assert!(project.path("out/sdk/bin/hello").exists() && !project.path("out/sdk/bin/hard").exists());
}

#[test]
fn a_directory_does_not_replace_a_file_nor_a_file_a_directory_and_no_link_is_followed() {
    let project = project(MANIFEST);
    fs::create_dir_all(project.path("out/product")).unwrap();
    fs::write(project.path("out/sdk"), "mine").unwrap();
    let run = project.runner(&["apply", "--keep-going"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stdout.contains("it is a file, and the export is a directory"), "{run}");
    assert_eq!(fs::read_to_string(project.path("out/sdk")).unwrap(), "mine");
    fs::remove_file(project.path("out/sdk")).unwrap();
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stdout.contains("it is a directory, and the export is a file"), "{run}");
    assert!(project.path("out/product").is_dir());
    // Their contents are stored already: nothing runs again.
    fs::remove_dir(project.path("out/product")).unwrap();
    assert_eq!(statuses(&Built::succeed(&project)), ["cached"; 3]);
    fs::remove_dir_all(project.path("out/sdk")).unwrap();
    fs::create_dir(project.path("elsewhere")).unwrap();
    symlink("../elsewhere", project.path("out/sdk")).unwrap();
    let run = project.runner(&["apply"]);
    assert!(run.code == 2 && run.stderr.contains("a symbolic link"), "{run}");
    assert!(project.path("elsewhere").read_dir().unwrap().next().is_none());
}

#[test]
fn an_export_of_layers_is_cached_apart_and_a_path_that_is_not_there_is_reported() {
    let manifest = r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: make, run: "echo one > /one; echo two > /two" }
  - { name: layer, snapshot: {} }
  - { name: one, export: { format: files, path: /one, output: out/one } }
  - { name: two, export: { format: files, path: /two, output: out/two } }
  - { name: test, run: "echo changed > /one; cat /two" }
"#;
    let project = project(manifest);
    Built::succeed(&project);
    assert_eq!(fs::read_to_string(project.path("out/one")).unwrap(), "one\n");
    let of = |built: &Built, steps: &[&str]| {
        let of = |step: &&str| fact(&built.events, step, "step_finished", "status").as_str().unwrap().to_owned();
        steps.iter().map(of).collect::<Vec<_>>()
    };
    let steps = ["make", "layer", "one", "two", "test"];
    assert_eq!(of(&Built::succeed(&project), &steps), ["cached", "cached", "cached", "cached", "ran"]);
    // Another export, its order, or another step makes none of the others run.
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("path: /two,", "path: /one,"));
    assert_eq!(of(&Built::succeed(&project), &steps), ["cached", "cached", "cached", "cached", "ran"]);
    assert_eq!(fs::read_to_string(project.path("out/two")).unwrap(), "one\n");
    let built = Built::of(&project, &["--target", "one"]);
    assert_eq!((of(&built, &["one"]), built.run.code), (vec!["cached".to_owned()], 0));
    project.write("build.yaml", &text.replace("path: /two,", "path: /usr/none/x,"));
    let built = Built::of(&project, &[]);
    assert_eq!(of(&built, &steps), ["cached", "cached", "cached", "failed", "skipped"]);
    let reason = fact(&built.events, "two", "step_finished", "reason").as_str().unwrap();
    assert_eq!(
        (built.run.code, reason.starts_with("the root has no /usr/none/x: /usr/none does not exist there")),
        (1, true),
        "{reason}"
    );
}

#[test]
fn an_export_of_layers_is_fresh_whatever_the_mounts_of_its_container_show() {
    let project = project(
        r#"
containers:
  a: { rootfs: $TOOLS }
  b: { rootfs: $TOOLS }
  c:
    rootfs: { snapshot: layer }
    mounts:
      - { type: snapshot, step: other, target: /mnt/other }
      - { type: bind, source: in, target: /mnt/in, options: [ro] }
      - { type: bind, source: w, target: /mnt/w }
steps:
  - { name: make, container: a, run: "echo one > /one" }
  - { name: layer, container: a, snapshot: {} }
  - { name: unlike, container: b, run: "echo first > /file" }
  - { name: other, container: b, snapshot: {} }
  - { name: one, container: c, export: { format: files, path: /one, output: out/one } }
"#,
    );
    project.write("in/file", "first");
    project.write("w/file", "first");
    Built::succeed(&project);
    assert_eq!(fs::read_to_string(project.path("out/one")).unwrap(), "one\n");
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("first > /file", "second > /file"));
    project.write("in/file", "second");
    let plan: Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
    let fresh: Vec<(&str, bool)> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["name"].as_str().unwrap(), step["fresh"].as_bool().unwrap()))
        .collect();
    assert_eq!(fresh, [("make", true), ("layer", true), ("unlike", false), ("other", false), ("one", true)]);
    let built = Built::succeed(&project);
    let of = |step| fact(&built.events, step, "step_finished", "status").as_str().unwrap();
    assert_eq!(["layer", "unlike", "other", "one"].map(of), ["cached", "ran", "ran", "cached"]);
}

#[test]
fn a_verification_compares_exports() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: make, run: "mkdir /d; echo same > /d/same; cat /proc/sys/kernel/random/uuid > /d/other; echo same > /same" }
  - { name: tree, export: { format: files, path: /d, output: out/d } }
  - { name: file, export: { format: files, path: /same, output: out/same } }
"#,
    );
    Built::succeed(&project);
    let run = project.runner(&["verify"]);
    assert_eq!(run.code, 4, "{run}");
    assert!(run.stdout.contains("file: the same, sha256:"), "{run}");
    assert!(run.stdout.contains("tree: expected sha256:") && run.stdout.contains("~ /other"), "{run}");
    assert!(!run.stdout.contains("~ /same"), "{run}");
}

#[test]
fn an_export_that_no_record_names_is_collected_and_a_damaged_one_is_found() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let exports = project.store().join("exports/sha256");
    let count = || fs::read_dir(&exports).unwrap().count();
    assert_eq!(count(), 2);
    for export in fs::read_dir(&exports).unwrap() {
        let path = export.unwrap().path();
        if fs::read(&path).unwrap() == b"product\n" {
            fs::remove_file(&path).unwrap();
            fs::write(&path, "PRODUCT\n").unwrap();
        }
    }
    let run = project.runner(&["store", "verify"]);
    assert!(run.code == 4 && run.stdout.contains("damaged: export sha256:"), "{run}");
    assert_eq!(count(), 1);
    assert_eq!(statuses(&Built::succeed(&project)), ["ran"; 3]);
    assert_eq!(project.runner(&["store", "verify"]).code, 0);
    project.script("find store/keys store/exports -type f -exec touch -d '40 days ago' {} +");
    let run = project.runner(&["store", "gc"]);
    assert_eq!((run.code, count()), (0, 0), "{run}");
}

also_with_runc! {
    files_of_a_root_are_the_callers_and_give_no_rights_and_no_link_is_followed,
}

#[test]
fn a_plan_names_the_output_of_a_snapshot_or_an_export_that_the_build_writes_again() {
    let project = project(
        r"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: make, run: 'echo product > /product' }
  - { name: image, snapshot: { output: out/image.squashfs } }
  - { name: file, export: { format: files, path: /product, output: out/product } }
",
    );
    let states = || {
        let run = project.runner(&["plan", "--json"]);
        let plan: Value = serde_json::from_str(&run.stdout).unwrap();
        let of = |step: &Value| {
            let state = step["output_state"].as_str().unwrap_or("same").to_owned();
            assert_eq!(step["writes_output"].as_bool().unwrap_or(false), state != "same", "{run}");
            state
        };
        plan["steps"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(states(), ["same"; 3], "a step that runs writes its output anyway");
    Built::succeed(&project);
    assert_eq!(states(), ["same"; 3]);
    let restores = |expected: [&str; 2], changed: bool| {
        assert_eq!(states()[1..], expected);
        let built = Built::succeed(&project);
        assert_eq!(built.status("image"), "cached");
        assert_eq!(fact(&built.events, "file", "export_written", "changed"), &Value::Bool(changed));
        assert_eq!(states(), ["same"; 3]);
    };
    fs::remove_dir_all(project.path("out")).unwrap();
    restores(["missing"; 2], true);
    fs::write(project.path("out/image.squashfs"), "other").unwrap();
    restores(["changed", "same"], false);
    fs::write(project.path("out/product"), "another").unwrap();
    restores(["same", "changed"], true);
    // The content is the same, and the rights are not.
    project.script("chmod 600 out/product");
    restores(["same", "changed"], true);
    assert_eq!(project.script("stat -c %a out/product"), "644\n");
}

#[test]
fn a_collection_for_space_counts_exports_and_removes_those_used_longest_ago() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: fill, run: "head -c 3000000 /dev/urandom > /file" }
  - { name: layer, snapshot: {} }
  - { name: one, export: { format: files, path: /file, output: one } }
"#,
    );
    project.apply();
    let exports = || project.script("ls store/exports/sha256 | wc -l").trim().to_owned();
    assert!(project.runner(&["store", "ls"]).stdout.contains("; exports, 2.9 MiB"));
    assert!(project.runner(&["store", "gc", "--max-size", "7MB"]).stdout.contains("nothing to remove"));
    assert_eq!(exports(), "1");
    let run = project.runner(&["store", "gc", "--max-size", "1"]);
    assert!(run.code == 0 && run.stdout.contains("export"), "{run}");
    assert_eq!(exports(), "0");
    // The next build makes it again.
    project.script("rm one");
    project.apply();
    assert_eq!((exports().as_str(), project.path("one").exists()), ("1", true));
}
