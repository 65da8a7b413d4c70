//! Exports of OCI images: other tools take them, the tree is that of the root, and images on one base share its layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::built::{Built, project};
use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::tree::Tree;

const MANIFEST: &str = r#"
containers:
  base:
    rootfs: { programs: [/bin/sh, /bin/cat, /bin/ls, /bin/ln, /bin/mkdir, /bin/rm, /usr/bin/id, /usr/bin/setfattr] }
  product: { rootfs: { snapshot: base-layer } }
steps:
  - name: fill
    container: base
    run: |
      mkdir -p /opt/gone/deep /opt/opaque /data; echo one > /opt/gone/deep/file; echo old > /opt/opaque/old; echo two > /opt/two
      echo hello > /data/hello; ln /data/hello /data/hard; setfattr -n user.a -v b /data/hello; echo x > /opt/replaced
      echo "builder:x:1000:1000::/:/bin/sh" >> /etc/passwd
  - { name: base-layer, container: base, snapshot: {} }
  - { name: base-image, container: base, export: { format: oci, output: out/base } }
  - name: change
    container: product
    run: |
      rm -r /opt/gone /opt/opaque /opt/two; mkdir /opt/opaque; echo new > /opt/opaque/new
      rm /opt/replaced; mkdir /opt/replaced; echo in > /opt/replaced/in
  - { name: product-layer, container: product, snapshot: {} }
  - { name: more, container: product, run: "rm /data/hard; echo more > /more" }
  - name: product-image
    container: product
    export:
      format: oci
      output: out/product
      tag: v1.2
      config:
        entrypoint: [/bin/sh, -c]
        cmd: ["cat /data/hello; echo $GREETING; id -u"]
        env: { GREETING: hi }
        cwd: /data
        user: 1000:1000
        labels: { b: two, a: one, c: three }
        stop_signal: SIGINT
  - { name: archive, container: product, export: { format: oci, output: out/product.tar, compression: none, tag: v1.2 } }
  - { name: squashed, container: product, export: { format: oci, output: out/squashed, layers: squashfs } }
  - { name: part, container: product, export: { format: oci, output: out/part, path: /data, compression: none } }
  - { name: whole, container: product, snapshot: { mode: full, output: out/whole.squashfs } }
"#;

fn tool(project: &Project, command: &str) -> String {
    project.script(command)
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
}

/// Returns the manifest and the configuration of a layout.
fn image(layout: &Path) -> (Value, Value) {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = blob(layout, &index["manifests"][0]["digest"]);
    let config = blob(layout, &manifest["config"]["digest"]);
    (manifest, config)
}

fn layers(layout: &Path) -> Vec<String> {
    let (manifest, _) = image(layout);
    manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].to_string()).collect()
}

#[test]
fn an_oci_image_is_the_root_for_other_tools_and_shares_the_layers_of_its_base() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let expected = in_private_namespace(|mounts| Tree::read(&mounts.image(&project.path("out/whole.squashfs"))));
    let (base, product) = (layers(&project.path("out/base")), layers(&project.path("out/product")));
    assert_eq!((base.len(), product.len()), (2, 4));
    assert_eq!(base, product[..2]);
    for (name, tag) in [("product", "v1.2"), ("part", "latest")] {
        tool(&project, &format!("umoci unpack --image out/{name}:{tag} unpacked-{name}"));
    }
    let mut found = Tree::read(&project.path("unpacked-product/rootfs"));
    let mut expected = expected;
    // A full image has empty directories for the kernel's filesystems.
    for tree in [&mut found, &mut expected] {
        tree.0.retain(|path, _| !["proc", "sys", "dev"].iter().any(|name| path == Path::new(name)));
        tree.0.remove(Path::new(""));
    }
    assert_eq!(found.differences(&expected, i64::MAX), Vec::<String>::new());
    assert_eq!(Tree::read(&project.path("unpacked-part/rootfs")).paths(), ["hello"]);
    let seen: Value = serde_json::from_str(&tool(&project, "skopeo inspect oci:out/product:v1.2")).unwrap();
    assert_eq!(seen["Labels"], serde_json::json!({ "a": "one", "b": "two", "c": "three" }));
    tool(
        &project,
        "skopeo copy --quiet oci:out/product:v1.2 dir:copied && skopeo copy --quiet oci-archive:out/product.tar:v1.2 oci:from-archive:x",
    );
    tool(&project, "umoci unpack --image from-archive:x unpacked-archive");
    let archived = Tree::read(&project.path("unpacked-archive/rootfs"));
    assert_eq!(
        archived.differences(&Tree::read(&project.path("unpacked-product/rootfs")), i64::MAX),
        Vec::<String>::new()
    );
    let (manifest, config) = image(&project.path("out/product"));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(config["created"], "1980-01-01T00:00:00Z");
    assert_eq!(
        (&config["config"]["StopSignal"], &config["config"]["WorkingDir"]),
        (&Value::from("SIGINT"), &Value::from("/data"))
    );
    let bundle = project.path("unpacked-product");
    without_terminal(&bundle);
    let name = format!("runner-test-oci-{}", std::process::id());
    let mut run = Command::new("runc");
    run.args(["run", "--bundle"]).arg(&bundle).arg(name).stdin(Stdio::null());
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "hello\nhi\n1000\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// Changes a bundle so that its process gets no terminal.
pub fn without_terminal(bundle: &Path) {
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = Value::Bool(false);
    fs::write(&path, config.to_string()).unwrap();
}

#[test]
fn an_oci_image_has_the_same_bytes_each_time_and_comes_back_from_the_store() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let files = |name: &str| -> BTreeSet<String> {
        tool(&project, &format!("cd {name} && find . -type f -exec sha256sum {{}} +"))
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let before: Vec<BTreeSet<String>> = ["out/base", "out/product", "out/squashed"].map(files).into();
    let archive = fs::read(project.path("out/product.tar")).unwrap();
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 0, "{verified}");
    fs::remove_dir_all(project.path("out")).unwrap();
    let built = Built::succeed(&project);
    assert!(!built.events.iter().any(|event| event["status"] == "ran"), "{}", built.run);
    assert_eq!(before, ["out/base", "out/product", "out/squashed"].map(files));
    assert!(fs::read(project.path("out/product.tar")).unwrap() == archive);
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("output: out/base }", "output: out/base, tag: other }"));
    let built = Built::succeed(&project);
    let ran = built.events.iter().filter(|event| event["status"] == "ran").map(|event| event["step"].as_str().unwrap());
    assert_eq!(ran.collect::<Vec<_>>(), ["base-image"]);
}

#[test]
fn layers_of_squashfs_stack_to_the_root() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let layout = project.path("out/squashed");
    let (manifest, _) = image(&layout);
    let found = manifest["layers"].as_array().unwrap();
    assert!(found.iter().all(|layer| layer["mediaType"] == "application/vnd.stacker.image.layer.squashfs+zstd"));
    let paths: Vec<_> = found
        .iter()
        .map(|layer| {
            layout.join("blobs/sha256").join(layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap())
        })
        .collect();
    let differences = in_private_namespace(|mounts| {
        let mut expected = Tree::read(&mounts.image(&project.path("out/whole.squashfs")));
        let mut found = Tree::read(&mounts.chain(&paths));
        for tree in [&mut found, &mut expected] {
            tree.0.retain(|path, _| !["proc", "sys", "dev"].iter().any(|name| path == Path::new(name)));
            // An overlay counts the name that a layer above has removed.
            let hello = tree.0.get_mut(Path::new("data/hello")).unwrap();
            (hello.links, hello.linked_to) = (None, None);
        }
        found.differences(&expected, i64::MAX)
    });
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn a_name_that_means_a_deletion_is_refused() {
    let project = project(
        r#"
containers: { c: { rootfs: { programs: [/bin/sh] } } }
steps:
  - { name: make, run: "echo > /.wh.file" }
  - { name: image, export: { format: oci, output: out/image } }
"#,
    );
    let run = project.runner(&["apply"]);
    assert!(run.code != 0 && run.stdout.contains("/.wh.file: its name begins with `.wh.`"), "{run}");
    assert!(!project.path("out/image").exists());
    assert_eq!(project.leftovers(0), Vec::<String>::new());
}
