//! Device rules that libcontainer gets wrong for us: it opens /dev/net/tun to every container.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// `c 10:200`, /dev/net/tun, as the device cgroup writes it.
const TUN: &str = "c 10:200 rw";

/// Takes back the access to /dev/net/tun that libcontainer gives with its default rules.
///
/// # Errors
/// Where the container's device cgroup cannot be found or written to.
pub fn close_tun(id: &str, pid: Option<i32>) -> Result<(), Box<dyn Error>> {
    let Some(pid) = pid else { return Err("the container has no process".into()) };
    let Some(folder) = v1_folder(id, pid)? else { return Ok(()) };
    let file = folder.join("devices.deny");
    let mut file = fs::OpenOptions::new().write(true).open(&file).map_err(|error| format!("open {}: {error}", file.display()))?;
    Ok(file.write_all(TUN.as_bytes())?)
}

/// The container's folder in the v1 hierarchy of the device controller, if this host has that.
fn v1_folder(id: &str, pid: i32) -> Result<Option<PathBuf>, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let Some(path) = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|name| name == "devices").then_some(path)
    }) else {
        return Ok(None);
    };
    if !path.ends_with(id) {
        return Err(format!("the container is in the device cgroup {path}, not in one of its own").into());
    }
    let mount = libcgroups_mount()?;
    Ok(mount.map(|mount| mount.join(path.trim_start_matches('/'))))
}

/// Where the v1 device controller is mounted, from /proc/self/mountinfo, see proc(5).
fn libcgroups_mount() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let is_devices = filesystem.next()? == "cgroup" && filesystem.nth(1)?.split(',').any(|option| option == "devices");
        is_devices.then(|| Path::new(mount.split(' ').nth(4).unwrap_or_default()).to_owned())
    }))
}
