//! The files of `/etc` that a session gives its root: `hosts` where there is none, and the host's `resolv.conf` with the
//! host's network.
//!
//! They are ordinary files of the skeleton layer, so that a step can change, replace or remove them. What a step makes of them
//! is in the snapshot, and what runner put there is not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Lower;
use super::skeleton::{below, make};
use crate::error::context;
use crate::fs::in_root::{self, ResolvedPath, resolve};
use crate::fs::regular;
use crate::model::{Container, Network};
use crate::named_paths::{NamedPaths, RESOLV_CONF};

const HOSTS: &str = "/etc/hosts";

/// glibc reads no more servers than three; what is longer is no resolv.conf.
const MAX_BYTES: u64 = 1 << 20;

/// A file that a session gives its root.
#[derive(Debug)]
pub struct GivenFile {
    path: &'static str,
    content: Vec<u8>,
    /// Also where the root has one of its own.
    replaces: bool,
}

/// The files for a container.
///
/// # Errors
/// What reading the host's resolv.conf gives.
pub fn files(container: &Container, paths: &NamedPaths) -> io::Result<Vec<GivenFile>> {
    let mut files = vec![GivenFile { path: HOSTS, content: hosts(&container.hostname), replaces: false }];
    let resolv = Path::new(RESOLV_CONF);
    if container.network == Network::Host && paths.is_named(resolv) {
        let read = || {
            let mut content = Vec::new();
            let file: File = regular::reopen(paths.get(resolv)?.as_fd())?;
            file.take(MAX_BYTES).read_to_end(&mut content)?;
            Ok(content)
        };
        let content = read().map_err(context::<io::Error>(format_args!("read {RESOLV_CONF}")))?;
        files.push(GivenFile { path: RESOLV_CONF, content, replaces: true });
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

/// Makes the files in `skeleton`: not where one of `mounts` will hide them, and not where the steps of the container have
/// made, changed or removed them in one of `own`, the layers of its earlier snapshots.
///
/// # Errors
/// Where the root has something else than a directory at `/etc`, or a directory in the place of a file.
pub fn put(root: &Path, skeleton: &Path, files: &[GivenFile], mounts: &[PathBuf], own: &[Lower]) -> io::Result<()> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for file in files {
        put_one(root.as_fd(), skeleton, file, mounts, own)
            .map_err(context(format_args!("give the root {}", file.path)))?;
    }
    Ok(())
}

fn put_one(
    root: BorrowedFd<'_>,
    skeleton: &Path,
    file: &GivenFile,
    mounts: &[PathBuf],
    own: &[Lower],
) -> io::Result<()> {
    let given = Path::new(file.path);
    let (Some(above), Some(name)) = (given.parent(), given.file_name()) else { return Ok(()) };
    let mut place = resolve(root, above)?;
    let path = place.path().join(name);
    if mounts.iter().any(|mount| path.starts_with(mount)) {
        return Ok(());
    }
    let wrong = |words: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("{words} in the container")));
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
    // One time for all builds: a step may copy it along.
    File::options().write(true).open(&made)?.set_modified(std::time::UNIX_EPOCH)
}

/// The type of the file at a path; none where nothing is.
fn kind(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<FileType>> {
    match in_root::open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode))),
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
