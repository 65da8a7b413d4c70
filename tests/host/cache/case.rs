//! A change of one container of a project, and the reason for which its steps then run.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::project::Project;

/// A container before and after a change, and the reason for which its steps then run.
pub struct Case {
    pub name: &'static str,
    /// Keys of the container, and its steps but the snapshot, `;` between them.
    pub before: (&'static str, &'static str, &'static str),
    pub after: (&'static str, &'static str, &'static str),
    /// The change of the files of `in/NAME/`.
    pub change: fn(&Path),
    pub reasons: Value,
}

pub const ROOT: &str = "rootfs: { programs: [/bin/sh] }";
pub const RUN: &str = "run: ':'";
pub const BIND: &str = "mounts: [{ type: bind, source: in/NAME, target: /in, options: [ro] }]";

/// Returns a change of the container's keys.
pub fn container(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: (before, RUN, ""), after: (after, RUN, ""), change: |_| (), reasons }
}

/// Returns a change of the steps.
pub fn steps(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: ("", before, ""), after: ("", after, ""), change: |_| (), reasons }
}

/// Returns a change of the snapshot.
pub fn image(name: &'static str, before: &'static str, after: &'static str, reasons: Value) -> Case {
    Case { name, before: ("", RUN, before), after: ("", RUN, after), change: |_| (), reasons }
}

/// Returns a change of host files, which a bind or the root shows.
pub fn files(name: &'static str, keys: &'static str, change: fn(&Path), reasons: Value) -> Case {
    Case { name, before: (keys, RUN, ""), after: (keys, RUN, ""), change, reasons }
}

/// Returns a change of the root, in which nothing can run.
pub fn root(name: &'static str, keys: &'static str, change: fn(&Path)) -> Case {
    Case { name, before: (keys, "", ""), after: (keys, "", ""), change, reasons: below(name) }
}

/// Returns a change that no key contains.
pub fn nothing(
    name: &'static str,
    before: (&'static str, &'static str, &'static str),
    after: (&'static str, &'static str, &'static str),
) -> Case {
    Case { name, before, after, change: |_| (), reasons: Value::Null }
}

/// Returns the reason that a field of the container, the snapshot or the build has changed.
pub fn setting(field: &str, old: impl Into<Option<&'static str>>, new: impl Into<Option<&'static str>>) -> Value {
    json!([{ "kind": "setting_changed", "field": field, "old": old.into(), "new": new.into() }])
}

/// Returns the reason that a field of the first step has changed.
pub fn step(step: &str, field: &str, old: Option<&str>, new: Option<&str>) -> Value {
    json!({ "kind": "step_changed", "step": step, "field": field, "old": old, "new": new })
}

pub fn input(files: &[&str], more: u64) -> Value {
    json!([{ "kind": "input_changed", "target": "/in", "files": files, "more": more }])
}

pub fn below(name: &str) -> Value {
    json!([{ "kind": "below_changed", "what": format!("the rootfs of {name}") }])
}

/// Returns the steps of a container, as the manifest has them, and its snapshot.
pub fn written(case: &Case, (keys, steps, snapshot): (&str, &str, &str)) -> (String, String) {
    let Case { name, .. } = case;
    let root = if keys.contains("rootfs:") { String::new() } else { format!("{ROOT}, ") };
    let container = format!("  {name}: {{ {root}{} }}\n", keys.replace("NAME", name));
    let mut list = String::new();
    for (n, step) in steps.split(";; ").filter(|step| !step.is_empty()).enumerate() {
        list.push_str(&format!("  - {{ name: {name}-{n}, container: {name}, {} }}\n", step.replace("NAME", name)));
    }
    list.push_str(&format!("  - {{ name: {name}-s, container: {name}, snapshot: {{ {snapshot} }} }}\n"));
    (container, list)
}

pub fn manifest(cases: &[Case], after: bool) -> String {
    let (mut containers, mut steps) = (String::new(), String::new());
    for case in cases {
        let (container, list) = written(case, if after { case.after } else { case.before });
        containers.push_str(&container);
        steps.push_str(&list);
    }
    format!("version: 1\nname: table\ncontainers:\n{containers}steps:\n{steps}")
}

/// Returns a project with the files of the host that the cases read.
pub fn project(cases: &[Case]) -> Project {
    let project = Project::new(&manifest(cases, false));
    for Case { name, .. } in cases {
        project.write(&format!("in/{name}/file"), "one");
        project.write(&format!("in/{name}/root/file"), "one");
        project.write(&format!("in/{name}/root/again"), "one");
        project.write(&format!("in/{name}/.runnerignore"), "/junk\n");
        let (directory, root) = (project.path(&format!("in/{name}")), project.path(&format!("in/{name}/root")));
        pack(&root, &directory);
    }
    project
}

/// Writes the tree as an archive and as an image beside it.
pub fn pack(root: &Path, directory: &Path) {
    let script = "tar -C \"$1\" -cf \"$2/root.tar\" . && \
         mksquashfs \"$1\" \"$2/root.squashfs\" -quiet -no-progress -noappend -all-time 0 -mkfs-time 0 > /dev/null";
    let done = Command::new("sh").args(["-ec", script, "sh"]).args([root, directory]).status().unwrap();
    assert!(done.success());
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn set_time(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

pub fn repack(directory: &Path) {
    fs::write(directory.join("root/file"), "two").unwrap();
    pack(&directory.join("root"), directory);
}
