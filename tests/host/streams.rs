//! Standard streams: the programs inside read and print, and reach nothing of the host through their descriptors.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::built::{Built, project};
use crate::project::Run;

/// Tries to change the files behind descriptors: mode, owner, times, content.
const ATTACK: &str = r#"
for fd in 0 1 2; do
  chmod 1777 /proc/self/fd/$fd; chown 4321:4321 /proc/self/fd/$fd; touch -d @1 /proc/self/fd/$fd
  [ -f /proc/self/fd/$fd ] && echo evil >> /proc/self/fd/$fd
done 2> /dev/null
true"#;

fn state(path: &Path) -> (u32, u32, u32, i64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime())
}

#[test]
fn no_step_changes_the_hosts_null_device_through_its_standard_input() {
    let null = Path::new("/dev/null");
    let before = state(null);
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS }
steps:
  - { name: attack, exec: [sh, -c, ATTACK] }
  - { name: next, run: "cat; stat -L -c %F /proc/self/fd/0" }
"#
        .replace("ATTACK", &serde_json::to_string(ATTACK).unwrap())
        .as_str(),
    );
    let built = Built::succeed(&project);
    let after = state(null);
    if after != before {
        // So that the host does not stay so.
        std::os::unix::fs::chown(null, Some(before.1), Some(before.2)).unwrap();
        fs::set_permissions(null, std::os::unix::fs::PermissionsExt::from_mode(before.0)).unwrap();
    }
    assert_eq!(before, after);
    assert_eq!(built.lines("next"), ["character special file"]);
}

#[test]
fn a_file_on_standard_input_is_read_and_cannot_be_changed() {
    for user in ["0", "1234:5678"] {
        let project = project(&format!("\ncontainers: {{ c: {{ rootfs: $TOOLS, user: '{user}' }} }}\nsteps: []\n"));
        let text = "line\n".repeat(100_000);
        project.write("input", &text);
        let before = state(&project.path("input"));
        let script = format!("cat | wc -c; {ATTACK}");
        let mut command = project.command(&["run", "c", "--", "sh", "-c", &script]);
        command.stdin(File::open(project.path("input")).unwrap());
        let run = Run::new(0, &command.output().unwrap());
        assert_eq!((run.code, run.stdout.trim()), (0, "500000"), "{run}");
        assert!(fs::read_to_string(project.path("input")).unwrap() == text, "{user}: the input has changed");
        assert_eq!(state(&project.path("input")), before, "{user}");
    }
}

#[test]
fn a_command_that_does_not_read_its_input_ends() {
    let project = project("\ncontainers: { c: { rootfs: $TOOLS } }\nsteps: []\n");
    let mut command = project.command(&["run", "c", "--", "head", "-c", "3"]);
    let run = Run::new(0, &command.stdin(File::open("/dev/zero").unwrap()).output().unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (0, "\0\0\0"), "{run}");
}

#[test]
fn a_step_of_another_user_can_open_its_own_streams_by_path() {
    let project = project(
        r#"
containers: { c: { rootfs: $TOOLS, user: "1000:1000" } }
steps:
  - { name: container, run: "echo a > /dev/stderr; echo b > /dev/stdout; echo c > /proc/self/fd/1" }
  - { name: step, user: "7", run: "echo a > /dev/stderr; echo b > /dev/stdout; stat -L -c '%u %g' /dev/stdout" }
  - { name: root, user: "0", run: "echo a > /dev/stderr; stat -L -c '%u %g' /dev/stdout" }
"#,
    );
    let built = Built::succeed(&project);
    let sorted = |step: &str| {
        let mut lines = built.lines(step);
        lines.sort();
        lines
    };
    assert_eq!(sorted("container"), ["a", "b", "c"]);
    assert_eq!(sorted("step"), ["7 0", "a", "b"]);
    assert_eq!(sorted("root"), ["0 0", "a"]);
}

also_with_runc! {
    no_step_changes_the_hosts_null_device_through_its_standard_input,
    a_file_on_standard_input_is_read_and_cannot_be_changed,
    a_command_that_does_not_read_its_input_ends,
    a_step_of_another_user_can_open_its_own_streams_by_path,
}
