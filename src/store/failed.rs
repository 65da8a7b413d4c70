//! The session of a step that failed, stored for a shell until the next build of its manifest, or a collection.
//!
//! Each has a directory: `state.json`, the image of the changes, and one image for each tmpfs mount that was not empty.
//! The directory is complete before it is renamed into place. A reader has a shared lock on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::layer_pin::{lock_alone, lock_shared};
use super::lock::Locked;
use super::{BuildId, Store, StoreError};
use crate::cache::key::KeyFields;
use crate::fs::atomic;
use crate::fs::regular::{self, MAX_OF_OURS};
use crate::fs::remove_tree::remove_tree;
use crate::fs::tree_size::tree_size;

/// Its directory in the store.
pub(super) const DIRECTORY: &str = "failed";

const STATE: &str = "state.json";
const CHANGES: &str = "changes.squashfs";

/// The facts about a step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// The manifest's path, all links followed: two builds may have the same name.
    pub manifest: PathBuf,
    /// The step's name.
    pub step: String,
    /// Its container's name.
    pub container: String,
    /// The reason for its failure, in words.
    pub reason: String,
    /// The time of its failure, RFC 3339.
    pub time: String,
    /// The container whose rootfs source is at the bottom; none where a full image is.
    pub base: Option<String>,
    /// The layers above it, the lowest first: digests, as `sha256:…`.
    pub layers: Vec<String>,
    /// Whether anything had changed since the last layer.
    pub changes: bool,
    /// Targets of the tmpfs mounts that were not empty; the n-th has the n-th image.
    pub tmpfs: Vec<PathBuf>,
    /// The definition of the container and the step, as the fields of a key.
    pub fields: KeyFields,
}

/// A directory in which the session of a failed step is being stored.
#[derive(Debug)]
pub struct FailedSessionDraft(PathBuf);

impl FailedSessionDraft {
    /// Makes that directory, and begins in it.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn begin(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        Ok(Self(directory))
    }

    /// Returns the path for the image of the changes.
    pub fn changes(&self) -> PathBuf {
        self.0.join(CHANGES)
    }

    /// Returns the path for the image of the n-th tmpfs mount.
    pub fn tmpfs(&self, n: usize) -> PathBuf {
        tmpfs(&self.0, n)
    }
}

/// The stored session of a step that failed. Locked against removal until this is dropped.
#[derive(Debug)]
pub struct StoredFailedSession {
    /// The facts about the step.
    pub step: FailedStep,
    directory: PathBuf,
    /// The lock.
    _locked: Locked,
}

impl StoredFailedSession {
    /// Returns the image of the changes, if anything had changed.
    pub fn changes(&self) -> Option<PathBuf> {
        self.step.changes.then(|| self.directory.join(CHANGES))
    }

    /// Returns the tmpfs mounts that were not empty: the target and the image of each.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, PathBuf)> {
        self.step.tmpfs.iter().enumerate().map(|(n, target)| (target.as_path(), tmpfs(&self.directory, n)))
    }
}

impl Store {
    /// Stores the session of the `n`-th step of a build, which has failed.
    ///
    /// # Errors
    /// Those of writing and renaming; nothing is stored then.
    pub fn store_failed_session(
        &self,
        build: &BuildId,
        n: usize,
        draft: FailedSessionDraft,
        step: &FailedStep,
    ) -> Result<(), StoreError> {
        let FailedSessionDraft(directory) = draft;
        let to = self.root.join(DIRECTORY).join(format!("{build}.{n}"));
        let put = || {
            fs::write(directory.join(STATE), serde_json::to_vec_pretty(step)?)?;
            atomic::rename(&directory, &to)
        };
        put().map_err(failed("store the session in", &to))
    }

    /// Returns the session of a step that failed in the last build of its manifest, if it is stored.
    ///
    /// # Errors
    /// Those of listing and locking.
    pub fn failed(&self, manifest: &Path, step: &str) -> Result<Option<StoredFailedSession>, StoreError> {
        let mut found: Option<StoredFailedSession> = None;
        for directory in self.all_failed()? {
            let Some(locked) = lock_shared(&directory).map_err(failed("lock", &directory))? else { continue };
            let Some(failed_step) = read(&directory) else { continue };
            let is_later = found.as_ref().is_none_or(|found| found.directory < directory);
            if failed_step.manifest == manifest && failed_step.step == step && is_later {
                found = Some(StoredFailedSession { step: failed_step, directory, _locked: locked });
            }
        }
        Ok(found)
    }

    /// Removes the sessions of a manifest's failed steps, except those in use, and all sessions that cannot be read.
    ///
    /// # Errors
    /// Those of listing and removing.
    pub fn forget_failed(&self, manifest: &Path) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        for directory in self.all_failed()? {
            if read(&directory).is_some_and(|failed_step| failed_step.manifest != manifest) {
                continue;
            }
            let remove = || -> io::Result<()> {
                let Some(_alone) = lock_alone(&directory)? else { return Ok(()) };
                remove_tree(&directory)
            };
            remove().map_err(failed("remove", &directory))?;
        }
        Ok(())
    }

    /// Returns the size of all sessions of failed steps, in bytes.
    ///
    /// # Errors
    /// As [`failed`](Self::failed).
    pub fn failed_size(&self) -> Result<u64, StoreError> {
        // A session that is removed meanwhile takes no space.
        Ok(self.all_failed()?.iter().filter_map(|directory| tree_size(directory).ok()).sum())
    }

    fn all_failed(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.root.join(DIRECTORY);
        let list = || fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        match list() {
            // The store of a runner that stored no sessions.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            list => list.map_err(failed("list", &directory)),
        }
    }
}

fn tmpfs(directory: &Path, n: usize) -> PathBuf {
    directory.join(format!("tmpfs{n}.squashfs"))
}

fn read(directory: &Path) -> Option<FailedStep> {
    serde_json::from_slice(&regular::read(&directory.join(STATE), MAX_OF_OURS).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::digest::Digest;

    fn step(manifest: &str, step: &str, reason: &str) -> FailedStep {
        FailedStep {
            manifest: manifest.into(),
            step: step.into(),
            container: "c".into(),
            reason: reason.into(),
            time: "2023-11-14T22:13:20Z".into(),
            base: Some("c".into()),
            layers: vec![Digest::of_bytes(b"l").to_string()],
            changes: true,
            tmpfs: vec!["/tmp".into()],
            fields: KeyFields::default(),
        }
    }

    fn store_session(store: &Store, n: usize, step: &FailedStep) {
        let build = store.new_build(SystemTime::now()).unwrap();
        let lease = store.lease().unwrap();
        let draft = FailedSessionDraft::begin(lease.temp_file(&n.to_string()).unwrap()).unwrap();
        fs::write(draft.changes(), "changes").unwrap();
        fs::write(draft.tmpfs(0), "tmp").unwrap();
        store.store_failed_session(&build, n, draft, step).unwrap();
        lease.close().unwrap();
    }

    #[test]
    fn the_last_failed_session_of_a_step_is_found_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store_session(&store, 3, &step("/a/build.yaml", "s", "first"));
        std::thread::sleep(std::time::Duration::from_millis(2));
        store_session(&store, 3, &step("/a/build.yaml", "s", "second"));
        store_session(&store, 3, &step("/b/build.yaml", "s", "another's"));
        let found = store.failed(Path::new("/a/build.yaml"), "s").unwrap().unwrap();
        assert_eq!(found.step.reason, "second");
        assert_eq!(fs::read(found.changes().unwrap()).unwrap(), b"changes");
        let tmpfs: Vec<_> =
            found.tmpfs().map(|(target, image)| (target.to_owned(), fs::read(image).unwrap())).collect();
        assert_eq!(tmpfs, [("/tmp".into(), b"tmp".to_vec())]);
        assert!(store.failed(Path::new("/a/build.yaml"), "t").unwrap().is_none());
        // It is removed only when it is not in use.
        store.forget_failed(Path::new("/a/build.yaml")).unwrap();
        assert_eq!(store.all_failed().unwrap().len(), 2);
        drop(found);
        store.forget_failed(Path::new("/a/build.yaml")).unwrap();
        assert!(store.failed(Path::new("/a/build.yaml"), "s").unwrap().is_none());
        assert!(store.failed(Path::new("/b/build.yaml"), "s").unwrap().is_some());
    }

    #[test]
    fn an_unreadable_session_is_ignored_and_removed_with_the_next_build() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store_session(&store, 0, &step("/a/build.yaml", "s", "x"));
        let damaged = store.all_failed().unwrap().remove(0);
        fs::write(damaged.join(STATE), "{").unwrap();
        assert!(store.failed(Path::new("/a/build.yaml"), "s").unwrap().is_none());
        store.forget_failed(Path::new("/b/build.yaml")).unwrap();
        assert!(!damaged.exists());
    }
}
