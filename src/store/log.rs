//! Logs: a directory for each build, a file for each step.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::Digest;

use super::error::io as failed;
use super::layer_pin::lock_shared;
use super::lock::Locked;
use super::{Store, StoreError, file_name};
use crate::fs::regular;

/// The bytes of a step's name that may be in the name of its log: a step's name may be longer than a file name can be.
const MAX_STEP_NAME: usize = 200;

/// The id of a build in a store: its time in UTC and random letters, `20231114T221320.000Z-k3Xz9Q`. Sorted as text, ids
/// are sorted by time.
///
/// No collection removes the build's directory of logs until all clones are dropped.
#[derive(Debug, Clone)]
pub struct BuildId {
    name: String,
    /// The directory, with a shared lock; none in a store that is read-only, where no step prints anything.
    _locked: Option<Arc<Locked>>,
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Store {
    /// Makes an id for a build that begins now, and its directory of logs.
    ///
    /// # Errors
    /// Those of making the directory.
    pub fn new_build(&self, now: SystemTime) -> Result<BuildId, StoreError> {
        let logs = self.root.join("logs");
        let time: String =
            humantime::format_rfc3339_millis(now).to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let prefix = format!("{time}-");
        if self.is_read_only {
            return Ok(BuildId { name: time, _locked: None });
        }
        loop {
            let directory = tempfile::Builder::new().prefix(&prefix).rand_bytes(6).tempdir_in(&logs);
            let path = directory.map_err(failed("create a directory in", &logs))?.keep();
            // A collection may have removed the directory before it was locked: then the loop makes another one.
            if let Some(locked) = lock_shared(&path).map_err(failed("lock", &path))? {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(BuildId { name, _locked: Some(Arc::new(locked)) });
            }
        }
    }

    /// Opens the log of a step for appending, and returns its path too. Makes it where it is missing; 0600.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a step's name that is a path, and those of opening the file.
    pub fn log_file(&self, build: &BuildId, step: &str) -> Result<(File, PathBuf), StoreError> {
        let mut name = step.to_owned();
        if name.len() > MAX_STEP_NAME {
            let digest = Digest::of_bytes(step.as_bytes()).hex();
            name.truncate(name.floor_char_boundary(MAX_STEP_NAME - digest.len() - 1));
            name = format!("{name}-{digest}");
        }
        let name = format!("{name}.log");
        let path = self.root.join("logs").join(&build.name).join(file_name(&name)?);
        let open = || -> io::Result<File> {
            let mut options = OpenOptions::new();
            // Opened for reading too, so that the call does not wait where a FIFO has the name.
            options.read(true).append(true).create(true).mode(0o600);
            let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
            regular::is_regular(&file)?;
            Ok(file)
        };
        Ok((open().map_err(failed("open the log", &path))?, path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn build_ids_are_unique_and_sort_by_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let builds = [1_700_000_000, 1_700_000_000, 1_700_000_001].map(|time| store.new_build(at(time)).unwrap());
        let [one, other, later] = builds.map(|build| build.to_string());
        assert!(one.starts_with("20231114T221320.000Z-"), "{one}");
        assert!(one != other && one < later && other < later);
    }

    #[test]
    fn opening_a_log_again_appends_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let build = store.new_build(at(0)).unwrap();
        for text in ["one\n", "two\n"] {
            let (mut file, path) = store.log_file(&build, "..").unwrap();
            file.write_all(text.as_bytes()).unwrap();
            assert_eq!(path, store.root().join(format!("logs/{build}/...log")));
        }
        let (_, path) = store.log_file(&build, "..").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn each_long_step_name_has_its_own_log_and_a_path_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let build = store.new_build(at(0)).unwrap();
        let paths = ["a", "b"].map(|end| store.log_file(&build, &("é".repeat(500) + end)).unwrap().1);
        assert_ne!(paths[0], paths[1]);
        assert!(store.log_file(&build, "../../x").is_err());
    }
}
