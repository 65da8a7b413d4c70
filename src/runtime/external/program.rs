//! Finds the program of an external runtime by its name or path without running it, and reads its version.

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

/// Other names under which a runtime was packaged.
const OTHER_NAMES: [(&str, &str); 1] = [("runc", "docker-runc")];

/// Runtimes that Debian has packages of.
const PACKAGES: [&str; 2] = ["runc", "crun"];

/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of bytes that runner reads of its output.
const MAX_OUTPUT: usize = 16 << 10;

/// A runtime's program: an executable file. [`Program::version`] runs it, and finds out whether it is a runtime.
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
    #[error("cannot use the runtime {}: its `--version` prints no version: {output}", path.display())]
    NoVersion { path: PathBuf, output: String },
}

impl FindError {
    /// Returns how to fix it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unusable { source, .. } if source.kind() == io::ErrorKind::WouldBlock => return ProcessLimit::hint(),
            // The program could make no thread.
            Self::NoVersion { output, .. } if output.contains("Resource temporarily unavailable") => {
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
    /// Finds the runtime of this name in the directories of `search`, which has the form of `PATH`, or at this path. Runs nothing.
    ///
    /// # Errors
    /// Where the program does not exist, or cannot be executed.
    pub fn find(name: &str, search: &OsStr) -> Result<Self, FindError> {
        let path = if name.contains('/') {
            let path = PathBuf::from(name);
            executable(&path).map_err(|source| FindError::Unusable { path: path.clone(), source })?;
            path
        } else {
            let others = OTHER_NAMES.iter().filter(|(of, _)| *of == name).map(|(_, other)| *other);
            let mut names = std::iter::once(name).chain(others);
            let found = names.find_map(|name| {
                let directories = std::env::split_paths(search).filter(|directory| directory.is_absolute());
                directories.map(|directory| directory.join(name)).find(|path| executable(path).is_ok())
            });
            found.ok_or_else(|| FindError::NotInPath { name: name.to_owned() })?
        };
        Ok(Self { path })
    }

    /// Returns the program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the program, and returns the first line that it prints about its version, such as `runc version 1.1.5+ds1`.
    ///
    /// # Errors
    /// Where the program is no OCI runtime.
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
    let read = read_until(outputs.into_iter().flatten().collect(), Instant::now() + VERSION_TIMEOUT);
    if !matches!(read, Ok(Some(_))) {
        // The program may have ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(unusable)?;
    let no_version = |output: &str| FindError::NoVersion { path: path.to_owned(), output: output.to_owned() };
    let Some(read) = read.map_err(unusable)? else {
        return Err(no_version(&format!("it had not ended after {}s, and was killed", VERSION_TIMEOUT.as_secs())));
    };
    let [output, errors] =
        [0, 1].map(|index| String::from_utf8_lossy(read.get(index).map_or(&[], |bytes| bytes)).into_owned());
    let line = output.lines().next().map(str::trim).unwrap_or_default();
    if status.success() && line.contains("version") {
        return Ok(line.to_owned());
    }
    let output = format!("{errors}{output}");
    Err(no_version(output.lines().next().unwrap_or("it prints nothing")))
}

/// Reads pipes to their ends; returns none where a pipe does not end in time.
fn read_until(pipes: Vec<OwnedFd>, deadline: Instant) -> io::Result<Option<Vec<Vec<u8>>>> {
    let mut read = vec![Vec::new(); pipes.len()];
    let mut pipes: Vec<(usize, OwnedFd)> = pipes.into_iter().enumerate().collect();
    let mut bytes = [0; 4096];
    while !pipes.is_empty() {
        let remaining =
            Timespec::try_from(deadline.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let mut polled: Vec<_> = pipes.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&remaining)) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(ready) = polled.iter().position(|pipe| !pipe.revents().is_empty()) else { continue };
        let (index, pipe) = &pipes[ready];
        let count = rustix::io::read(pipe, &mut bytes[..])?;
        // The first line is never longer than that.
        let room = MAX_OUTPUT.saturating_sub(read[*index].len()).min(count);
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

    /// Writes a program by another process: a child that another test starts at this moment would have a copy of this process'
    /// descriptor, and a file that is open for writing cannot be executed.
    fn program(directory: &Path, name: &str, text: &str) {
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$2"; chmod 755 "$2""#;
        let written = Command::new("sh").args(["-ec", write, "sh", text]).arg(directory.join(name)).status().unwrap();
        assert!(written.success());
    }

    #[test]
    fn a_runtime_is_found_in_path_and_runc_by_its_other_name_too() {
        let directory = tempfile::tempdir().unwrap();
        let search = directory.path().as_os_str();
        program(directory.path(), "docker-runc", "echo runc version 1.0; echo commit: x");
        assert_eq!(Program::find("runc", search).unwrap().path(), directory.path().join("docker-runc"));
        program(directory.path(), "runc", "echo runc version 1.2");
        let found = Program::find("runc", search).unwrap();
        assert_eq!(found.path(), directory.path().join("runc"));
        assert_eq!(found.version().unwrap(), "runc version 1.2");
        let path = directory.path().join("docker-runc");
        let found = Program::find(path.to_str().unwrap(), OsStr::new("")).unwrap();
        assert_eq!(found.version().unwrap(), "runc version 1.0");
    }

    #[test]
    fn a_missing_runtime_is_reported_with_the_command_that_installs_it() {
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
        for (text, output) in [
            ("exit 1", "it prints nothing"),
            ("exec sleep 1000", "it had not ended after 10s, and was killed"),
            ("echo usage >&2; exit 2", "usage"),
            ("echo hello", "hello"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            program(directory.path(), "runc", text);
            let error = Program::find("runc", directory.path().as_os_str()).unwrap().version().unwrap_err();
            assert!(error.to_string().ends_with(&format!("its `--version` prints no version: {output}")), "{error}");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("runc"), "").unwrap();
        assert!(matches!(Program::find("runc", directory.path().as_os_str()), Err(FindError::NotInPath { .. })));
    }
}
