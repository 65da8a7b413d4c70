//! Names a device that a step may not open, and the key that adds it to the container.

use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, major, minor};

use super::{Failed, SessionFacts, mount_of, paths};
use crate::model::{Container, Device};
use crate::session::FileInside;

/// EPERM, with which the rules of a cgroup refuse a device, and ENOENT.
const REFUSED: &[&str] = &["operation not permitted"];
const ABSENT: &[&str] = &["no such file or directory"];

/// Programs whose EPERM does not come from opening a device.
const MAKERS: [&str; 4] = ["mknod:", "chown:", "chmod:", "setfacl:"];

/// The names that every container has below `/dev`.
const OWN: [&str; 14] = [
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "console", "shm", "mqueue", "fd", "stdin",
    "stdout",
];

/// Returns the hint for a device that the step was refused, or that is missing although the host has it.
pub(super) fn hint(container: &Container, failed: Failed<'_>, inside: &impl SessionFacts) -> Option<String> {
    let is_maker = |line: &&str| MAKERS.iter().any(|maker| line.contains(maker));
    let refused = failed.lines(REFUSED).filter(|line| !is_maker(line)).flat_map(paths);
    let refused = refused.filter(|path| !is_own(path)).find_map(|path| refused_at(container, path, inside));
    refused.or_else(|| {
        let absent = failed.lines(ABSENT).flat_map(paths).filter(|path| !is_own(path));
        let mut absent = absent.filter(|path| container.devices.iter().all(|device| device.target != **path));
        absent.find_map(|path| {
            let on_this_host = inside.host_device(path, None)?;
            Some(unlisted(container, path, "a device of the host", Some(&on_this_host)))
        })
    })
}

fn is_own(path: &Path) -> bool {
    path.strip_prefix("/dev")
        .is_ok_and(|name| OWN.iter().any(|own| name.starts_with(own)) || name == Path::new("stderr"))
}

fn refused_at(container: &Container, path: &Path, inside: &impl SessionFacts) -> Option<String> {
    if let Some(device) = container.devices.iter().find(|device| device.target == path) {
        return too_little(device);
    }
    let node = inside.file(path).filter(|file| kind(*file).is_some());
    let on_this_host = inside.host_device(path, node);
    match node {
        Some(node) => {
            let number = format!("the {} device {}:{}", kind(node)?, major(node.device), minor(node.device));
            Some(unlisted(container, path, &number, on_this_host.as_deref()))
        }
        None if mount_of(container, path).is_none() && on_this_host.is_some() => {
            Some(unlisted(container, path, "a device", on_this_host.as_deref()))
        }
        None => None,
    }
}

fn kind(file: FileInside) -> Option<&'static str> {
    match file.file_type() {
        FileType::CharacterDevice => Some("character"),
        FileType::BlockDevice => Some("block"),
        _ => None,
    }
}

/// Returns the hint for a listed device, whose `access` may be too little for the step.
fn too_little(device: &Device) -> Option<String> {
    let (read, write) = (device.access.read, device.access.write);
    if read && write {
        return None;
    }
    let has = match (read, write) {
        (true, _) => "read",
        (_, true) => "write",
        _ => "make nodes of",
    };
    Some(format!(
        "container steps may only {has} {} (`access` of the device); write `access: rw` there, if the step needs it",
        device.target.display()
    ))
}

fn unlisted(container: &Container, path: &Path, what: &str, host: Option<&Path>) -> String {
    let (shown, name) = (path.display(), &container.name);
    let fix = match host {
        Some(host) if host == path => format!("write `devices: [{shown}]` there"),
        Some(host) => format!("write `devices: [{{path: {}, target: {shown}}}]` there", host.display()),
        None => format!("write `devices: [{{path: PATH, target: {shown}}}]` there, with its path on the host"),
    };
    format!("{shown} is {what}, which container {name} does not list; if the step needs it, {fix}")
}

/// Returns the path on the host of the device with the number of a node, or at a path below `/dev`.
pub(super) fn on_host(path: &Path, node: Option<FileInside>) -> Option<PathBuf> {
    let is_device = |path: &Path| {
        let found = path.symlink_metadata().map(|metadata| metadata.file_type());
        found.is_ok_and(|found| found.is_char_device() || found.is_block_device())
    };
    let Some(node) = node else {
        let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        return (is_plain && path.starts_with("/dev") && is_device(path)).then(|| path.to_owned());
    };
    let directory = if kind(node)? == "block" { "block" } else { "char" };
    let file = format!("/sys/dev/{directory}/{}:{}/uevent", major(node.device), minor(node.device));
    let text = std::fs::read_to_string(file).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name)).filter(|path| is_device(path))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;
    use crate::model::Access;

    fn found() -> TestSession {
        let mut found = TestSession { devices: vec!["/dev/kvm".into(), "/dev/sda".into()], ..TestSession::default() };
        found.files.insert("/node".into(), FileInside { mode: 0o020600, uid: 0, gid: 0, device: 0 });
        found.files.insert("/disk".into(), FileInside { mode: 0o060600, uid: 0, gid: 0, device: 2049 });
        found.files.insert("/file".into(), FileInside { mode: 0o100600, uid: 0, gid: 0, device: 0 });
        found
    }

    #[test]
    fn an_unlisted_device_is_named_with_the_key_devices() {
        let hinted_for = |printed| hinted(&container(&[]), 0, printed, &found());
        for (printed, expected) in [
            (
                "sh: 1: cannot open /node: Operation not permitted",
                "/node is the character device 0:0, which container c0 does not list; if the step needs it, write `devices: \
                 [{path: /dev/kvm, target: /node}]` there",
            ),
            (
                "dd: failed to open '/disk': Operation not permitted",
                "/disk is the block device 8:1, which container c0 does not list; if the step needs it, write `devices: \
                 [{path: PATH, target: /disk}]` there, with its path on the host",
            ),
            (
                "open /dev/kvm: operation not permitted",
                "/dev/kvm is a device, which container c0 does not list; if the step needs it, write `devices: [/dev/kvm]` there",
            ),
            (
                "Could not access /dev/kvm: No such file or directory",
                "/dev/kvm is a device of the host, which container c0 does not list; if the step needs it, write `devices: \
                 [/dev/kvm]` there",
            ),
        ] {
            assert_eq!(hinted_for(printed).as_deref(), Some(expected), "{printed}");
        }
        for printed in [
            "cat: /file: Operation not permitted",
            "mknod: /dev/kvm: Operation not permitted",
            "chown: changing ownership of '/node': Operation not permitted",
            "ioctl /dev/null: Operation not permitted",
            "cat: /dev/other: Operation not permitted",
            "cat: /dev/other: No such file or directory",
        ] {
            assert_eq!(hinted_for(printed), None, "{printed}");
        }
    }

    #[test]
    fn a_listed_device_with_too_little_access_is_named_with_the_key_access() {
        let mut container = container(&[]);
        let access = Access { read: true, write: false, mknod: false };
        let device =
            Device { path: "/dev/kvm".into(), target: "/dev/kvm".into(), access, mode: None, uid: None, gid: None };
        container.devices = vec![device];
        let printed = "sh: cannot create /dev/kvm: Operation not permitted";
        let hint_text = hinted(&container, 0, printed, &found()).unwrap();
        assert!(
            hint_text.starts_with("container steps may only read /dev/kvm") && hint_text.contains("`access: rw`"),
            "{hint_text}"
        );
        container.devices[0].access.write = true;
        assert_eq!(hinted(&container, 0, printed, &found()), None);
    }

    #[test]
    fn a_device_of_the_host_is_found_by_its_number_only_below_dev() {
        let null = FileInside { mode: 0o020666, uid: 0, gid: 0, device: rustix::fs::makedev(1, 3) };
        assert_eq!(on_host(Path::new("/x"), Some(null)).as_deref(), Some(Path::new("/dev/null")));
        assert_eq!(on_host(Path::new("/dev/null"), None).as_deref(), Some(Path::new("/dev/null")));
        for path in ["/dev/../dev/null", "/dev/missing", "/etc/passwd", "dev/null"] {
            assert_eq!(on_host(Path::new(path), None), None, "{path}");
        }
    }
}
