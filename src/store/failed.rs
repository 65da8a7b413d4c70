//! The session of a step that failed, kept for a shell until the next build of its manifest, or a collection.
//!
//! A directory for each: `state.json`, the image of what had changed, and one for each tmpfs mount that something was
//! in. It is renamed into place, whole. Who looks into it holds a shared lock on the directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::layer_pin::{lock_alone, lock_shared};
use super::lock::Locked;
use super::{BuildId, Store, StoreError};
use crate::cache::key::Fields;
use crate::fs::atomic;
use crate::fs::regular::{self, MAX_OF_OURS};
use crate::fs::remove_tree::remove_tree;
use crate::fs::tree_size::tree_size;

/// The directory of the store.
pub(super) const DIRECTORY: &str = "failed";

const STATE: &str = "state.json";
const CHANGES: &str = "changes.squashfs";

/// What is known of a step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// The manifest's path, all links followed: two builds of one name are not one.
    pub manifest: PathBuf,
    /// The step's name.
    pub step: String,
    /// Its container's name.
    pub container: String,
    /// Why it failed, in words.
    pub reason: String,
    /// When, RFC 3339.
    pub time: String,
    /// The container whose rootfs source lies lowest; none where a full image does.
    pub base: Option<String>,
    /// The layers on that, the lowest first: digests, as `sha256:…`.
    pub layers: Vec<String>,
    /// Whether anything had changed since the last of them.
    pub changes: bool,
    /// Targets of the tmpfs mounts that something was in; the n-th has the n-th image.
    pub tmpfs: Vec<PathBuf>,
    /// What the container and the step were like, in the fields of a key.
    pub fields: Fields,
}

/// A directory in which a session is being kept.
#[derive(Debug)]
pub struct FailedSessionDraft(PathBuf);

impl FailedSessionDraft {
    /// In that directory, made for it.
    ///
    /// # Errors
    /// What mkdir(2) says.
    pub fn begin(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir(&directory)?;
        Ok(Self(directory))
    }

    /// Where the image of what has changed goes.
    pub fn changes(&self) -> PathBuf {
        self.0.join(CHANGES)
    }

    /// Where the image of the n-th tmpfs mount goes.
    pub fn tmpfs(&self, n: usize) -> PathBuf {
        tmpfs(&self.0, n)
    }
}

/// The session of a step that failed, which stays as long as this is there.
#[derive(Debug)]
pub struct StoredFailedSession {
    /// What is known of it.
    pub step: FailedStep,
    directory: PathBuf,
    /// Holds the lock.
    _locked: Locked,
}

impl StoredFailedSession {
    /// The image of what had changed, if anything had.
    pub fn changes(&self) -> Option<PathBuf> {
        self.step.changes.then(|| self.directory.join(CHANGES))
    }

    /// The tmpfs mounts that something was in: the target and the image of each.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, PathBuf)> {
        self.step.tmpfs.iter().enumerate().map(|(n, target)| (target.as_path(), tmpfs(&self.directory, n)))
    }
}

impl Store {
    /// Keeps the session of the `n`-th step of a build that has failed.
    ///
    /// # Errors
    /// Whatever writing and renaming gives; nothing is kept then.
    pub fn keep_failed(
        &self,
        build: &BuildId,
        n: usize,
        half: FailedSessionDraft,
        step: &FailedStep,
    ) -> Result<(), StoreError> {
        let FailedSessionDraft(directory) = half;
        let to = self.root.join(DIRECTORY).join(format!("{build}.{n}"));
        let put = || {
            fs::write(directory.join(STATE), serde_json::to_vec_pretty(step)?)?;
            atomic::rename(&directory, &to)
        };
        put().map_err(failed("keep", &to))
    }

    /// The session of a step that failed in the last build of its manifest, if it is kept.
    ///
    /// # Errors
    /// Whatever listing and locking gives.
    pub fn failed(&self, manifest: &Path, step: &str) -> Result<Option<StoredFailedSession>, StoreError> {
        let mut found: Option<StoredFailedSession> = None;
        for directory in self.all_failed()? {
            let Some(locked) = lock_shared(&directory).map_err(failed("lock", &directory))? else { continue };
            let Some(known) = read(&directory) else { continue };
            let is_later = found.as_ref().is_none_or(|found| found.directory < directory);
            if known.manifest == manifest && known.step == step && is_later {
                found = Some(StoredFailedSession { step: known, directory, _locked: locked });
            }
        }
        Ok(found)
    }

    /// Removes the sessions of the steps of a manifest that failed, but for those in use; and those that cannot be read.
    ///
    /// # Errors
    /// Whatever listing and removing gives.
    pub fn forget_failed(&self, manifest: &Path) -> Result<(), StoreError> {
        if self.is_read_only {
            return Ok(());
        }
        for directory in self.all_failed()? {
            if read(&directory).is_some_and(|known| known.manifest != manifest) {
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

    /// The bytes of all sessions of failed steps.
    ///
    /// # Errors
    /// As [`failed`](Self::failed).
    pub fn failed_size(&self) -> Result<u64, StoreError> {
        // One that goes meanwhile takes no space.
        Ok(self.all_failed()?.iter().filter_map(|directory| tree_size(directory).ok()).sum())
    }

    fn all_failed(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.root.join(DIRECTORY);
        let list = || fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        match list() {
            // The store of a runner that kept none.
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
            fields: Fields::default(),
        }
    }

    fn keep(store: &Store, n: usize, step: &FailedStep) {
        let build = store.new_build(SystemTime::now()).unwrap();
        let lease = store.lease().unwrap();
        let half = FailedSessionDraft::begin(lease.temp_file(&n.to_string()).unwrap()).unwrap();
        fs::write(half.changes(), "changes").unwrap();
        fs::write(half.tmpfs(0), "tmp").unwrap();
        store.keep_failed(&build, n, half, step).unwrap();
        lease.close().unwrap();
    }

    #[test]
    fn the_last_failure_of_a_step_is_found_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        keep(&store, 3, &step("/a/build.yaml", "s", "first"));
        std::thread::sleep(std::time::Duration::from_millis(2));
        keep(&store, 3, &step("/a/build.yaml", "s", "second"));
        keep(&store, 3, &step("/b/build.yaml", "s", "another's"));
        let found = store.failed(Path::new("/a/build.yaml"), "s").unwrap().unwrap();
        assert_eq!(found.step.reason, "second");
        assert_eq!(fs::read(found.changes().unwrap()).unwrap(), b"changes");
        let tmpfs: Vec<_> =
            found.tmpfs().map(|(target, image)| (target.to_owned(), fs::read(image).unwrap())).collect();
        assert_eq!(tmpfs, [("/tmp".into(), b"tmp".to_vec())]);
        assert!(store.failed(Path::new("/a/build.yaml"), "t").unwrap().is_none());
        // In use, it stays; then it goes.
        store.forget_failed(Path::new("/a/build.yaml")).unwrap();
        assert_eq!(store.all_failed().unwrap().len(), 2);
        drop(found);
        store.forget_failed(Path::new("/a/build.yaml")).unwrap();
        assert!(store.failed(Path::new("/a/build.yaml"), "s").unwrap().is_none());
        assert!(store.failed(Path::new("/b/build.yaml"), "s").unwrap().is_some());
    }

    #[test]
    fn one_that_cannot_be_read_is_none_and_goes_with_the_next_build_of_any_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        keep(&store, 0, &step("/a/build.yaml", "s", "x"));
        let damaged = store.all_failed().unwrap().remove(0);
        fs::write(damaged.join(STATE), "{").unwrap();
        assert!(store.failed(Path::new("/a/build.yaml"), "s").unwrap().is_none());
        store.forget_failed(Path::new("/b/build.yaml")).unwrap();
        assert!(!damaged.exists());
    }
}
