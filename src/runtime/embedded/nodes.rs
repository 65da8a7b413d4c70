//! Lists the content of a step's own `/dev`: the usual nodes and links, and the devices of config.json.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

/// Character devices that every container has: name, major and minor.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Links that every container has, as with the OCI runtime specification and runc.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A file of `/dev`, with its path relative to `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevFile {
    pub path: PathBuf,
    pub kind: DevFileKind,
}

/// The type of a file of `/dev`, with the properties of that type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevFileKind {
    /// A directory for the files below it.
    Directory,
    /// A node, whose mode includes the type, see mknod(2).
    Node { mode: u32, major: u32, minor: u32, uid: u32, gid: u32 },
    /// A symbolic link.
    Link { target: OsString },
}

/// Lists the files, each directory before the files in it. A device of config.json replaces a usual file of its name, as with
/// runc.
///
/// # Errors
/// Where config.json lists a device that is not below `/dev`, or with a negative number.
pub fn files(spec: &Spec) -> io::Result<Vec<DevFile>> {
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref()).into_iter().flatten();
    let devices = devices.map(of_device).collect::<io::Result<Vec<DevFile>>>()?;
    // This process has not entered the container's root, so this is the host's file, which depends on the kernel.
    let has_core = Path::new("/proc/kcore").exists();
    let links = LINKS.into_iter().filter(|(name, _)| *name != "core" || has_core);
    let usual = NODES.map(|(name, major, minor)| {
        let mode = libc::S_IFCHR | 0o666;
        DevFile { path: name.into(), kind: DevFileKind::Node { mode, major, minor, uid: 0, gid: 0 } }
    });
    let links =
        links.map(|(name, target)| DevFile { path: name.into(), kind: DevFileKind::Link { target: target.into() } });
    let mut files: Vec<DevFile> = Vec::new();
    for file in usual.into_iter().chain(links).chain(devices) {
        files.retain(|other| other.path != file.path);
        for directory in
            file.path.ancestors().skip(1).filter(|path| *path != Path::new("")).collect::<Vec<_>>().iter().rev()
        {
            if !files.iter().any(|other| other.path == *directory) {
                files.push(DevFile { path: directory.to_path_buf(), kind: DevFileKind::Directory });
            }
        }
        files.push(file);
    }
    Ok(files)
}

fn of_device(device: &LinuxDevice) -> io::Result<DevFile> {
    let wrong =
        |why: &dyn std::fmt::Display| io::Error::other(format!("the device {}: {why}", device.path().display()));
    let path = device.path().strip_prefix("/dev").map_err(|error| wrong(&error))?;
    if path == OsStr::new("") {
        return Err(wrong(&"it has no name"));
    }
    let number = |number: i64| u32::try_from(number).map_err(|error| wrong(&error));
    let kind = match device.typ() {
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    let kind = DevFileKind::Node {
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: number(device.major())?,
        minor: number(device.minor())?,
        uid: device.uid().unwrap_or_default(),
        gid: device.gid().unwrap_or_default(),
    };
    Ok(DevFile { path: path.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, LinuxDeviceBuilder, SpecBuilder};

    use super::*;

    fn listed(devices: &[(&str, i64)]) -> io::Result<Vec<DevFile>> {
        let devices = devices.iter().map(|(path, minor)| {
            let device = LinuxDeviceBuilder::default().path(*path).typ(LinuxDeviceType::B).major(7).minor(*minor);
            device.file_mode(0o640u32).uid(3u32).gid(6u32).build().unwrap()
        });
        let linux = LinuxBuilder::default().devices(devices.collect::<Vec<_>>()).build().unwrap();
        files(&SpecBuilder::default().linux(linux).build().unwrap())
    }

    #[test]
    fn a_listed_device_replaces_a_usual_one_and_follows_its_directories() {
        let files = listed(&[("/dev/null", 1), ("/dev/net/deep/tun", 2), ("/dev/net/tap", 3)]).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
        let usual = ["zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr"];
        assert_eq!(names[..9], usual);
        let listed = ["ptmx", "null", "net", "net/deep", "net/deep/tun", "net/tap"];
        assert_eq!(names[names.len() - 6..], listed);
        let null = files.iter().find(|file| file.path == Path::new("null")).unwrap();
        let mode = libc::S_IFBLK | 0o640;
        assert_eq!(null.kind, DevFileKind::Node { mode, major: 7, minor: 1, uid: 3, gid: 6 });
        let net = files.iter().find(|file| file.path == Path::new("net")).unwrap();
        assert_eq!(net.kind, DevFileKind::Directory);
    }

    #[test]
    fn devices_outside_dev_or_with_invalid_numbers_are_refused() {
        assert!(listed(&[]).is_ok());
        for device in [("/etc/loop", 0), ("/dev", 0), ("/dev/loop", -1), ("/dev/loop", i64::MAX)] {
            assert!(listed(&[device]).is_err(), "{device:?}");
        }
    }
}
