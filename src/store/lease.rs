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
use super::{DIRECTORIES, Store, StoreError, file_name, make_directory, record};
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
    pub(super) store: Store,
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
        for directory in DIRECTORIES.iter().filter(|directory| directory.is_written_atomically) {
            atomic::sweep(&self.root.join(directory.name), None);
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
mod tests;
