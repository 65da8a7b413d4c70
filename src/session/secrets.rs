//! Reads the values of secrets, and has them known to what masks them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::error::context;
use crate::fs::opened::OpenedFile;
use crate::fs::regular;
use crate::model::{Build, Container, MountKind, Secret};
use crate::named_paths::NamedPaths;
use crate::secret::Secrets;

/// A larger value is no secret but data: whatever is printed would have to be compared with it.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the value of a secret, from the file that was opened when the build began. It is masked from now on.
///
/// # Errors
/// With its name, where it is not there, or is too large.
pub fn read(secret: &Secret, paths: &NamedPaths, known: &Secrets) -> io::Result<Vec<u8>> {
    let (name, value) = match secret {
        Secret::File(path) => {
            let opened = paths.get(path).and_then(|file| regular::reopen(file.as_fd()));
            let value = opened.and_then(take).map_err(context(format_args!("read the secret {}", path.display())))?;
            (path.display().to_string(), value)
        }
        Secret::Variable(name) => {
            let value = std::env::var_os(name).map(OsStringExt::into_vec).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the variable {name}, which the secret is to be read from, is not set"),
                )
            })?;
            (name.clone(), value)
        }
    };
    if value.len() as u64 > MAX_BYTES {
        let why = format!("the secret {name} is over 1 MiB; mount it with `type: bind` and `options: [ro]` instead");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    known.add(&value);
    Ok(value)
}

/// The secrets of the environment that a container uses and that are not set: the variable and the target of each.
pub fn unset(container: &Container) -> impl Iterator<Item = (&str, &Path)> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Secret(Secret::Variable(name)) if std::env::var_os(name).is_none() => {
            Some((name.as_str(), mount.target.as_path()))
        }
        _ => None,
    })
}

/// The value in a file, or a byte more than the most of it.
fn take(file: File) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// Has the secrets of all containers known before anything runs: a step may come by the secret of another container, by
/// a bind of the directory that it is in, before that container's session reads it.
///
/// One that cannot be read is reported by the session that needs it.
pub fn read_all(build: &Build, paths: &NamedPaths, known: &Secrets) {
    let mounts = build.containers.iter().flat_map(|container| &container.mounts);
    for mount in mounts {
        let MountKind::Secret(secret) = &mount.kind else { continue };
        // What is none is refused by the session.
        let is_file = |file: OpenedFile<'_>| regular::is_regular(&file).is_ok();
        let is_there = match secret {
            Secret::File(path) => paths.get(path).is_ok_and(is_file),
            Secret::Variable(_) => true,
        };
        if is_there {
            let _ = read(secret, paths, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_up_to_a_byte_over_the_most() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (length, read) in [(5, 5), (MAX_BYTES, MAX_BYTES), (MAX_BYTES + 1, MAX_BYTES + 1), (1 << 40, MAX_BYTES + 1)]
        {
            file.as_file().set_len(length).unwrap();
            assert_eq!(take(file.reopen().unwrap()).unwrap().len() as u64, read);
        }
        assert_eq!(take(File::open("/dev/zero").unwrap()).unwrap().len() as u64, MAX_BYTES + 1);
    }
}
