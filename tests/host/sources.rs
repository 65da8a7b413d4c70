//! The sources of a root filesystem: each gives the same root, and is unchanged by a build on it.

use std::fs;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, removexattr, setxattr};

use crate::built::{Built, names_in, project};
use crate::cache::{apply, statuses};

const SEED: &str = r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - name: fill
    run: |
      mkdir -p /data; echo one > /data/file; chmod 4751 /data/file; ln /data/file /data/hard; ln -s file /data/link
      mknod /data/node c 1 3; mkfifo /data/fifo
  - { name: image, snapshot: { mode: full, output: root.squashfs } }
"#;

const LOOK: &str =
    r#"run: "cd /data; stat -c '%n %F %a %h %u %s' file hard link node fifo; cat file; echo new > /new; rm link""#;

#[test]
fn a_root_from_an_image_a_directory_and_any_archive_is_the_same_root() {
    let seed = project(SEED);
    seed.apply();
    let archives = ["tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2"];
    let sources: Vec<(String, String)> = [
        ("squashfs", "squashfs: root.squashfs"),
        ("erofs", "erofs: root.erofs"),
        ("erofs-lz4", "erofs: root.lz4.erofs"),
        ("dir", "dir: root"),
    ]
    .map(|(name, source)| (name.to_owned(), source.to_owned()))
    .into_iter()
    .chain(archives.map(|name| (name.to_owned(), format!("tar: root.{name}"))))
    .collect();
    let containers: String =
        sources.iter().map(|(name, source)| format!("  {name}: {{ rootfs: {{ {source} }} }}\n")).collect();
    let steps: String = sources
        .iter()
        .map(|(name, _)| {
            format!(
                "  - {{ name: {name}, container: {name}, {LOOK} }}\n  \
                 - {{ name: {name}-layer, container: {name}, snapshot: {{ output: {name}.squashfs }} }}\n"
            )
        })
        .collect();
    let project = project(&format!("containers:\n{containers}steps:\n{steps}"));
    fs::copy(seed.path("root.squashfs"), project.path("root.squashfs")).unwrap();
    project.script(
        "unsquashfs -q -n -d root root.squashfs > /dev/null; tar --numeric-owner --xattrs -C root -cf root.tar .
         mkfs.erofs root.erofs root; mkfs.erofs -zlz4hc root.lz4.erofs root
         gzip -k root.tar; xz -0 -k root.tar; zstd -q -1 root.tar; bzip2 -k root.tar",
    );
    let state = "(find root root.* -printf '%p %y %m %U %G %s %T@ %C@\\n'; sha256sum root.*) | sort > ../$(basename $PWD).STATE";
    let before = project.path("").with_extension("before");
    let after = project.path("").with_extension("after");
    project.script(&state.replace("STATE", "before"));
    let built = Built::succeed(&project);
    project.script(&state.replace("STATE", "after"));
    assert_eq!(fs::read_to_string(&before).unwrap(), fs::read_to_string(&after).unwrap());
    fs::remove_file(before).unwrap();
    fs::remove_file(after).unwrap();
    for (name, _) in &sources {
        let lines = built.lines(name);
        assert_eq!(
            lines,
            [
                "file regular file 4751 2 0 4",
                "hard regular file 4751 2 0 4",
                "link symbolic link 777 1 0 4",
                "node character special file 644 1 0 0",
                "fifo fifo 644 1 0 0",
                "one"
            ],
            "{name}"
        );
        let names: Vec<String> = names_in(&project.path(&format!("{name}.squashfs")));
        assert_eq!(names, ["/data/link", "/new"], "{name}");
    }
}

#[test]
fn an_empty_root_contains_only_the_files_of_its_steps() {
    let project = project(
        r#"
mounts:
  usr: { type: bind, source: /usr, target: /tools/usr, options: [ro], cache: ignore }
  lib: { type: bind, source: /lib, target: /lib, options: [ro], cache: ignore }
  lib64: { type: bind, source: /lib64, target: /lib64, options: [ro] }
containers:
  c: { rootfs: { scratch: true }, mounts: [usr, lib, lib64], env: { PATH: /tools/usr/bin } }
  next: { rootfs: { snapshot: layer }, mounts: [usr, lib, lib64], env: { PATH: /tools/usr/bin } }
steps:
  - { name: write, container: c, exec: [sh, -ec, "ls -A /; mkdir /folder; echo one > /folder/file"] }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
  - { name: read, container: next, exec: [cat, /folder/file] }
  - { name: full, container: next, snapshot: { mode: full, output: full.squashfs } }
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("write"), ["dev", "etc", "lib", "lib64", "proc", "sys", "tools"]);
    assert_eq!(built.text("read"), "one\n");
    assert_eq!(names_in(&project.path("layer.squashfs")), ["/folder/file"]);
    // Without these no system starts from an image.
    assert_eq!(names_in(&project.path("full.squashfs")), ["/dev", "/folder/file", "/proc", "/sys"]);
}

/// Returns how each of these roots ends a build that the host itself could run.
#[test]
fn a_wrong_input_ends_with_exit_code_2_and_not_with_that_of_the_host() {
    let seed = project(SEED);
    seed.apply();
    seed.script("unsquashfs -q -n -d root root.squashfs > /dev/null; tar -C root -cf whole.tar .; tar -C root -czf whole.tar.gz .
         head -c 700000 root.squashfs > cut.squashfs; head -c 50 root.squashfs > short.squashfs
         head -c 5000 /dev/zero > zeros.squashfs; : > empty.squashfs
         mksquashfs root nopad.squashfs -nopad -quiet -no-progress
         mkfs.erofs root.erofs root; head -c 700000 root.erofs > cut.erofs
         head -c 700000 whole.tar > cut.tar; head -c 700000 whole.tar.gz > cut.tar.gz; echo text > text.tar
         printf x > x; tar -P --transform 's,^,a/../../,' -cf upwards.tar x
         cp -a root linked; rm -rf linked/proc; ln -s /tmp linked/proc; cp -a root file; mkdir -p file; : > file/here",
    );
    for (rootfs, rest, words) in [
        ("squashfs: cut.squashfs", "", "it is a squashfs image cut off: 700000 of its "),
        ("squashfs: short.squashfs", "", "cut off"),
        ("squashfs: nopad.squashfs", "", "bytes is no multiple of 512, as that of an image made with `-nopad`"),
        ("squashfs: zeros.squashfs", "", "it is not a squashfs image"),
        ("squashfs: empty.squashfs", "", "it is not a squashfs image"),
        ("squashfs: root.erofs", "", "it is an EROFS image: use `erofs` in place of `squashfs`"),
        ("erofs: root.squashfs", "", "it is a squashfs image: use `squashfs` in place of `erofs`"),
        ("erofs: cut.erofs", "", "it is an EROFS image cut off: 700000 of its "),
        ("erofs: empty.squashfs", "", "it is not an EROFS image"),
        ("erofs: whole.tar", "", "it is not an EROFS image"),
        ("tar: root.erofs", "", "it is an EROFS image: use `erofs` in place of `tar`"),
        ("tar: cut.tar", "", "the archive is cut off"),
        ("tar: cut.tar.gz", "", "its gzip data is broken"),
        ("tar: text.tar", "", "it is not a tar archive"),
        ("tar: upwards.tar", "", "its name leads upwards by `..`"),
        ("dir: linked", "", "/proc of the rootfs is a link to /tmp"),
        ("dir: file", ", mounts: [{ type: tmpfs, target: /here }]", "mount target /here is a file in the container"),
    ] {
        seed.write("build.yaml", &format!("version: 1\ncontainers: {{ c: {{ rootfs: {{ {rootfs} }}{rest} }} }}\nsteps: [{{ name: s, run: ':' }}]\n"));
        let built = Built::of(&seed, &[]);
        assert!(built.reason("s").contains(words), "{rootfs}: {}", built.run);
        assert_eq!(built.run.code, 2, "{rootfs}: {}", built.run);
        let run = seed.runner(&["run", "c", "--", "true"]);
        assert!(run.code == 2 && run.stderr.contains(words), "{rootfs}: {run}");
        assert_eq!(seed.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn a_directory_with_marks_of_overlayfs_is_refused_as_a_root_by_their_paths() {
    let project = project(
        r#"
containers: { c: { rootfs: { dir: root } } }
steps: [{ name: image, snapshot: { mode: full, output: image.squashfs } }]
"#,
    );
    project.write("root/b/file", "text");
    let (node, file) = (project.path("root/b/gone"), project.path("root/b/file"));
    apply(&project, &[]);
    let refused = |words: &str| {
        // The store has a result of an earlier build.
        for arguments in [&["plan"][..], &["apply"], &["apply", "--no-cache"], &["lock"]] {
            let run = project.runner(arguments);
            let output = format!("{}{}", run.stdout, run.stderr);
            assert!(run.code == 2 && output.contains(words), "{arguments:?}: {run}");
            assert!(output.contains("mount that overlay, and name the directory where it is mounted"), "{run}");
            assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
        }
    };
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
    refused(&format!(
        "cannot use {} in a root: it is a character device 0:0, which overlayfs regards as a deleted file",
        node.display()
    ));
    fs::remove_file(&node).unwrap();
    setxattr(&file, "trusted.overlay.metacopy", b"", XattrFlags::empty()).unwrap();
    refused(&format!("cannot use {} in a root: its attribute trusted.overlay.metacopy is", file.display()));
    removexattr(&file, "trusted.overlay.metacopy").unwrap();
    // The mark of a directory that hides nothing.
    setxattr(project.path("root/b"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    assert_eq!(statuses(&apply(&project, &[])), "image=cached");
}

also_with_runc! {
    an_empty_root_contains_only_the_files_of_its_steps,
}
