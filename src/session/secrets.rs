//! Reads the values of secrets, and has them known to what masks them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use crate::build::{Build, MountKind, Secret};
use crate::error::doing;
use crate::secret::Secrets;

/// A larger value is no secret but data: whatever is printed would have to be compared with it.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the value of a secret. It is masked from now on.
///
/// # Errors
/// With its name, where it is not there, or is too large.
pub fn read(secret: &Secret, known: &Secrets) -> io::Result<Vec<u8>> {
    let value = match secret {
        Secret::File(path) => File::open(path)
            .and_then(|file| {
                let mut value = Vec::new();
                file.take(MAX_BYTES + 1).read_to_end(&mut value)?;
                Ok(value)
            })
            .map_err(doing(format_args!("read the secret {}", path.display())))?,
        Secret::Variable(name) => std::env::var_os(name).map(OsStringExt::into_vec).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the variable {name}, which the secret is to be read from, is not set"),
            )
        })?,
    };
    if value.len() as u64 > MAX_BYTES {
        let name = match secret {
            Secret::File(path) => path.display().to_string(),
            Secret::Variable(name) => name.clone(),
        };
        let why = format!("the secret {name} is over 1 MiB; mount it with `type: bind` and `options: [ro]` instead");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    known.add(&value);
    Ok(value)
}

/// Has the secrets of all containers known before anything runs: a step may come by the secret of another container, by
/// a bind of the directory that it is in, before that container's session reads it.
///
/// One that cannot be read is reported by the session that needs it.
pub fn read_all(build: &Build, known: &Secrets) {
    let mounts = build.containers.iter().flat_map(|container| &container.mounts);
    for mount in mounts {
        let MountKind::Secret(secret) = &mount.kind else { continue };
        // A FIFO gives its value once, to the session.
        let is_there = match secret {
            Secret::File(path) => path.metadata().is_ok_and(|metadata| metadata.is_file()),
            Secret::Variable(_) => true,
        };
        if is_there {
            let _ = read(secret, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_a_megabyte_is_read_and_one_byte_more_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = Secret::File(file.path().to_owned());
        file.as_file().set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&secret, &Secrets::default()).unwrap().len() as u64, MAX_BYTES);
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        let error = read(&secret, &Secrets::default()).unwrap_err().to_string();
        assert!(error.ends_with("is over 1 MiB; mount it with `type: bind` and `options: [ro]` instead"), "{error}");
        let endless = Secret::File("/dev/zero".into());
        assert!(read(&endless, &Secrets::default()).is_err());
    }
}
