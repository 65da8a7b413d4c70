//! The files that a build writes into a directory that its own steps read: outputs, and logs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::{apply, count, edit, reasons, statuses, warnings};
use crate::built::project;
use crate::project::Project;

/// The first example of the documentation: outputs lie below the directory that is bound.
const CHAIN: &str = r#"
mounts: { src: { type: bind, source: tree, target: /src, options: [ro] } }
containers:
  base: { rootfs: $TOOLS, mounts: [src] }
  sdk: { rootfs: { snapshot: l0 }, mounts: [src] }
steps:
  - { name: a, container: base, run: "cat /src/file > /a" }
  - { name: l0, container: base, snapshot: { output: tree/out/l0.squashfs } }
  - { name: b, container: sdk, run: "cat /src/file > /b" }
  - { name: l1, container: sdk, snapshot: { mode: full, output: tree/out/l1.squashfs } }
"#;

fn chain() -> Project {
    let project = project(CHAIN);
    project.write("tree/file", "one");
    project
}

fn all(status: &str) -> String {
    ["a", "b", "l0", "l1"].map(|step| format!("{step}={status}")).join(" ")
}

/// Returns the file's identity and the time of its last change.
fn stamp(path: &Path) -> (u64, i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[test]
fn outputs_below_a_bound_directory_are_stored_by_the_second_build_and_taken_by_the_third() {
    for jobs in ["1", "4"] {
        let project = chain();
        let built = apply(&project, &["-j", jobs]);
        assert_eq!(statuses(&built), all("ran"));
        let warned = warnings(&built);
        for layer in ["l0", "l1"] {
            let output = project.path("tree/out").join(format!("{layer}.squashfs"));
            let fix = format!(
                "; this build itself writes {}: if the steps do not read it, name it in {}",
                output.display(),
                project.path("tree/.runnerignore").display()
            );
            let is_it = |text: &&String| text.starts_with(&format!("{layer} is not stored")) && text.ends_with(&fix);
            assert_eq!(warned.iter().filter(is_it).count(), 1, "{fix}: {warned:#?}");
        }
        assert_eq!(warned.len(), 2, "{warned:#?}");
        let written = ["l0", "l1"].map(|name| stamp(&project.path(&format!("tree/out/{name}.squashfs"))));
        let built = apply(&project, &["-j", jobs]);
        assert_eq!((statuses(&built), warnings(&built)), (all("ran"), Vec::new()), "{}", built.run);
        for _ in 0..2 {
            let built = apply(&project, &["-j", jobs]);
            assert_eq!((statuses(&built), warnings(&built)), (all("cached"), Vec::new()), "{}", built.run);
        }
        let now = ["l0", "l1"].map(|name| stamp(&project.path(&format!("tree/out/{name}.squashfs"))));
        assert_eq!(now, written, "an output that has the very bytes is left alone");
        // Another input gives other outputs, so one more build is needed.
        project.write("tree/file", "two");
        assert_eq!(warnings(&apply(&project, &["-j", jobs])).len(), 2);
        assert_eq!(statuses(&apply(&project, &["-j", jobs])), all("ran"));
        assert_eq!(statuses(&apply(&project, &["-j", jobs])), all("cached"));
    }
}

#[test]
fn an_output_of_other_bytes_or_that_others_may_write_to_is_replaced() {
    let project = chain();
    apply(&project, &[]);
    let (output, other) = (project.path("tree/out/l0.squashfs"), project.path("other"));
    let right = fs::read(&output).unwrap();
    let spoil: [(&str, &dyn Fn()); 6] = [
        ("bytes", &|| {
            let mut bytes = right.clone();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&output, bytes).unwrap();
        }),
        ("size", &|| fs::write(&output, &right[1..]).unwrap()),
        ("writable mode", &|| fs::set_permissions(&output, fs::Permissions::from_mode(0o666)).unwrap()),
        ("closed mode", &|| fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).unwrap()),
        ("owner", &|| chown(&output, Some(70_000), None).unwrap()),
        ("another name", &|| fs::hard_link(&output, &other).unwrap()),
    ];
    for (what, spoil) in spoil {
        spoil();
        let before = stamp(&output);
        apply(&project, &["--no-cache"]);
        assert_ne!(stamp(&output).0, before.0, "{what}");
        let found = fs::metadata(&output).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.nlink()), (0o644, 0, 1), "{what}");
        assert!(fs::read(&output).unwrap() == right, "{what}");
    }
    assert!(other.exists());
}

#[test]
fn an_output_that_was_replaced_by_the_same_is_named_with_the_fix() {
    let project = chain();
    apply(&project, &[]);
    fs::hard_link(project.path("tree/out/l0.squashfs"), project.path("other")).unwrap();
    let warned = warnings(&apply(&project, &[]));
    let fix = format!(
        "though all are the same again by now; this build itself writes {}: if the steps do not read it, name it in {}",
        project.path("tree/out/l0.squashfs").display(),
        project.path("tree/.runnerignore").display()
    );
    assert!(warned.len() == 1 && warned[0].ends_with(&fix), "{warned:#?}");
    project.write("tree/.runnerignore", "/out\n");
    assert_eq!(warnings(&apply(&project, &[])), Vec::<String>::new());
    assert_eq!(statuses(&apply(&project, &[])), all("cached"));
}

#[test]
fn a_log_below_a_bound_directory_is_named_with_the_fix() {
    let project = chain();
    edit(&project, "tree/out/", "out/");
    let arguments = ["--log-file", "tree/log"];
    for _ in 0..2 {
        let built = apply(&project, &arguments);
        let fix = format!(
            "; this build itself writes {}: if the steps do not read it, name it in {}",
            project.path("tree/log").display(),
            project.path("tree/.runnerignore").display()
        );
        let warned = warnings(&built);
        assert!(warned.len() == 2 && warned.iter().all(|text| text.ends_with(&fix)), "{warned:#?}");
    }
    project.write("tree/.runnerignore", "/log\n");
    assert_eq!(warnings(&apply(&project, &arguments)), Vec::<String>::new());
    let built = apply(&project, &arguments);
    assert_eq!((count(&built, "ran"), reasons(&built, "a")), (0, serde_json::Value::Null));
}

#[test]
fn a_report_below_a_bound_directory_is_named_with_the_fix() {
    let project = chain();
    edit(&project, "tree/out/", "out/");
    let arguments = ["--report", "tree/report.json"];
    apply(&project, &arguments);
    for _ in 0..2 {
        let fix = format!(
            "an input will change at the end; this build itself writes {}: if the steps do not read it, name it in {}",
            project.path("tree/report.json").display(),
            project.path("tree/.runnerignore").display()
        );
        let built = apply(&project, &arguments);
        let warned = warnings(&built);
        assert_eq!(statuses(&built), all("ran"));
        assert!(warned.len() == 2 && warned.iter().all(|text| text.ends_with(&fix)), "{warned:#?}");
    }
    project.write("tree/.runnerignore", "/report.json\n");
    assert_eq!(warnings(&apply(&project, &arguments)), Vec::<String>::new());
    assert_eq!(statuses(&apply(&project, &arguments)), all("cached"));
}
