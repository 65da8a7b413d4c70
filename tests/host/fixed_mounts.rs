//! Mounts whose content no step changes: the root of a snapshot, and images of the host.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::built::{Built, names_in, project};
use crate::project::Project;

also_with_runc! {
    a_mounted_snapshot_is_read_only_in_no_image_and_in_the_key_by_its_content,
    an_image_is_mounted_read_only_and_another_one_builds_again,
}

const SDK: &str = r#"
containers:
  sdk: { rootfs: $TOOLS }
  product: { rootfs: $TOOLS, mounts: [{ type: snapshot, step: sdk, path: /opt, target: /sdk }] }
steps:
  - { name: make, container: sdk, run: "mkdir -p /opt/deep /var; echo tool > /opt/deep/tool; chmod 4755 /opt/deep/tool; echo other > /var/other" }
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: use, container: product, run: "cat /sdk/deep/tool > /tool; touch /sdk/x 2>&1 || true; grep ' /sdk ' /proc/self/mountinfo" }
  - { name: product, container: product, snapshot: { output: product.squashfs } }
"#;

fn change(project: &Project, from: &str, to: &str) {
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    assert!(text.contains(from), "{text}");
    project.write("build.yaml", &text.replace(from, to));
}

#[test]
fn a_mounted_snapshot_is_read_only_in_no_image_and_in_the_key_by_its_content() {
    let project = project(SDK);
    let built = Built::succeed(&project);
    let text = built.text("use");
    assert!(text.contains("Read-only file system"), "{text}");
    let options = text.lines().find(|line| line.contains(" /sdk ")).unwrap();
    assert!(["ro", "nosuid", "nodev"].iter().all(|option| options.contains(option)), "{options}");
    assert_eq!(names_in(&project.path("product.squashfs")), ["/tool"]);
    assert_eq!(Built::succeed(&project).status("use"), "cached");
    change(&project, "echo other", "echo another");
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("runs if the files that it takes from sdk have changed"), "{plan}");
    let built = Built::succeed(&project);
    assert_eq!((built.status("sdk"), built.status("use")), ("ran", "cached"));
    change(&project, "echo tool", "echo better");
    let built = Built::succeed(&project);
    assert_eq!(built.status("use"), "ran");
    let started = built.all("step_started").into_iter().find(|event| event["step"] == "use").unwrap().to_string();
    assert!(started.contains("input_changed") && started.contains("deep/tool"), "{started}");
}

#[test]
fn a_whole_snapshot_and_one_file_of_it_are_mounted() {
    let project = project(
        &SDK.replace(
            "path: /opt, target: /sdk }]",
            "target: /sdk }, { type: snapshot, step: sdk, path: /opt/deep/tool, target: /one }]",
        )
        .replace("/sdk/deep/tool", "/sdk/opt/deep/tool"),
    );
    change(&project, "cat /sdk/opt", "cat /one; cat /sdk/opt");
    let built = Built::succeed(&project);
    assert!(built.text("use").starts_with("tool\n"), "{}", built.text("use"));
    assert_eq!(Built::succeed(&project).status("product"), "cached");
    // Nearly every change of a whole root changes it.
    change(&project, "echo other", "echo another");
    assert_eq!(Built::succeed(&project).status("use"), "ran");
}

#[test]
fn a_snapshot_that_lacks_the_path_fails_the_step_with_the_nearest_part() {
    let project = project(&SDK.replace("path: /opt,", "path: /opt/depe,"));
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    let reason = built.reason("use");
    assert!(
        reason.contains("mount /sdk")
            && reason.contains("there is no /opt/depe in the root at sdk: /opt is the last part"),
        "{reason}"
    );
}

#[test]
fn a_command_and_a_shell_in_the_container_have_the_snapshot_mounted() {
    let project = project(SDK);
    let run = project.runner(&["run", "product", "--", "cat", "/sdk/deep/tool"]);
    assert_eq!((run.code, run.stdout.lines().last()), (0, Some("tool")), "{run}");
    project.apply();
    let run = project.runner(&["run", "product", "--", "cat", "/sdk/deep/tool"]);
    assert_eq!((run.code, run.stdout.lines().last()), (0, Some("tool")), "{run}");
    change(&project, "cat /sdk/deep/tool > /tool;", "exit 3;");
    assert_eq!(Built::of(&project, &[]).status("use"), "failed");
    for arguments in [&["plan"][..], &["graph"], &["validate"]] {
        let run = project.runner(arguments);
        assert_eq!(run.code, 0, "{run}");
    }
}

#[test]
fn a_shell_in_a_failed_step_has_the_snapshot_that_only_the_step_has_mounted() {
    let project = project(
        r#"
containers: { sdk: { rootfs: $TOOLS }, product: { rootfs: $TOOLS } }
steps:
  - { name: make, container: sdk, run: "mkdir /opt; echo tool > /opt/tool" }
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: use, container: product, run: "exit 3", mounts: [{ type: snapshot, step: sdk, path: /opt, target: /sdk }] }
"#,
    );
    assert_eq!(Built::of(&project, &[]).status("use"), "failed");
    let run = project.runner_in_shell("echo 'cat /sdk/tool' | \"$@\"", &["shell", "use"]);
    assert!(run.stdout.lines().any(|line| line == "tool"), "{run}");
}

#[test]
fn links_of_a_hostile_snapshot_lead_nowhere_outside() {
    let project = project(
        r#"
containers:
  sdk: { rootfs: $TOOLS }
  product: { rootfs: $TOOLS, mounts: [{ type: snapshot, step: sdk, path: /up/up/etc, target: /sdk }] }
steps:
  - { name: make, container: sdk, run: "mkdir -p /etc; echo inside > /etc/name; ln -s ../../../../.. /up" }
  - { name: sdk, container: sdk, snapshot: {} }
  - { name: use, container: product, run: "ls /sdk" }
"#,
    );
    let built = Built::succeed(&project);
    assert!(!built.text("use").contains("shadow"), "{}", built.text("use"));
    assert!(built.text("use").contains("name"), "{}", built.text("use"));
}

/// Makes an image with one file in it.
fn image(project: &Project, program: &str, name: &str, text: &str) {
    project.write("tree/file", text);
    let (tree, image) = (project.path("tree"), project.path(name));
    let _ = fs::remove_file(&image);
    let arguments: [&Path; 2] = if program == "mkfs.erofs" { [&image, &tree] } else { [&tree, &image] };
    let made = Command::new(program).args(arguments).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn an_image_is_mounted_read_only_and_another_one_builds_again() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS, mounts: [{ type: image, source: image, target: /image }] } }
steps:
  - { name: use, run: "cat /image/file > /copy; cat /copy; touch /image/x 2>&1 || true; grep ' /image ' /proc/self/mountinfo" }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#,
    );
    image(&project, "mksquashfs", "image", "one\n");
    let built = Built::succeed(&project);
    let text = built.text("use");
    assert!(text.starts_with("one\n") && text.contains("Read-only file system"), "{text}");
    let options = text.lines().find(|line| line.contains(" /image ")).unwrap();
    assert!(["ro", "nosuid", "nodev", "squashfs"].iter().all(|option| options.contains(option)), "{options}");
    assert_eq!(names_in(&project.path("layer.squashfs")), ["/copy"]);
    assert_eq!(Built::succeed(&project).status("use"), "cached");
    image(&project, "mksquashfs", "image", "two\n");
    let plan = project.runner(&["plan"]);
    assert!(plan.stdout.contains("the content of /image changed"), "{plan}");
    assert!(Built::succeed(&project).text("use").starts_with("two\n"));
    project.write("image", "no image");
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 2, "{}", built.run);
    assert!(built.reason("use").contains("it is not a squashfs image"), "{}", built.run);
}

#[test]
fn an_erofs_image_is_mounted_where_the_kernel_mounts_it() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS, mounts: [{ type: image, source: image, target: /image }] } }
steps:
  - { name: use, run: "cat /image/file" }
"#,
    );
    image(&project, "mkfs.erofs", "image", "erofs\n");
    let built = Built::of(&project, &[]);
    let has_erofs = fs::read_to_string("/proc/filesystems").unwrap().contains("erofs");
    if has_erofs {
        assert_eq!(built.text("use"), "erofs\n", "{}", built.run);
    } else {
        assert!(built.reason("use").contains("this kernel does not mount EROFS; `modprobe erofs`"), "{}", built.run);
    }
}
