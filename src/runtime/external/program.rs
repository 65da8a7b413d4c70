//! The program of an external runtime: found by its name or path without running it, and asked for its version.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::cgroup::ProcessLimit;

/// Names under which a runtime was packaged too.
const OTHER_NAMES: [(&str, &str); 1] = [("runc", "docker-runc")];

/// Runtimes that Debian has packages of.
const PACKAGES: [&str; 2] = ["runc", "crun"];

/// A program that does not tell its version in that time tells none.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// As much of what it says is read.
const MAX_SAID: usize = 16 << 10;

/// A runtime's program: an executable file. Whether it is a runtime, [`Program::version`] tells by running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

/// Why a runtime cannot be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FindError {
    #[error("cannot find the runtime `{name}`: it is not in PATH")]
    NotInPath { name: String },
    #[error("cannot start the runtime {}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
    #[error("cannot use the runtime {}: asked for its `--version`, it tells none: {said}", path.display())]
    NoVersion { path: PathBuf, said: String },
}

impl FindError {
    /// What mends it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::WouldBlock => return ProcessLimit::hint(),
            // It could make no thread.
            Self::NoVersion { said, .. } if said.contains("Resource temporarily unavailable") => {
                return ProcessLimit::hint();
            }
            _ => {}
        }
        if let Self::Unusable { path, source } = self
            && source.kind() == io::ErrorKind::PermissionDenied
        {
            return format!("`chmod +x {}` makes it a program, if it is one", path.display());
        }
        let name = match self {
            Self::NotInPath { name } => Some(name.as_str()),
            Self::Unusable { path, .. } | Self::NoVersion { path, .. } => path.file_name().and_then(OsStr::to_str),
        };
        match name.filter(|name| PACKAGES.contains(name)) {
            Some(name) => format!("apt-get install -y {name}"),
            None => "name `runc`, `crun`, the path of another OCI runtime, or `embedded`".to_owned(),
        }
    }
}

impl Program {
    /// Finds the runtime of that name in the folders of `search`, in the form of `PATH`, or at that path. Runs nothing.
    ///
    /// # Errors
    /// Where there is none, or what is there cannot be executed.
    pub fn find(name: &str, search: &OsStr) -> Result<Self, FindError> {
        let path = if name.contains('/') {
            let path = PathBuf::from(name);
            executable(&path).map_err(|source| FindError::Unusable { path: path.clone(), source })?;
            path
        } else {
            let others = OTHER_NAMES.iter().filter(|(of, _)| *of == name).map(|(_, other)| *other);
            let mut names = std::iter::once(name).chain(others);
            let found = names.find_map(|name| {
                let folders = std::env::split_paths(search).filter(|folder| folder.is_absolute());
                folders.map(|folder| folder.join(name)).find(|path| executable(path).is_ok())
            });
            found.ok_or_else(|| FindError::NotInPath { name: name.to_owned() })?
        };
        Ok(Self { path })
    }

    /// Where it is; absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it, and returns the first line of what it says of its version, such as `runc version 1.1.5+ds1`.
    ///
    /// # Errors
    /// Where it is no OCI runtime.
    pub fn version(&self) -> Result<String, FindError> {
        version(&self.path)
    }
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = path.metadata()?;
    match metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EACCES)),
    }
}

fn version(path: &Path) -> Result<String, FindError> {
    let unusable = |source: io::Error| FindError::Unusable { path: path.to_owned(), source };
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unusable)?;
    let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let said = read_until(outputs.into_iter().flatten().collect(), Instant::now() + VERSION_TIMEOUT);
    if !matches!(said, Ok(Some(_))) {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(unusable)?;
    let no_version = |said: &str| FindError::NoVersion { path: path.to_owned(), said: said.to_owned() };
    let Some(said) = said.map_err(unusable)? else {
        return Err(no_version(&format!("it had not ended after {}s, and was killed", VERSION_TIMEOUT.as_secs())));
    };
    let [said, errors] =
        [0, 1].map(|index| String::from_utf8_lossy(said.get(index).map_or(&[], |said| said)).into_owned());
    let line = said.lines().next().map(str::trim).unwrap_or_default();
    if status.success() && line.contains("version") {
        return Ok(line.to_owned());
    }
    let said = format!("{errors}{said}");
    Err(no_version(said.lines().next().unwrap_or("it says nothing")))
}

/// Reads pipes to their ends; none where these do not come in time.
fn read_until(pipes: Vec<OwnedFd>, deadline: Instant) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut read = vec![Vec::new(); pipes.len()];
    let mut pipes: Vec<(usize, OwnedFd)> = pipes.into_iter().enumerate().collect();
    let mut bytes = [0; 4096];
    while !pipes.is_empty() {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let mut polled: Vec<_> = pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&left)) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(ready) = polled.iter().position(|pipe| !pipe.revents().is_empty()) else { continue };
        let (index, pipe) = &pipes[ready];
        let count = rustix::io::read(pipe, &mut bytes[..])?;
        // Of more than that no line is the first one.
        let room = MAX_SAID.saturating_sub(read[*index].len()).min(count);
        read[*index].extend(&bytes[..room]);
        if count == 0 {
            pipes.remove(ready);
        }
    }
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::error_chain;

    /// Written by another process: a child that another test starts at this moment would hold a descriptor of this one's,
    /// and a file that is open for writing cannot be executed.
    fn program(folder: &Path, name: &str, text: &str) {
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2"; chmod 755 "$2""#;
        let written = Command::new("sh").args(["-ec", write, "sh", text]).arg(folder.join(name)).status().unwrap();
        assert!(written.success());
    }

    #[test]
    fn a_name_is_found_in_path_and_runc_by_its_other_name_too() {
        let folder = tempfile::tempdir().unwrap();
        let search = folder.path().as_os_str();
        program(folder.path(), "docker-runc", "echo runc version 1.0; echo commit: x");
        assert_eq!(Program::find("runc", search).unwrap().path(), folder.path().join("docker-runc"));
        program(folder.path(), "runc", "echo runc version 1.2");
        let found = Program::find("runc", search).unwrap();
        assert_eq!(found.path(), folder.path().join("runc"));
        assert_eq!(found.version().unwrap(), "runc version 1.2");
        let path = folder.path().join("docker-runc");
        let found = Program::find(path.to_str().unwrap(), OsStr::new("")).unwrap();
        assert_eq!(found.version().unwrap(), "runc version 1.0");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_installs_it() {
        let error = Program::find("runc", OsStr::new("/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot find the runtime `runc`: it is not in PATH");
        assert_eq!(error.hint(), "apt-get install -y runc");
        let error = Program::find("/nowhere/crun", OsStr::new("")).unwrap_err();
        assert!(error_chain(&error).starts_with("cannot start the runtime /nowhere/crun: No such file"), "{error}");
        assert_eq!(error.hint(), "apt-get install -y crun");
        let error = Program::find("runk", OsStr::new("/nowhere")).unwrap_err();
        assert!(error.hint().starts_with("name `runc`, `crun`"), "{}", error.hint());
    }

    #[test]
    fn a_program_that_is_no_runtime_is_refused() {
        for (text, said) in [
            ("exit 1", "it says nothing"),
            ("exec sleep 1000", "it had not ended after 10s, and was killed"),
            ("echo usage >&2; exit 2", "usage"),
            ("echo hello", "hello"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            program(folder.path(), "runc", text);
            let error = Program::find("runc", folder.path().as_os_str()).unwrap().version().unwrap_err();
            assert!(error.to_string().ends_with(&format!("`--version`, it tells none: {said}")), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("runc"), "").unwrap();
        assert!(matches!(Program::find("runc", folder.path().as_os_str()), Err(FindError::NotInPath { .. })));
    }
}
