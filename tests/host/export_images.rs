//! Exports of a whole root as an archive or an image: other programs and the kernel find the same tree in each.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::built::{Built, project};
use crate::namespace::in_private_namespace;
use crate::tree::Tree;

const MANIFEST: &str = r#"
containers:
  c:
    rootfs: { programs: [/bin/sh, /bin/chmod, /bin/chown, /bin/ln, /bin/mkdir, /bin/mkfifo, /bin/mknod, /usr/bin/seq, /usr/bin/setfattr, /bin/touch] }
    capabilities: { add: [SETFCAP] }
steps:
  - name: make
    run: |
      mkdir -p /opt/b/c /opt/a; echo hello > /opt/b/hello; chown 3000000000:77 /opt/b/hello; chmod 4755 /opt/b/hello
      ln /opt/b/hello /opt/a/hard; ln -s ../../etc/passwd /opt/link; mkfifo /opt/fifo; mknod /opt/node b 7 300
      echo x > /opt/old; touch -d @77 /opt/old /opt/a; chmod 1777 /opt/b/c
      setfattr -n user.a=b%c -v "one
      two" /opt/b; setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= /opt/old
      n=$(seq -s x 60); mkdir -p /opt/$n/$n; echo deep > /opt/$n/$n/file; ln /opt/$n/$n/file /opt/zzz; ln -s $n/$n/file /opt/l
  - { name: whole, snapshot: { mode: full, output: whole.squashfs } }
  - { name: tar, export: { format: tar, output: root.tar } }
  - { name: targz, export: { format: tar, output: root.tar.gz, level: 9 } }
  - { name: tarzst, export: { format: tar, output: root.tar.zst } }
  - { name: tarxz, export: { format: tar, output: root.txz } }
  - { name: squashfs, export: { format: squashfs, output: root.squashfs } }
  - { name: erofs, export: { format: erofs, output: root.erofs } }
  - { name: cpio, export: { format: cpio, output: initrd } }
  - { name: cpiogz, export: { format: cpio, output: initrd.gz, compression: zstd } }
  - { name: part, export: { format: tar, path: /opt/b, output: part.tar } }
"#;

/// Unpacks an archive with a shell command, in which `$1` is its path; returns its tree.
fn unpacked(archive: &Path, command: &str) -> Tree {
    let directory = tempfile::tempdir().unwrap();
    let done =
        Command::new("sh").args(["-ec", command, "sh"]).arg(archive).current_dir(directory.path()).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    Tree::read(directory.path())
}

/// Removes what an archive format or the program that unpacks it does not have.
fn reduced(mut tree: Tree, with_attributes: bool) -> Tree {
    for entry in tree.0.values_mut() {
        entry.modified = 0;
        if !with_attributes {
            entry.attributes.clear();
        }
    }
    tree
}

#[test]
fn every_archive_and_image_of_a_root_is_the_tree_of_its_full_snapshot() {
    let project = project(MANIFEST);
    let built = Built::succeed(&project);
    let warnings: Vec<&str> = built.events.iter().filter_map(|event| event["message"].as_str()).collect();
    assert!(
        warnings.iter().any(|text| text.contains("a cpio archive has no place for extended attributes")),
        "{warnings:?}"
    );
    let expected = in_private_namespace(|mounts| Tree::read(&mounts.image(&project.path("whole.squashfs"))));
    assert!(expected.get("opt/b").attributes.len() == 1 && expected.get("opt/old").attributes.len() == 1);
    assert_eq!(expected.get("opt/zzz").links, Some(2));
    const TAR: &str = r#"tar --xattrs --xattrs-include='*' --numeric-owner -xpf "$1""#;
    for name in ["root.tar", "root.tar.gz", "root.tar.zst", "root.txz"] {
        let found = unpacked(&project.path(name), TAR);
        assert_eq!(found.differences(&expected, i64::MAX), Vec::<String>::new(), "{name}");
    }
    let image = in_private_namespace(|mounts| Tree::read(&mounts.image(&project.path("root.squashfs"))));
    assert_eq!(image.differences(&expected, i64::MAX), Vec::<String>::new());
    for (name, unpack) in
        [("initrd", "cpio -idm --quiet < \"$1\""), ("initrd.gz", "zstd -dc \"$1\" | cpio -idm --quiet")]
    {
        let found = reduced(unpacked(&project.path(name), unpack), false);
        assert_eq!(found.differences(&reduced(expected.clone(), false), i64::MAX), Vec::<String>::new(), "{name}");
    }
    let part = unpacked(&project.path("part.tar"), TAR);
    assert_eq!(part.paths(), ["c", "hello"]);
    let erofs = in_private_namespace(|mounts| Tree::read(&mounts.erofs(&project.path("root.erofs"))));
    let (found, expected) = (reduced(erofs, true), reduced(expected, true));
    assert_eq!(found.differences(&expected, i64::MAX), Vec::<String>::new());
}

#[test]
fn archives_and_images_have_the_same_bytes_each_time_and_are_cached() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let names =
        ["root.tar", "root.tar.gz", "root.tar.zst", "root.txz", "root.squashfs", "root.erofs", "initrd", "initrd.gz"];
    let before: Vec<Vec<u8>> = names.iter().map(|name| fs::read(project.path(name)).unwrap()).collect();
    let verified = project.runner(&["verify"]);
    assert_eq!(verified.code, 0, "{verified}");
    names.iter().for_each(|name| fs::remove_file(project.path(name)).unwrap());
    let built = Built::succeed(&project);
    let ran = built.events.iter().any(|event| event["status"] == "ran");
    assert!(!ran, "{}", built.run);
    for (name, before) in names.iter().zip(before) {
        assert!(fs::read(project.path(name)).unwrap() == before, "{name}");
    }
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &text.replace("level: 9", "level: 1"));
    let built = Built::succeed(&project);
    let ran = built.events.iter().filter(|event| event["status"] == "ran").map(|event| event["step"].as_str().unwrap());
    assert_eq!(ran.collect::<Vec<_>>(), ["targz"]);
}

#[test]
fn an_image_of_a_file_is_refused_and_a_missing_program_is_named() {
    let manifest = "
containers: { c: { rootfs: { programs: [/bin/sh] } } }
steps:
  - { name: image, export: { format: FORMAT, path: PATH, output: image } }
";
    let of = |format: &str, path: &str| project(&manifest.replace("FORMAT", format).replace("PATH", path));
    let run = of("tar", "/bin/sh").runner(&["apply"]);
    let message = "cannot write /bin/sh: it is a file, and the format `tar` is an image of a directory";
    assert!(run.code == 1 && run.stdout.contains(message), "{run}");
    let project = of("erofs", "/");
    let output = project.command(&["apply"]).env("PATH", "/nowhere").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("mkfs.erofs") && text.contains("apt-get install erofs-utils"), "{text}");
    assert_eq!(project.leftovers(0), Vec::<String>::new());
}

#[test]
fn a_name_that_ends_a_cpio_archive_is_refused() {
    let project = project(
        r#"
containers: { c: { rootfs: { programs: [/bin/sh] } } }
steps:
  - { name: make, run: "echo > '/TRAILER!!!'" }
  - { name: image, export: { format: cpio, output: out/image.cpio } }
"#,
    );
    let run = project.runner(&["apply"]);
    assert!(run.code != 0 && run.stdout.contains("/TRAILER!!!: this name means the end of a cpio archive"), "{run}");
    assert!(!project.path("out/image.cpio").exists());
}

#[test]
fn a_stored_root_is_exported_in_each_form_without_a_manifest() {
    let project = project(MANIFEST);
    Built::succeed(&project);
    let export = |arguments: &[&str]| project.runner(&[&["store", "export"], arguments].concat());
    for (format, file) in [
        ("tar", "again.tar"),
        ("squashfs", "again.squashfs"),
        ("cpio", "again"),
        ("erofs", "again.erofs"),
        ("oci", "again-oci"),
        ("files", "again-files"),
    ] {
        let run = export(&["--format", format, "whole", file]);
        assert_eq!(run.code, 0, "{format}: {run}");
    }
    for (one, other) in [("root.tar", "again.tar"), ("initrd", "again"), ("root.squashfs", "again.squashfs")] {
        assert!(fs::read(project.path(one)).unwrap() == fs::read(project.path(other)).unwrap(), "{one}");
    }
    assert!(project.path("again-oci/index.json").exists() && project.path("again-files/opt/b/hello").exists());
    let run = export(&["--format", "tar", "--path", "/opt/b", "whole", "part-again.tar"]);
    assert_eq!(
        (run.code, fs::read(project.path("part.tar")).unwrap() == fs::read(project.path("part-again.tar")).unwrap()),
        (0, true),
        "{run}"
    );
    fs::write(project.path("again-files/mine"), "").unwrap();
    let run = export(&["--format", "files", "whole", "again-files"]);
    assert!(run.code == 2 && run.stderr.contains("runner did not export mine there"), "{run}");
    assert_eq!(project.leftovers(0), Vec::<String>::new());
}

#[test]
fn a_root_whose_source_is_not_in_the_store_is_not_exported_from_it() {
    let project = project(
        "
containers: { c: { rootfs: { programs: [/bin/sh] } }, d: { rootfs: { scratch: true } } }
steps:
  - { name: layer, container: c, snapshot: {} }
  - { name: nothing, container: d, snapshot: {} }
",
    );
    Built::succeed(&project);
    let run = project.runner(&["store", "export", "--format", "tar", "layer", "x.tar"]);
    assert!(run.code == 2 && run.stderr.contains("its root has a source that is not in the store"), "{run}");
    let run = project.runner(&["store", "export", "--format", "tar", "--compression", "lz4", "layer", "x.tar"]);
    assert!(run.code == 2 && run.stderr.contains("the format tar has no compression lz4"), "{run}");
    let run = project.runner(&["store", "export", "--format", "tar", "nothing", "x.tar"]);
    assert_eq!(run.code, 0, "{run}");
}
