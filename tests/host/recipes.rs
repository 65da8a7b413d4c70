//! The examples, built in copies: they give the promised results, and their bundles run by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::built::names_in;
use crate::export_oci::without_terminal;
use crate::project::{Project, Run};
use crate::registry::Registry;
use crate::root::{make_root, unpack};
use crate::runtimes::{by_hand, run_bundle};

/// Returns a project with a copy of that example in the directory `example`.
fn copy_of(name: &str) -> Project {
    let project = Project::new("version: 1\nsteps: []\n");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let copied = Command::new("cp").arg("-r").arg(example).arg(project.path("example")).status().unwrap();
    assert!(copied.success());
    for made in ["images", "out"] {
        let _ = fs::remove_dir_all(project.path("example").join(made));
    }
    project
}

#[track_caller]
fn run(program: &Path, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), Run::new(0, &output));
}

#[track_caller]
fn apply(project: &Project, arguments: &[&str]) -> Run {
    let run = project.runner(&[&["apply", "example/build.yaml", "--bundle-dir", "kept"], arguments].concat());
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    run
}

#[test]
fn the_quick_start_builds_and_its_bundles_run_by_hand() {
    let project = copy_of("quickstart");
    apply(&project, &[]);
    for (container, said) in [("base", "made with 4096 zeros"), ("app", "Hello from /usr/local/bin/hello")] {
        let hand = by_hand(&project.path("kept").join(container), &project.path("example/out/app-full.squashfs"));
        assert!(hand.code == 0 && hand.stdout.contains(said), "{hand}");
    }
}

#[test]
fn an_sdk_is_bootstrapped_used_and_its_bundles_run_by_hand() {
    let project = copy_of("sdk-recipe");
    run(&project.path("example/make-sdk.sh"), &[]);
    // A host without /dev/kvm builds the example too.
    let kvm = if Path::new("/dev/kvm").exists() { &["--set", "kvm=/dev/kvm"][..] } else { &[] };
    let built = apply(&project, kvm);
    let expected = if kvm.is_empty() { "prelude | without /dev/kvm" } else { "prelude | with /dev/kvm" };
    for line in [expected, "make    | gcc -O2 -Wall -Werror -c", "trace   | Hello from the SDK with gcc"] {
        assert!(built.stdout.contains(line), "{line}: {built}");
    }
    let names: Vec<_> = fs::read_dir(project.path("example/build")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name == "hello") && !names.iter().any(|name| name == "hello.o"), "{names:?}");
    assert_eq!(names_in(&project.path("example/out/product.squashfs")), ["/opt/product/hello.tar"]);
    let [first, second] = ["kept/bootstrap", "kept/work"].map(|bundle| project.path(bundle));
    unpack(&project.path("example/out/sdk.squashfs"), &first.join("rootfs"));
    let hand = run_bundle(&first);
    assert_eq!(hand.code, 0, "{hand}");
    fs::remove_dir(second.join("rootfs")).unwrap();
    fs::rename(first.join("rootfs"), second.join("rootfs")).unwrap();
    let hand = run_bundle(&second);
    assert_eq!(hand.code, 0, "{hand}");
}

#[test]
fn the_debian_example_builds_a_product_and_its_bundles_run_by_hand() {
    let project = copy_of("debian-sdk");
    // The test looks at their config.json: in the place of the Debian root is one with scripts for the programs that need a mirror.
    project.script(
        "sed -i 's/{ debian: { suite: bookworm } }/{ tar: images\\/debian.tar }/; s/{ snapshot: base.root }/{ tar: images\\/debian.tar }/' \
         example/build.yaml; test $(grep -c images/debian.tar example/build.yaml) = 2",
    );
    let root = project.path("root");
    make_root(&root);
    let compiler = "mkdir -p /usr/local/bin; printf '#!/bin/sh\\necho compiled\\n' > $5; chmod 755 $5";
    for (name, script) in [("apt-get", "exit 0"), ("gcc", compiler)] {
        let path = root.join("usr/bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir(project.path("example/images")).unwrap();
    let tar = project.path("example/images/debian.tar");
    run(Path::new("tar"), &["-C", root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."]);
    let built = apply(&project, &[]);
    assert!(built.stdout.contains("| compiled"), "{built}");
    assert_eq!(names_in(&project.path("example/out/product.squashfs")), ["/usr/local/bin/hello"]);
    for container in ["base", "sdk"] {
        let hand = by_hand(&project.path("kept").join(container), &project.path("example/out/sdk.squashfs"));
        assert_eq!(hand.code, 0, "{hand}");
    }
}

/// Pushes a root as the image `base:1`.
fn push_base(project: &Project, registry: &Registry) {
    make_root(&project.path("root"));
    let base = "version: 1\ncontainers: { base: { rootfs: { dir: root } } }\n\
                steps: [{ name: base, export: { format: oci, push: \"$REGISTRY/base:1\" } }]\n";
    project.write("base.yaml", &base.replace("$REGISTRY", &registry.address));
    let run = project.runner(&["apply", "base.yaml"]);
    assert_eq!(run.code, 0, "{run}");
}

/// Runs the job of the example in a clone of it, as CI does.
#[track_caller]
fn job(project: &Project, registry: &Registry, clone: &str) -> Run {
    project.script(&format!("cp -r example {clone}"));
    let programs = Path::new(env!("CARGO_BIN_EXE_runner")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(project.path(clone).join("job.sh"));
    command.env("PATH", path).env("RUNNER_STORE", project.store()).env("REGISTRY", &registry.address);
    let run = Run::new(0, &command.output().unwrap());
    assert_eq!(run.code, 0, "{run}");
    run
}

#[test]
fn the_ci_example_pulls_its_base_pushes_its_image_and_the_next_job_finds_all_cached() {
    let project = copy_of("ci");
    let registry = Registry::start(&project);
    push_base(&project, &registry);
    let run = job(&project, &registry, "first");
    assert!(run.stdout.contains("tests: 1 passed") && run.stdout.contains("greet:1@sha256:"), "{run}");
    let digest = |run: &Run| run.stdout.split("greet:1@sha256:").nth(1).unwrap_or_default()[..64].to_owned();
    let first = digest(&run);
    let report = fs::read_to_string(project.path("first/build.xml")).unwrap();
    assert!(report.contains("name=\"greets\""), "{report}");
    let run = job(&project, &registry, "second");
    assert!(run.stdout.contains("0 ran, 4 cached"), "{run}");
    // The image runs.
    project.script(&format!(
        "skopeo copy -q --src-tls-verify=false docker://{}/greet:1 oci:got:1; umoci unpack --image got:1 bundle 2> /dev/null",
        registry.address
    ));
    assert_eq!(project.script("chroot bundle/rootfs /usr/local/bin/greet you"), "Hello, you\n");
    // A change of the program reaches the registry with the next job.
    project.script("sed -i 's/Hello, /Hello,  /' example/src/greet; sed -i 's/Hello, /Hello,  /' example/build.yaml");
    let run = job(&project, &registry, "third");
    assert!(run.stdout.contains(" ran") && digest(&run) != first, "{run}");
}

#[test]
fn a_program_of_a_debian_source_package_comes_into_a_small_image_and_back_from_a_registry_by_its_digest() {
    let project = copy_of("hello-image");
    let registry = Registry::start(&project);
    project.script(&format!(
        "sed -i 's#^      tag: .*#      push: {}/hello:1#' example/build.yaml && grep -q push: example/build.yaml",
        registry.address
    ));
    let run = project.runner(&["apply", "example/build.yaml", "--progress", "json"]);
    assert_eq!(run.code, 0, "{run}");
    let events: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pushed = events.iter().find(|event| event["event"] == "image_pushed").unwrap();
    let size: u64 = project.script("du -sb example/out/hello | cut -f 1").trim().parse().unwrap();
    assert!(size < 5_000_000, "{size}");
    let image = pushed["image"].as_str().unwrap();
    assert!(image.contains("@sha256:"), "{image}");
    project.write(
        "pulled.yaml",
        &format!(
            "version: 1\ncontainers: {{ c: {{ rootfs: {{ image: \"{image}\" }} }} }}\n\
             steps: [{{ name: greet, exec: [/usr/bin/hello, --greeting, pulled] }}]\n"
        ),
    );
    let run = project.runner(&["apply", "pulled.yaml"]);
    assert!(run.code == 0 && run.stdout.contains("| pulled"), "{run}");
    // Another runtime runs the layout.
    project.script("umoci unpack --image example/out/hello:latest bundle 2> /dev/null");
    without_terminal(&project.path("bundle"));
    let hand = run_bundle(&project.path("bundle"));
    assert!(hand.code == 0 && hand.stdout.contains("Hello, world!"), "{hand}");
}

also_with_runc! {
    the_quick_start_builds_and_its_bundles_run_by_hand,
}
