//! Writes the files of `/etc` that a session adds to its root: `hosts` if the root has none, and the host's `resolv.conf` with
//! the host's network.
//!
//! They are ordinary files of the skeleton layer, so that a step can change, replace or remove them. A snapshot contains a step's
//! changes to them, but not the files that runner has written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::LowerLayer;
use super::skeleton::{below, make};
use crate::error::context;
use crate::fs::in_root::{self, ResolvedPath, resolve};
use crate::fs::regular;
use crate::model::{Container, Network};
use crate::named_paths::{NamedPaths, RESOLV_CONF};

const HOSTS: &str = "/etc/hosts";

/// The longest resolv.conf: glibc reads only three servers of it.
const MAX_BYTES: u64 = 1 << 20;

/// A file that a session adds to its root.
#[derive(Debug)]
pub struct EtcFile {
    path: &'static str,
    content: Vec<u8>,
    /// Whether it replaces a file of the root.
    replaces: bool,
}

/// Returns the files for a container.
///
/// # Errors
/// Those of reading the host's resolv.conf.
pub fn files(container: &Container, paths: &NamedPaths) -> io::Result<Vec<EtcFile>> {
    let mut files = vec![EtcFile { path: HOSTS, content: hosts(&container.hostname), replaces: false }];
    let resolv = Path::new(RESOLV_CONF);
    if container.network == Network::Host && paths.is_named(resolv) {
        let read = || {
            let mut content = Vec::new();
            let file: File = regular::reopen(paths.get(resolv)?.as_fd())?;
            file.take(MAX_BYTES).read_to_end(&mut content)?;
            Ok(content)
        };
        let content = read().map_err(context::<io::Error>(format_args!("read {RESOLV_CONF}")))?;
        files.push(EtcFile { path: RESOLV_CONF, content, replaces: true });
    }
    Ok(files)
}

fn hosts(hostname: &str) -> Vec<u8> {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if hostname != "localhost" {
        text.push_str(&format!("127.0.1.1\t{hostname}"));
        if let Some((short, _)) = hostname.split_once('.').filter(|(short, _)| !short.is_empty()) {
            text.push_str(&format!(" {short}"));
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Writes the files in `skeleton`, except those that one of `mounts` will hide, and those that steps of the container have
/// made, changed or removed in one of `own`, the layers of its earlier snapshots.
///
/// # Errors
/// Where `/etc` of the root is no directory, or the path of a file is a directory.
pub fn write(
    root: &Path,
    skeleton: &Path,
    files: &[EtcFile],
    mounts: &[PathBuf],
    own: &[LowerLayer],
) -> io::Result<()> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for file in files {
        write_one(root.as_fd(), skeleton, file, mounts, own)
            .map_err(context(format_args!("write {} in the root", file.path)))?;
    }
    Ok(())
}

fn write_one(
    root: BorrowedFd<'_>,
    skeleton: &Path,
    file: &EtcFile,
    mounts: &[PathBuf],
    own: &[LowerLayer],
) -> io::Result<()> {
    let target = Path::new(file.path);
    let (Some(above), Some(name)) = (target.parent(), target.file_name()) else { return Ok(()) };
    let mut place = resolve(root, above)?;
    let path = place.path().join(name);
    if mounts.iter().any(|mount| path.starts_with(mount)) {
        return Ok(());
    }
    let wrong = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("{problem} in the container")));
    if place.missing.is_empty() {
        match kind(root, &path)? {
            _ if place.kind != FileType::Directory => {
                return if file.replaces { wrong(&format!("{} is a file", above.display())) } else { Ok(()) };
            }
            Some(FileType::Directory) => return wrong(&format!("{} is a directory", file.path)),
            Some(_) if !file.replaces => return Ok(()),
            _ => {}
        }
    }
    for layer in own {
        let layer = rustix::fs::open(layer.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if kind(layer.as_fd(), &path)?.is_some() {
            return Ok(());
        }
    }
    place.missing.push(name.to_owned());
    make(root, skeleton, &ResolvedPath { kind: FileType::Directory, ..place }, false)?;
    let made = below(skeleton, &path);
    fs::write(&made, &file.content)?;
    // The same time in all builds, because a step may copy it with the file.
    File::options().write(true).open(&made)?.set_modified(std::time::UNIX_EPOCH)
}

/// Returns the type of the file at a path; none where it does not exist.
fn kind(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<FileType>> {
    match in_root::open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(file) => Ok(Some(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_with_a_domain_resolves_with_and_without_it() {
        let text = |hostname| String::from_utf8(hosts(hostname)).unwrap();
        assert!(text("c").ends_with("\n127.0.1.1\tc\n"));
        assert!(text("box.example.org").ends_with("\n127.0.1.1\tbox.example.org box\n"));
        assert!(!text("localhost").contains("127.0.1.1"));
    }
}
