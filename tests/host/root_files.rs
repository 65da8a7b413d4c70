//! Files that a root comes from: their digests, and EROFS images.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::built::{Built, TOOLS, project};
use crate::project::Project;

/// A root with a shell, in each form of a file.
const SEED: &str = r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: fill, run: "mkdir -p /etc; echo meant > /etc/marker" }
  - { name: erofs, export: { format: erofs, output: root.erofs } }
  - { name: tar, export: { format: tar, output: root.tar } }
  - { name: image, snapshot: { mode: full, output: root.squashfs } }
"#;

const FORMS: [(&str, &str); 3] = [("squashfs", "root.squashfs"), ("erofs", "root.erofs"), ("tar", "root.tar")];

fn seed() -> Project {
    let project = project(SEED);
    project.apply();
    project
}

fn digest(project: &Project, name: &str) -> String {
    format!("sha256:{}", &project.script(&format!("sha256sum {name}"))[..64])
}

/// Writes another manifest of a project.
fn write_manifest(project: &Project, manifest: &str) {
    project.write("build.yaml", &format!("version: 1\n{}", manifest.replace("$TOOLS", TOOLS)));
}

/// Writes a manifest with a container on this root, after a step of another container.
fn on_root(project: &Project, rootfs: &str) {
    write_manifest(
        project,
        &format!(
            r#"
containers:
  other: {{ rootfs: $TOOLS }}
  c: {{ rootfs: {{ {rootfs} }} }}
steps:
  - {{ name: early, container: other, run: "echo early" }}
  - {{ name: look, container: c, run: "cat /etc/marker" }}
  - {{ name: layer, container: c, snapshot: {{}} }}
"#
        ),
    );
}

#[test]
fn a_file_with_another_digest_is_refused_before_any_step_runs() {
    let project = seed();
    for (form, file) in FORMS {
        let found = digest(&project, file);
        on_root(&project, &format!("{form}: {file}, digest: \"{found}\""));
        assert_eq!(Built::succeed(&project).lines("look"), ["meant"], "{form}");
        let meant = format!("sha256:{}", "0".repeat(64));
        on_root(&project, &format!("{form}: {file}, digest: \"{meant}\""));
        let path = project.path(file).display().to_string();
        // Also where the store has everything.
        for arguments in
            [&["apply"][..], &["apply", "--no-cache"], &["plan"], &["lock"], &["run", "c", "--", "cat", "/etc/marker"]]
        {
            let run = project.runner(arguments);
            assert_eq!(run.code, 2, "{form} {arguments:?}: {run}");
            let error = format!("error: {path} has the digest {found}, and the manifest names {meant}\n");
            assert!(run.stderr.contains(&error), "{form} {arguments:?}: {run}");
            let help =
                format!("help: restore the file that was meant; or, if this one is meant, write `digest: {found}`\n");
            assert!(run.stderr.contains(&help), "{form} {arguments:?}: {run}");
            assert!(!run.stdout.contains("early") && !run.stdout.contains("meant"), "{form} {arguments:?}: {run}");
            assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
        }
        // It reads no large file.
        let validate = project.runner(&["validate"]);
        assert_eq!(validate.code, 0, "{form}: {validate}");
        // A build of the other container does not need the file.
        let other = project.runner(&["apply", "--target", "early"]);
        assert_eq!(other.code, 0, "{form}: {other}");
    }
}

#[test]
fn a_file_with_a_digest_is_hashed_once() {
    let project = seed();
    for (form, file) in FORMS {
        // Larger than everything else that is read, and content after the end of each form is no part of the root.
        let (size, path) = (24 << 20, project.path(file));
        fs::File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
        on_root(&project, &format!("{form}: {file}, digest: \"{}\"", digest(&project, file)));
        let trace = project.path("trace");
        let strace = format!("exec strace -f -qq -y -o {} -e trace=read,pread64 \"$@\"", trace.display());
        let run = project.runner_in_shell(&strace, &["apply", "--progress", "json"]);
        assert_eq!(run.code, 0, "{form}: {run}");
        let of_file = format!("{}>", path.display());
        let text = fs::read_to_string(&trace).unwrap();
        let calls = text.lines().filter(|line| line.contains(&of_file));
        let bytes: u64 = calls.filter_map(|line| line.rsplit(" = ").next()?.parse::<u64>().ok()).sum();
        // An archive is read once more, up to its end, to be unpacked.
        let most = if form == "tar" { 2 * size } else { size + (1 << 20) };
        assert!((size..=most).contains(&bytes), "{form}: {bytes} bytes of {size} were read");
    }
}

#[test]
fn a_file_that_a_step_changes_after_its_check_is_not_used() {
    let project = seed();
    for (form, file) in FORMS {
        project.script(&format!("mkdir -p w; cp {file} w"));
        write_manifest(
            &project,
            &format!(
                r#"
containers:
  other: {{ rootfs: $TOOLS, mounts: [{{ type: bind, source: w, target: /w }}] }}
  c: {{ rootfs: {{ {form}: w/{file}, digest: "{}" }} }}
steps:
  # Behind everything that the root is made of.
  - {{ name: early, container: other, run: "echo more >> /w/{file}" }}
  - {{ name: look, container: c, needs: [early], run: "cat /etc/marker" }}
"#,
                digest(&project, file)
            ),
        );
        let built = Built::of(&project, &["--no-cache"]);
        assert_eq!((built.run.code, built.status("early")), (2, "ran"), "{form}: {}", built.run);
        assert!(built.reason("look").contains("and the manifest names sha256:"), "{form}: {}", built.run);
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

#[test]
fn an_erofs_root_is_locked_verified_and_compared_like_a_squashfs_root() {
    let project = seed();
    on_root(&project, "erofs: root.erofs");
    assert_eq!(project.runner(&["lock"]).code, 0);
    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    assert!(lock.contains("kind = \"erofs\"\n") && lock.contains(&digest(&project, "root.erofs")), "{lock}");
    let locked = Built::of(&project, &["--locked"]);
    assert_eq!((locked.run.code, locked.status("look")), (0, "cached"), "{}", locked.run);
    let verify = project.runner(&["verify"]);
    assert_eq!(verify.code, 0, "{verify}");
    // The whole root below the layer is mounted for a comparison; and an image alone.
    let diff = project.runner(&["diff", "./root.erofs", "layer"]);
    assert_eq!(diff.code, 0, "{diff}");
    assert!(diff.stdout.contains("no difference") && diff.stderr.is_empty(), "{diff}");
    let diff = project.runner(&["diff", "./root.erofs", "./root.squashfs"]);
    assert!(diff.code == 0 && diff.stdout.contains("no difference"), "{diff}");
    // Another file is another root.
    project.script("rm -rf tree; unsquashfs -q -n -d tree root.squashfs > /dev/null; echo other > tree/etc/marker; rm root.erofs; mkfs.erofs root.erofs tree");
    let locked = project.runner(&["apply", "--locked"]);
    assert_eq!(locked.code, 4, "{locked}");
    assert!(locked.stderr.contains("the rootfs of container c: locked erofs sha256:"), "{locked}");
    assert_eq!(Built::succeed(&project).lines("look"), ["other"]);
    assert_eq!(project.leftovers(verify.pid), Vec::<String>::new());
}

#[test]
fn an_erofs_root_gives_the_rights_of_a_squashfs_root() {
    let project = seed();
    project.script(
        "unsquashfs -q -n -d tree root.squashfs > /dev/null; mknod -m 666 tree/etc/loop c 10 237
         cp tree/usr/bin/id tree/etc/id; chmod 4755 tree/etc/id; rm root.*
         mksquashfs tree root.squashfs -quiet -no-progress; mkfs.erofs -zlz4 root.erofs tree",
    );
    let seen = |form: &str, file: &str, rest: &str| {
        write_manifest(
            &project,
            &format!(
                r#"
containers: {{ c: {{ rootfs: {{ {form}: {file} }}, user: "1000"{rest} }} }}
steps:
  - {{ name: look, run: "/etc/id -u; cat /etc/loop 2>&1 || true; echo x 2>&1 > /etc/marker || true; echo y > /new || true" }}
"#
            ),
        );
        Built::succeed(&project).text("look")
    };
    for rest in ["", ", no_new_privileges: false", ", read_only: true"] {
        let expected = seen("squashfs", "root.squashfs", rest);
        assert_eq!(seen("erofs", "root.erofs", rest), expected, "{rest}");
        let user = if rest.contains("no_new") { "0\n" } else { "1000\n" };
        assert!(expected.starts_with(user) && expected.contains("/etc/loop: Operation not permitted"), "{expected}");
    }
}

#[test]
fn a_damaged_erofs_image_ends_the_build_with_its_reason() {
    let project = seed();
    on_root(&project, "erofs: root.erofs");
    // The checksum of the superblock.
    let file = fs::File::options().read(true).write(true).open(project.path("root.erofs")).unwrap();
    let mut checksum = [0; 4];
    file.read_exact_at(&mut checksum, 1028).unwrap();
    file.write_all_at(&checksum.map(|byte| !byte), 1028).unwrap();
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    assert!(built.reason("look").contains("it is a damaged EROFS image"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

also_with_runc! {
    an_erofs_root_gives_the_rights_of_a_squashfs_root,
}
