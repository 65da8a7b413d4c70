//! `runner store`: lists, shows and removes the results of builds.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use runner::digest::Digest;
use runner::store::Store;
use serde_json::Value;

use crate::built::{TOOLS, project};
use crate::project::{Project, Run};

const MANIFEST: &str = r#"
name: demo
containers:
  base: { rootfs: $TOOLS }
  app: { rootfs: { snapshot: base-layer } }
steps:
  - { name: greet, container: base, run: "mkdir -p /data/kept; echo hello > /data/greeting; echo gone > /data/gone" }
  - { name: base-layer, container: base, snapshot: { output: out/base.squashfs } }
  - name: sign
    container: app
    run: |
      rm -r /data/kept /data/gone; mkdir /data/kept
      chmod 600 /data/greeting
  - { name: app-layer, container: app, snapshot: { output: out/app.squashfs } }
"#;

/// Returns a project that was built.
fn built() -> Project {
    let project = project(MANIFEST);
    project.apply();
    project
}

fn store(project: &Project, arguments: &[&str]) -> Run {
    project.runner(&[&["store"], arguments].concat())
}

#[track_caller]
fn json(project: &Project, arguments: &[&str]) -> Value {
    let run = store(project, arguments);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
    serde_json::from_str(&run.stdout).unwrap()
}

/// Returns the layer of a step, and its file.
#[track_caller]
fn layer(project: &Project, step: &str) -> (Digest, PathBuf) {
    let json = json(project, &["inspect", step, "--json"]);
    (json["digest"].as_str().unwrap().parse().unwrap(), json["path"].as_str().unwrap().into())
}

/// Changes one byte in the middle of a file.
fn damage(path: &PathBuf) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(100)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(100)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn commands_that_only_read_a_store_make_none() {
    let project = project(MANIFEST);
    for (arguments, code, text) in [
        (&["ls"][..], 0, "no layers in "),
        (&["ls", "--json"], 0, "\"layers\": []"),
        (&["ls", "--caches"], 0, "no caches in "),
        (&["gc", "--caches"], 0, "nothing to remove\n"),
        (&["verify"], 0, "0 layers read: nothing wrong\n"),
        (&["gc"], 0, "nothing to remove\n"),
        (&["inspect", "base"], 2, "there is no store at "),
        (&["export", "base", "file"], 2, "there is no store at "),
        (&["diff", "base", "base"], 2, "there is no store at "),
    ] {
        let run = store(&project, arguments);
        assert_eq!(run.code, code, "{arguments:?}: {run}");
        assert!(run.stdout.contains(text) || run.stderr.contains(text), "{arguments:?}: {run}");
    }
    assert!(!project.store().exists());
}

#[test]
fn layers_are_listed_with_their_steps_and_the_layers_below() {
    let project = built();
    let list = json(&project, &["ls", "--json"]);
    assert_eq!(list["layers"].as_array().unwrap().len(), 2);
    let (base, base_file) = layer(&project, "base-layer");
    let (app, _) = layer(&project, "demo/app-layer");
    assert_eq!(fs::read(&base_file).unwrap(), fs::read(project.path("out/base.squashfs")).unwrap());
    assert_eq!(layer(&project, &app.hex()[..10]).0, app);

    let run = store(&project, &["ls"]);
    let rows: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = rows.iter().find(|row| row.contains(&"demo/base/base-layer")).unwrap();
    // The base comes first.
    assert_eq!(&rows[1], row, "{run}");
    assert_eq!(row[..3], [&base.hex()[..12], "4.0", "KiB"], "{run}");
    assert!(row.ends_with(&["1", "layer", "above"]) && run.stdout.ends_with("2 layers, 8.0 KiB\n"), "{run}");

    let inspected = json(&project, &["inspect", "app-layer", "--json"]);
    let built = &inspected["built"][0];
    assert_eq!(built["steps"], serde_json::json!(["sign", "app-layer"]));
    assert_eq!(built["below"], serde_json::json!([base.to_string()]));
    assert_eq!(built["fields"]["hostname"], "app");
    assert_eq!((&inspected["size"], &built["container"]), (&4096.into(), &"app".into()));
    let run = store(&project, &["inspect", "app-layer"]);
    for text in [
        &format!("layer       {app}\n"),
        "\nbuilt by    demo/app/app-layer\n",
        &format!("\nbuilt on    {base}  demo/base/base-layer\n"),
        "\nkey         sha256:",
        "\n  step/00000/run = rm -r /data/kept /data/gone; mkdir /data/kept\n                 | chmod 600 /data/greeting\n",
    ] {
        assert!(run.stdout.contains(text), "{text:?}: {run}");
    }

    let run = store(&project, &["inspect", "bsae-layer"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
    assert!(run.stderr.contains("cannot find the layer `bsae-layer`") && run.stderr.contains("`base-layer`?"), "{run}");
}

#[test]
fn store_diff_shows_the_differences_of_two_images_and_leaves_nothing_mounted() {
    let project = built();
    let run = store(&project, &["diff", "base-layer", "app-layer"]);
    assert_eq!(run.code, 0, "{run}");
    let lines: Vec<&str> = run.stdout.lines().collect();
    let expected = [
        "~ /data/gone  type: file → removal of what is below",
        "~ /data/greeting  mode: 0644 → 0600",
        "~ /data/kept  now replaces the folder below",
        "3 files differ",
    ];
    assert_eq!(lines, expected, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let json = json(&project, &["diff", "base-layer", "out/app.squashfs", "--json"]);
    assert_eq!(json["differences"][1]["aspects"][0]["aspect"], "mode");
    // A layer and its output, by a path without a slash.
    fs::copy(project.path("out/base.squashfs"), project.path("copy")).unwrap();
    let run = store(&project, &["diff", "copy", "base-layer"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "nothing differs\n"), "{run}");
    let run = store(&project, &["diff", "base-layer", "nothing"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("the layer `nothing` in the store, and `nothing` is not a file"), "{run}");
    let run = store(&project, &["diff", "./build.yaml", "base-layer"]);
    assert_eq!(run.code, 3, "{run}");
    assert!(run.stderr.contains("./build.yaml is neither a squashfs nor an EROFS image"), "{run}");
}

#[test]
fn a_layer_is_exported_whole_or_not_at_all() {
    let project = built();
    let run = store(&project, &["export", "base-layer", "new/copy.squashfs"]);
    assert_eq!(run.code, 0, "{run}");
    let copy = fs::read(project.path("new/copy.squashfs")).unwrap();
    assert_eq!(copy, fs::read(project.path("out/base.squashfs")).unwrap());
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let script = "exec \"$@\" > streamed";
    let run = project.runner_in_shell(script, &["store", "export", "base-layer", "/dev/stdout"]);
    assert!(run.code == 0 && run.stderr.starts_with("wrote /dev/stdout ("), "{run}");
    assert_eq!(fs::read(project.path("streamed")).unwrap(), copy);
    let run = project.runner_in_shell("exec \"$@\" > piped", &["store", "export", "base-layer", "-"]);
    assert!(run.code == 0 && run.stderr.starts_with("wrote standard output ("), "{run}");
    assert_eq!(fs::read(project.path("piped")).unwrap(), copy);
    assert!(!project.path("-").exists());
    let run = project.runner_in_shell("exec \"$@\" > /dev/full", &["store", "export", "base-layer", "-"]);
    assert!(run.code == 3 && run.stderr.contains("cannot write to standard output: No space left"), "{run}");
    let run = store(&project, &["export", "base-layer", "./-"]);
    assert!(run.code == 0 && project.path("-").exists(), "{run}");
    damage(&layer(&project, "base-layer").1);
    let run = store(&project, &["export", "base-layer", "new/copy.squashfs"]);
    assert_eq!(run.code, 4, "{run}");
    assert!(run.stderr.contains("is damaged") && run.stderr.contains("runner store verify"), "{run}");
    assert_eq!(fs::read(project.path("new/copy.squashfs")).unwrap(), copy);
}

#[test]
fn a_damaged_layer_is_found_moved_aside_and_built_again() {
    let project = built();
    let run = store(&project, &["verify"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "2 layers read: nothing wrong\n"), "{run}");
    let (digest, path) = layer(&project, "base-layer");
    damage(&path);
    let run = store(&project, &["verify"]);
    assert_eq!(run.code, 4, "{run}");
    assert!(run.stdout.contains(&format!("damaged: layer {digest} (demo/base-layer), set aside as ")), "{run}");
    assert!(!path.exists());
    let run = store(&project, &["verify", "--json"]);
    assert_eq!(run.code, 0, "{run}");
    project.apply();
    assert_eq!(layer(&project, "base-layer"), (digest, path));
    assert_eq!(store(&project, &["verify"]).code, 0);
}

#[test]
fn gc_removes_layers_that_are_not_needed_and_nothing_with_dry_run() {
    let project = built();
    let (base, _) = layer(&project, "base-layer");
    let run = store(&project, &["gc"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "nothing to remove\n"), "{run}");
    let dry = json(&project, &["gc", "--max-size", "4KiB", "--dry-run", "--json"]);
    let steps: Vec<&str> =
        dry["would_remove"].as_array().unwrap().iter().map(|e| e["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["demo/app-layer"]);
    assert_eq!(json(&project, &["ls", "--json"])["layers"].as_array().unwrap().len(), 2);
    let run = store(&project, &["gc", "--max-size", "4KiB"]);
    assert_eq!(run.code, 0, "{run}");
    assert!(run.stdout.contains(" of demo/app-layer (4.0 KiB): to free space, last used "), "{run}");
    assert!(run.stdout.ends_with("removed 1 layer, 4.0 KiB\n"), "{run}");
    assert_eq!(json(&project, &["ls", "--json"])["layers"][0]["digest"], base.to_string());
    project.apply();
    assert_eq!(json(&project, &["ls", "--json"])["layers"].as_array().unwrap().len(), 2);

    // A layer that is in use, or named by a lock file, stays with the layers that it is built on.
    let (app, _) = layer(&project, "app-layer");
    let opened = Store::open(&project.store()).unwrap();
    let held = opened.pin_layer(&app).unwrap().unwrap();
    assert_eq!(json(&project, &["inspect", "app-layer", "--json"])["kept_by"]["running_build"], true);
    let run = store(&project, &["gc", "--max-size", "0"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "nothing to remove\n"), "{run}");
    drop(held);
    project.write("runner.lock", &format!("[[snapshot]]\ndigest = '{base}'\n"));
    let run = store(&project, &["gc", "--max-size", "0", "--keep-lock", "runner.lock", "--dry-run"]);
    assert!(run.stdout.ends_with("would remove 1 layer, 4.0 KiB\n"), "{run}");
    opened.know_lock_file(&project.path("runner.lock")).unwrap();
    let run = store(&project, &["gc", "--max-size", "0"]);
    assert!(run.stdout.ends_with("removed 1 layer, 4.0 KiB\n"), "{run}");
    project.write("runner.lock", "snapshot = [");
    let run = store(&project, &["gc", "--max-size", "0"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("cannot understand the lock file"), "{run}");
    assert_eq!(store(&project, &["gc", "--keep-lock", "none.lock"]).code, 2);
    // A layer is listed even if the reason that it stays cannot be found out.
    let run = store(&project, &["ls"]);
    assert!(run.code == 0 && run.stdout.contains("demo/base/base-layer") && run.stderr.contains("warning: "), "{run}");
    fs::remove_file(project.path("runner.lock")).unwrap();
    let run = store(&project, &["gc", "--keep-days", "0"]);
    assert!(run.stdout.contains("removed 1 layer and "), "{run}");
    assert_eq!(json(&project, &["ls", "--json"])["size"], 0);
    project.apply();
}

#[test]
fn of_several_bases_of_an_equal_product_gc_leaves_the_one_used_last() {
    let text = MANIFEST.replace("echo hello", "echo VERSION");
    let text = text.replace(
        "rm -r /data/kept /data/gone; mkdir /data/kept\n      chmod 600 /data/greeting",
        "echo same > /product",
    );
    let project = project(&text);
    for version in 1..=4 {
        project.write(
            "build.yaml",
            &format!("version: 1\n{}", text.replace("VERSION", &version.to_string()).replace("$TOOLS", TOOLS)),
        );
        project.apply();
    }
    let (base, _) = layer(&project, "base-layer");
    let listed = json(&project, &["ls", "--json"]);
    assert_eq!(listed["layers"].as_array().unwrap().len(), 5, "{listed}");
    let run = store(&project, &["gc", "--max-size", "8KiB"]);
    assert!(run.stdout.ends_with("removed 3 layers, 12.0 KiB\n"), "{run}");
    assert_eq!(layer(&project, "base-layer").0, base);
    let again = project.events(&["--target", "app-layer"]).0;
    let cached = again.iter().filter(|event| event["status"] == "cached").count();
    assert_eq!(cached, 4, "{again:?}");
}

/// Runs with the store on a read-only mount.
fn read_only(project: &Project, arguments: &[&str]) -> Run {
    let mounts = "store=$RUNNER_STORE; mount --bind $store $store && mount -o remount,bind,ro $store && exec \"$@\"";
    project.runner_in_shell(&format!("exec unshare -m sh -c '{mounts}' sh \"$@\""), arguments)
}

#[test]
fn a_build_whose_results_are_all_stored_works_on_a_read_only_store() {
    let project = built();
    let outputs = ["out/base.squashfs", "out/app.squashfs"].map(|name| project.path(name));
    let written = outputs.each_ref().map(|path| fs::read(path).unwrap());
    // As in a checkout on another machine: it has none of the outputs, and one is another file by now.
    fs::remove_file(&outputs[0]).unwrap();
    fs::write(&outputs[1], "old").unwrap();
    project.write("runner.lock", "");
    let plan = read_only(&project, &["plan"]);
    assert!(plan.code == 0 && !plan.stdout.contains("runs"), "{plan}");
    for _ in 0..2 {
        let run = read_only(&project, &["apply"]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run}");
        assert!(run.stdout.contains("4 cached") && !run.stdout.contains("warning"), "{run}");
        assert_eq!(outputs.each_ref().map(|path| fs::read(path).unwrap()), written);
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
    assert_eq!(read_only(&project, &["store", "ls"]).code, 0);
    let run = read_only(&project, &["store", "export", "app-layer", "exported"]);
    assert_eq!((run.code, fs::read(project.path("exported")).unwrap() == written[1]), (0, true), "{run}");
}

#[test]
fn a_step_that_would_run_on_a_read_only_store_is_refused_with_the_reason() {
    let project = built();
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write(
        "build.yaml",
        &(text.replace("chmod 600", "chmod 640") + "  - { name: last, container: app, run: echo }\n"),
    );
    let run = read_only(&project, &["apply"]);
    assert_eq!(run.code, 3, "{run}");
    let text = run.stdout.replace("\n", " ");
    for part in [
        "the store ",
        " is on a read-only filesystem, so only the results that it already contains can be used, and the step would run: step sign changed: ",
        "; remount its filesystem writable, or choose another store with `--store DIRECTORY`",
    ] {
        assert!(text.contains(part), "{part:?}: {run}");
    }
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    let run = read_only(&project, &["run", "base", "--", "true"]);
    assert!(run.code == 3 && run.stderr.contains(" is on a read-only filesystem, so only the results that"), "{run}");
}

#[test]
fn gc_leaves_the_layers_of_running_builds_until_they_end() {
    let project = project(MANIFEST);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let collections = scope.spawn(|| {
            let mut removed = 0;
            while !done.load(Ordering::Relaxed) {
                let run = store(&project, &["gc", "--max-size", "0", "--json"]);
                assert_eq!(run.code, 0, "{run}");
                let json: Value = serde_json::from_str(&run.stdout).unwrap();
                removed += json["removed"].as_array().unwrap().len();
            }
            removed
        });
        let builds = [0; 2].map(|_| {
            scope.spawn(|| {
                for _ in 0..4 {
                    let run = project.runner(&["apply"]);
                    assert_eq!(run.code, 0, "{run}");
                }
            })
        });
        let ended = builds.map(|build| build.join());
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a build failed");
        assert!(collections.join().unwrap() > 0);
    });
    let run = project.apply();
    assert_eq!(store(&project, &["verify"]).code, 0);
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
}

#[test]
fn gc_leaves_the_layers_of_a_lock_file_as_long_as_its_manifest_exists() {
    let project = built();
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    let kept = json(&project, &["inspect", "app-layer", "--json"])["kept_by"]["lock_files"].clone();
    assert_eq!(kept.as_array().unwrap().len(), 1);
    let run = store(&project, &["gc", "--max-size", "0"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "nothing to remove\n"), "{run}");
    fs::remove_file(project.path("runner.lock")).unwrap();
    let run = store(&project, &["gc", "--max-size", "0"]);
    assert!(run.stdout.ends_with("removed 2 layers, 8.0 KiB\n"), "{run}");
}
