//! Leases: the build that scratch and half-written files belong to. The parent module says how leases are locked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, MemfdFlags, OFlags, memfd_create};
use rustix::io::Errno;

use super::error::io as failed;
use super::lock::{Locked, hand_down, is_linked, lock_dead, try_lock};
use super::{Store, StoreError, file_name, make_directory, record};
use crate::fs::atomic;
use crate::fs::in_root::open_without_links;
use crate::fs::regular;
use crate::fs::remove_tree::{remove_tree, remove_tree_at};
use crate::loopdev;

/// The time that a sweep waits for the helpers of a killed runner; the next sweep removes the things that it could not.
const HELPERS_TIMEOUT: Duration = Duration::from_secs(1);

/// A build's claim on things that the kernel does not release by itself. Threads share it by reference.
///
/// Its owner removes other things that are named after [`Lease::id`], such as cgroups, before [`Lease::close`].
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: String,
    /// Locked and open for appending.
    pub(super) file: File,
    /// The number of half-written files outside the store that were named.
    pub(super) outputs: AtomicU64,
    closed: bool,
    /// The store is read-only: the file is in memory, and only half-written outputs belong to the lease.
    pub(super) is_detached: bool,
}

/// A lease whose owner no longer runs. It is locked, so that no other runner clears it at the same time.
#[derive(Debug)]
pub struct DeadLease {
    path: PathBuf,
    id: String,
    _locked: Locked,
}

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    /// Leases whose scratch and half-written files are removed now. The caller removes the other things that are named
    /// after each, then calls [`DeadLease::close`]; the next sweep finds a dropped one again.
    pub dead: Vec<DeadLease>,
    /// The files that could not be removed. Their leases remain for the next sweep. None of this hinders a build.
    pub problems: Vec<StoreError>,
}

impl Store {
    /// Makes a new lease, with a unique id.
    ///
    /// # Errors
    /// Those of making and locking its file; `Unsupported` on filesystems without locks.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        if self.is_read_only {
            return self.detached_lease();
        }
        let leases = self.root.join("leases");
        let create = |path: &Path| OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path);
        loop {
            let prefix = format!("{}-", std::process::id());
            let temp = tempfile::Builder::new().prefix(&prefix).rand_bytes(8).make_in(&leases, create);
            let temp = temp.map_err(failed("create a lease in", &leases))?;
            // Before the file is locked, a sweep may regard the lease as dead and remove it: then the loop makes
            // another one.
            let locked = try_lock(temp.as_file()).map_err(failed("lock", temp.path()))?;
            if !locked || !is_linked(temp.as_file()).map_err(failed("look at", temp.path()))? {
                continue;
            }
            let (file, path) = temp.keep().map_err(|error| failed("create a lease in", &leases)(error.error))?;
            hand_down(&file).map_err(failed("hand down", &path))?;
            let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(Lease {
                store: self.clone(),
                id,
                file,
                outputs: AtomicU64::new(0),
                closed: false,
                is_detached: false,
            });
        }
    }

    /// Makes a lease of a read-only store, which other runners do not see.
    fn detached_lease(&self) -> Result<Lease, StoreError> {
        let file = memfd_create("lease", MemfdFlags::CLOEXEC).map_err(io::Error::from);
        let file = file.map_err(failed("make a lease for", &self.root))?.into();
        // As unique as in other stores: by the process, and by the time of its start.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let id = format!("{}-{start:x}", std::process::id());
        Ok(Lease { store: self.clone(), id, file, outputs: AtomicU64::new(0), closed: false, is_detached: true })
    }

    /// Removes the scratch and the half-written files of all leases whose owners no longer run. Any number of runners
    /// may do so at the same time; one of them gets each dead lease.
    ///
    /// # Errors
    /// Those of listing the store's directories.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        if self.is_read_only {
            return Ok(Swept::default());
        }
        // Half-written copies of the file `format`.
        atomic::sweep(&self.root, None);
        for directory in ["keys", "last", "timings", "programs", "lock-files"] {
            atomic::sweep(&self.root.join(directory), None);
        }
        self.sweep_build_locks()?;
        // Listed before the leases: a lease's file is made before its directories and removed after them, so a
        // directory that is listed now and has no lease's file afterwards belongs to no lease.
        let orphans: Vec<PathBuf> = [self.list("scratch")?, self.list("tmp")?]
            .into_iter()
            .flatten()
            .filter(|path| self.is_orphan(path))
            .collect();
        let mut swept = Swept::default();
        for orphan in orphans {
            if let Err(error) = remove_tree(&orphan) {
                swept.problems.push(failed("remove", &orphan)(error));
            }
        }
        let deadline = Instant::now() + HELPERS_TIMEOUT;
        for path in self.list("leases")? {
            match self.clear_if_dead(path, deadline) {
                Ok(Some(dead)) => swept.dead.push(dead),
                Ok(None) => {}
                Err(error) => swept.problems.push(error),
            }
        }
        Ok(swept)
    }

    pub(super) fn list(&self, directory: &str) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.root.join(directory);
        let list = || fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        list().map_err(failed("list", &directory))
    }

    fn is_orphan(&self, directory: &Path) -> bool {
        let lease = self.root.join("leases").join(directory.file_name().unwrap_or_default());
        matches!(lease.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn clear_if_dead(&self, path: PathBuf, deadline: Instant) -> Result<Option<DeadLease>, StoreError> {
        let file = match regular::open(&path) {
            Ok(file) => file,
            // Its owner has closed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open the lease", &path)(error)),
        };
        let id = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let locked = lock_dead(file, &id, deadline).map_err(failed("lock", &path))?;
        let Some(locked) = locked else { return Ok(None) };
        if !is_linked(&locked).map_err(failed("look at", &path))? {
            return Ok(None);
        }
        self.clear(&id, &locked)?;
        Ok(Some(DeadLease { path, id, _locked: locked }))
    }

    /// Removes everything that belongs to the lease but its file. Continues after an error, and returns the first one.
    fn clear(&self, id: &str, file: &File) -> Result<(), StoreError> {
        let lease = self.root.join("leases").join(id);
        let mut first = None;
        let paths = record::read(file, id).unwrap_or_else(|error| {
            first = Some(failed("read the lease", &lease)(error));
            Vec::new()
        });
        let mut remove = |path: &Path, remove: fn(&Path) -> io::Result<()>| {
            if let Err(error) = remove(path) {
                first.get_or_insert(failed("remove", path)(error));
            }
        };
        // The files beside outputs: steps can write there, and no link must lead elsewhere.
        paths.iter().for_each(|path| remove(path, remove_half_written));
        loopdev::detach_abandoned(&self.root.join("scratch").join(id));
        for directory in ["scratch", "tmp"].iter().filter(|_| !self.is_read_only) {
            remove(&self.root.join(directory).join(id), remove_tree);
        }
        first.map_or(Ok(()), Err)
    }
}

/// Removes a file whose directory has no link in its path. A missing file is removed already.
fn remove_half_written(path: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match open_without_links(CWD, directory, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
        dir => remove_tree_at(dir?.as_fd(), Path::new(name)),
    }
}

impl Lease {
    /// Returns its id: the process id and random letters and digits. Fit for the name of a file or a cgroup.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes a new, empty directory in the store, 0700.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a name that is no file name; `AlreadyExists` for a name used before.
    pub fn scratch_dir(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.directory("scratch")?.join(file_name(name)?);
        fs::create_dir(&path).map_err(failed("create the directory", &path))?;
        Ok(path)
    }

    /// Removes a directory that [`scratch_dir`](Self::scratch_dir) made, before the lease ends.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a name that is no file name, and those of removing.
    pub fn remove_scratch_dir(&self, name: &str) -> Result<(), StoreError> {
        let path = self.store.root.join("scratch").join(&self.id).join(file_name(name)?);
        remove_tree(&path).map_err(failed("remove", &path))
    }

    /// Returns a path in the store for a file that the caller writes. It is on the same filesystem as the layers.
    ///
    /// # Errors
    /// [`StoreError::Name`] for a name that is no file name, and those of making its directory.
    pub fn temp_file(&self, name: &str) -> Result<PathBuf, StoreError> {
        Ok(self.directory("tmp")?.join(file_name(name)?))
    }

    /// Ends the lease: removes everything that remains of it, its file last.
    ///
    /// # Errors
    /// The first removal that failed. The lease's file remains then, and the next sweep tries again.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.end()
    }

    fn directory(&self, of: &str) -> Result<PathBuf, StoreError> {
        if self.is_detached {
            return Err(StoreError::ReadOnly { path: self.store.root.clone() });
        }
        let path = self.store.root.join(of).join(&self.id);
        make_directory(&path, 0o700)?;
        Ok(path)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.closed = true;
        self.store.clear(&self.id, &self.file)?;
        // A detached lease has no file in the store.
        if self.is_detached {
            return Ok(());
        }
        let path = self.store.root.join("leases").join(&self.id);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.closed {
            // The next sweep removes, and reports, the files that cannot be removed now.
            let _ = self.end();
        }
    }
}

impl DeadLease {
    /// Returns the lease's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Removes the lease's file, the last of its files.
    ///
    /// # Errors
    /// Those of removing the file.
    pub fn close(self) -> Result<(), StoreError> {
        match fs::remove_file(&self.path) {
            // Its owner may have removed it: where a sweep locks a new lease before its owner does, the owner removes
            // the file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        (directory, store)
    }

    /// Makes the files that a killed runner leaves behind.
    fn leave_files_of_killed_runner(store: &Store, id: &str, output: &Path) {
        let mut lease = File::create(store.root().join("leases").join(id)).unwrap();
        lease.write_all(output.as_os_str().as_encoded_bytes()).unwrap();
        lease.write_all(&[0]).unwrap();
        fs::write(output, "half").unwrap();
        for directory in ["scratch", "tmp"] {
            let path = store.root().join(directory).join(id);
            fs::create_dir_all(path.join("deep/er")).unwrap();
            fs::write(path.join("deep/file"), "").unwrap();
            symlink("/", path.join("deep/root")).unwrap();
        }
    }

    fn leftovers(store: &Store) -> usize {
        ["leases", "scratch", "tmp"].iter().map(|directory| store.list(directory).unwrap().len()).sum()
    }

    fn ids(swept: &Swept) -> Vec<&str> {
        assert!(swept.problems.is_empty(), "{:?}", swept.problems);
        swept.dead.iter().map(DeadLease::id).collect()
    }

    #[test]
    fn closing_a_lease_removes_its_files() {
        let (_directory, store) = store();
        let lease = store.lease().unwrap();
        fs::write(lease.scratch_dir("base").unwrap().join("file"), "").unwrap();
        fs::write(lease.temp_file("layer").unwrap(), "").unwrap();
        assert!(lease.scratch_dir("base").is_err());
        lease.remove_scratch_dir("base").unwrap();
        lease.scratch_dir("base").unwrap();
        assert_eq!(leftovers(&store), 3);
        lease.close().unwrap();
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn dropping_a_lease_removes_its_files() {
        let (_directory, store) = store();
        store.lease().unwrap().scratch_dir("base").unwrap();
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn names_that_lead_out_of_the_lease_are_refused() {
        let (_directory, store) = store();
        let lease = store.lease().unwrap();
        for name in ["..", ".", "", "a/b", "/etc"] {
            assert!(matches!(lease.scratch_dir(name), Err(StoreError::Name { .. })));
            assert!(matches!(lease.remove_scratch_dir(name), Err(StoreError::Name { .. })));
            assert!(matches!(lease.temp_file(name), Err(StoreError::Name { .. })));
        }
    }

    #[test]
    fn a_sweep_removes_the_files_of_a_killed_runner() {
        let (directory, store) = store();
        let output = directory.path().join(".out.runner-7-abc-1");
        leave_files_of_killed_runner(&store, "7-abc", &output);
        let mine = store.lease().unwrap();
        let scratch = mine.scratch_dir("base").unwrap();
        let swept = store.sweep().unwrap();
        assert_eq!(ids(&swept), ["7-abc"]);
        assert!(!output.exists() && scratch.exists());
        // Until it is closed, later sweeps find it again, but no two at the same time.
        assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
        drop(swept);
        for dead in store.sweep().unwrap().dead {
            dead.close().unwrap();
        }
        mine.close().unwrap();
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn directories_without_a_lease_are_swept() {
        let (_directory, store) = store();
        fs::create_dir_all(store.root().join("scratch/8-x/a")).unwrap();
        fs::create_dir_all(store.root().join("tmp/9-x/a")).unwrap();
        assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn a_lease_locked_by_another_process_is_swept_only_after_that_process_ends() {
        let (directory, store) = store();
        let output = directory.path().join(".out.runner-7-abc-1");
        leave_files_of_killed_runner(&store, "7-abc", &output);
        let mut holder = Command::new("flock")
            .arg(store.root().join("leases/7-abc"))
            .args(["sh", "-c", "echo held; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
        assert!(output.exists() && store.root().join("scratch/7-abc/deep").exists());
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        assert_eq!(ids(&store.sweep().unwrap()), ["7-abc"]);
        assert!(!output.exists());
    }

    #[test]
    fn concurrent_sweeps_get_each_dead_lease_once() {
        let (directory, store) = store();
        let all: BTreeSet<String> = (0..40).map(|i| format!("{i}-dead")).collect();
        for id in &all {
            leave_files_of_killed_runner(&store, id, &directory.path().join(format!(".out.runner-{id}-1")));
        }
        let found: Vec<String> = thread::scope(|scope| {
            let sweeps = [0; 4].map(|_| scope.spawn(|| store.sweep().unwrap()));
            // Dropped only when all sweeps have ended: another sweep would rightly find a released lease again.
            let swept = sweeps.map(|sweep| sweep.join().unwrap());
            swept.iter().flat_map(|swept| ids(swept).into_iter().map(str::to_owned)).collect()
        });
        assert_eq!(found.len(), all.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
    }

    #[test]
    fn leases_can_be_made_and_closed_during_sweeps() {
        let (_directory, store) = store();
        thread::scope(|scope| {
            let workers = [0; 3].map(|_| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lease = store.lease().unwrap();
                        let scratch = lease.scratch_dir("base").unwrap();
                        fs::write(scratch.join("file"), "").unwrap();
                        fs::write(lease.temp_file("layer").unwrap(), "").unwrap();
                        lease.close().unwrap();
                    }
                })
            });
            while !workers.iter().all(|worker| worker.is_finished()) {
                for dead in store.sweep().unwrap().dead {
                    dead.close().unwrap();
                }
            }
        });
        assert_eq!(leftovers(&store), 0);
    }

    #[test]
    fn a_failed_removal_is_reported_and_tried_again() {
        let (_directory, store) = store();
        fs::create_dir(store.root().join("leases/7-abc")).unwrap();
        // Reading a directory as a lease fails.
        let swept = store.sweep().unwrap();
        assert_eq!((swept.dead.len(), swept.problems.len()), (0, 1));
        assert_eq!(store.list("leases").unwrap().len(), 1);
    }
}
