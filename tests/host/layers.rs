//! A root from several squashfs images, stacked as layers: its content, when it is built again, and its refusals.

use std::fs;

use crate::built::{Built, names_in, project};
use crate::project::Project;

/// Writes a whole root, and three layers above it by a chain of its own.
const PARTS: &str = r#"
containers: { base: { rootfs: $TOOLS } }
steps:
  - { name: old, container: base, run: "mkdir -p /data/sub; echo base > /data/base; echo base > /data/sub/base; echo base > /all" }
  - { name: base, container: base, snapshot: { mode: full, output: base.squashfs } }
  - { name: more, container: base, run: "rm /data/base; rm -r /data/sub; mkdir /data/sub; echo sdk > /data/sub/sdk; echo sdk >> /all" }
  - { name: sdk, container: base, snapshot: { output: sdk.squashfs } }
  - { name: product, container: base, run: "echo product >> /all; rm /data/sub/sdk" }
  - { name: app, container: base, snapshot: { output: app.squashfs } }
"#;

/// Continues from the three images.
const STACKED: &str = "version: 1
containers: { c: { rootfs: { squashfs: [base.squashfs, sdk.squashfs, app.squashfs] } } }
steps:
  - { name: look, container: c, run: 'cat /all; ls -R /data; echo look > /look' }
  - { name: layer, container: c, snapshot: { output: out/look.squashfs } }
";

fn stacked() -> Project {
    let project = project(PARTS);
    project.apply();
    project.write("build.yaml", STACKED);
    project
}

#[test]
fn a_step_on_a_list_of_layers_sees_them_stacked_in_the_order_of_the_list() {
    let project = stacked();
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["base", "sdk", "product", "/data:", "sub", "", "/data/sub:"]);
    assert_eq!(names_in(&project.path("out/look.squashfs")), ["/look"]);
    let built = Built::succeed(&project);
    assert_eq!((built.status("look"), built.status("layer")), ("cached", "cached"));

    let run = project.runner(&["run", "c", "--", "cat", "/all"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "base\nsdk\nproduct\n"), "{run}");

    project.write("build.yaml", &STACKED.replace("sdk.squashfs, app.squashfs", "app.squashfs, sdk.squashfs"));
    let built = Built::succeed(&project);
    assert_eq!(built.lines("look"), ["base", "sdk", "/data:", "sub", "", "/data/sub:", "sdk"]);
}

#[test]
fn another_layer_anywhere_in_the_list_builds_again_and_is_named() {
    let project = stacked();
    Built::succeed(&project);
    let sdk = fs::read(project.path("sdk.squashfs")).unwrap();
    project.write(
        "parts/build.yaml",
        &PARTS.replace("$TOOLS", "{ squashfs: ../base.squashfs }").replace("echo sdk", "echo other"),
    );
    let text = fs::read_to_string(project.path("parts/build.yaml")).unwrap();
    project.write("parts/build.yaml", &format!("version: 1\n{text}"));
    let run = project.runner(&["apply", "parts/build.yaml"]);
    assert_eq!(run.code, 0, "{run}");
    fs::copy(project.path("parts/sdk.squashfs"), project.path("sdk.squashfs")).unwrap();
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("a layer below changed: the rootfs of c, layer 2"), "{plan}");
    let built = Built::succeed(&project);
    assert_eq!((built.status("look"), built.status("layer")), ("ran", "ran"));
    fs::write(project.path("sdk.squashfs"), sdk).unwrap();
    let built = Built::succeed(&project);
    assert_eq!(built.status("look"), "cached");
}

#[test]
fn the_graph_a_lock_and_a_verification_take_a_list_of_layers() {
    let project = stacked();
    let graph = project.runner(&["graph"]);
    assert!(graph.stdout.contains("squashfs: 3 layers"), "{graph}");
    let run = project.runner(&["lock"]);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(project.runner(&["verify"]).code, 0);
    assert_eq!(project.runner(&["apply", "--locked"]).code, 0);
    fs::copy(project.path("app.squashfs"), project.path("sdk.squashfs")).unwrap();
    let run = project.runner(&["apply", "--locked"]);
    assert!(run.code == 4 && run.stderr.contains("the rootfs of container c: locked squashfs sha256:"), "{run}");
}

#[test]
fn every_invalid_layer_of_a_list_is_refused_with_its_place() {
    let project = stacked();
    project.write("build.yaml", &STACKED.replace("sdk.squashfs, app.squashfs", "sdk.squashf, out, base.squashfs"));
    fs::create_dir_all(project.path("out")).unwrap();
    let run = project.runner(&["validate"]);
    assert_eq!(run.code, 2, "{run}");
    for problem in ["sdk.squashf", "out` is a directory", "the image `base.squashfs` is listed twice as a layer"] {
        assert!(run.stderr.contains(problem), "{problem}: {run}");
    }
    assert!(run.stderr.contains("did you mean `") && run.stderr.contains("first listed here"), "{run}");

    project.write("build.yaml", &STACKED.replace("app.squashfs", "text"));
    project.write("text", "no image");
    let built = Built::of(&project, &[]);
    assert!(built.run.code != 0 && built.reason("look").contains("text"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_single_image_that_is_only_a_layer_gets_the_list_as_a_hint() {
    let project = stacked();
    let (deletes, bare) = ("removes files of an image below it", "has no /bin/sh");
    for (image, step, why) in [
        ("sdk.squashfs", "run: 'true'", deletes),
        ("app.squashfs", "exec: [cat, /all]", bare),
        ("sdk.squashfs", "user: eve, run: 'true'", deletes),
    ] {
        project.write(
            "build.yaml",
            &format!(
                "version: 1\ncontainers: {{ c: {{ rootfs: {{ squashfs: {image} }} }} }}\nsteps: [{{ name: a, {step} }}]\n"
            ),
        );
        let built = Built::of(&project, &[]);
        assert_eq!(built.run.code, 1, "{}", built.run);
        let hint = format!(
            "{image} {why}: it may be only a layer; in container c, list the images below it before it, as in `rootfs: {{squashfs: [base.squashfs, {image}]}}`"
        );
        assert!(built.reason("a").ends_with(&hint), "{}", built.reason("a"));
    }
    // A whole root lacks no file, whatever its steps do.
    project.write("build.yaml", "version: 1\ncontainers: { c: { rootfs: { squashfs: base.squashfs } } }\nsteps: [{ name: a, exec: [nothing] }]\n");
    let built = Built::of(&project, &[]);
    assert!(!built.reason("a").contains("only a layer"), "{}", built.reason("a"));
}

#[test]
fn a_layer_that_a_root_has_several_times_is_stacked_as_often() {
    let project = project(
        r#"
containers:
  a: { rootfs: $TOOLS }
  b: { rootfs: { snapshot: third } }
mounts: { input: { type: bind, source: input, target: /input, options: [ro] } }
steps:
  - { name: one, container: a, run: "echo file > /file" }
  - { name: first, container: a, snapshot: {} }
  - { name: two, container: a, run: "rm /file" }
  - { name: second, container: a, snapshot: {} }
  - { name: again, container: a, run: "echo file > /file" }
  - { name: third, container: a, snapshot: {} }
  - { name: look, container: b, mounts: [input], run: "cat /file /input/file" }
  - { name: image, container: b, export: { format: oci, output: image } }
"#,
    );
    project.write("input/file", "1\n");
    let built = Built::succeed(&project);
    assert_eq!(built.digest("first"), built.digest("third"), "the same layer");
    project.write("input/file", "2\n");
    // Only `look` runs, on layers of the store.
    assert_eq!(Built::succeed(&project).lines("look"), ["file", "2"]);
    let run = project.runner(&["run", "b", "--", "cat", "/file"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "file\n"), "{run}");
    assert_eq!(project.runner(&["diff", "first", "third"]).code, 0);
    // An image with the same layers, and with empty ones.
    project.write(
        "build.yaml",
        "version: 1\ncontainers: { c: { rootfs: { oci: image } } }\nsteps: [{ name: look, run: cat /file }]\n",
    );
    assert_eq!(Built::succeed(&project).lines("look"), ["file"]);
}
