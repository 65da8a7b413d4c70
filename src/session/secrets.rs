//! Reads the values of secrets, and registers them for masking.

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

/// The longest value of a secret: all output must be compared with it, so a longer one is data.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the value of a secret, from the file that was opened when the build began, and masks it from now on.
///
/// # Errors
/// With the secret's name, where it does not exist, or is too large.
pub fn read(secret: &Secret, paths: &NamedPaths, masked: &Secrets) -> io::Result<Vec<u8>> {
    let (name, value) = match secret {
        Secret::File(path) => {
            let opened = paths.get(path).and_then(|file| regular::reopen(file.as_fd()));
            let value =
                opened.and_then(read_value).map_err(context(format_args!("read the secret {}", path.display())))?;
            (path.display().to_string(), value)
        }
        Secret::Variable(name) => {
            let value = std::env::var_os(name).map(OsStringExt::into_vec).ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("the variable {name} of the secret is not set"))
            })?;
            (name.clone(), value)
        }
    };
    if value.len() as u64 > MAX_BYTES {
        let why = format!("the secret {name} is over 1 MiB; mount it with `type: bind` and `options: [ro]` instead");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    masked.add(&value);
    Ok(value)
}

/// Returns the secrets of a container whose variables are not set: the variable and the target of each.
pub fn unset(container: &Container) -> impl Iterator<Item = (&str, &Path)> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Secret(Secret::Variable(name)) if std::env::var_os(name).is_none() => {
            Some((name.as_str(), mount.target.as_path()))
        }
        MountKind::Ssh(Secret::Variable(name)) => Some((name.as_str(), mount.target.as_path())),
        _ => None,
    })
}

/// Reads the value in a file, up to one byte more than the longest valid one.
fn read_value(file: File) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut value)?;
    Ok(value)
}

/// Registers the secrets of all containers before any step runs: a step may read the secret of another container, in a bind of
/// the directory that contains it, before that container's session reads it.
///
/// The session that needs a secret reports it if it cannot be read.
pub fn read_all(build: &Build, paths: &NamedPaths, masked: &Secrets) {
    let mounts = build.containers.iter().flat_map(|container| &container.mounts);
    for mount in mounts {
        let MountKind::Secret(secret) = &mount.kind else { continue };
        // The session refuses a file of another type.
        let is_file = |file: OpenedFile<'_>| regular::is_regular(&file).is_ok();
        let is_readable = match secret {
            Secret::File(path) => paths.get(path).is_ok_and(is_file),
            Secret::Variable(_) => true,
        };
        if is_readable {
            let _ = read(secret, paths, masked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_up_to_one_byte_beyond_the_longest() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (length, read) in [(5, 5), (MAX_BYTES, MAX_BYTES), (MAX_BYTES + 1, MAX_BYTES + 1), (1 << 40, MAX_BYTES + 1)]
        {
            file.as_file().set_len(length).unwrap();
            assert_eq!(read_value(file.reopen().unwrap()).unwrap().len() as u64, read);
        }
        assert_eq!(read_value(File::open("/dev/zero").unwrap()).unwrap().len() as u64, MAX_BYTES + 1);
    }
}
