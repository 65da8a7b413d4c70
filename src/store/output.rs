//! Writes outputs, files outside the store, in one instant: completely or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens, openat, statat, unlinkat,
};

use super::error::io as failed;
use super::{Lease, StoreError, record};
use crate::fs::atomic;
use crate::fs::copy_tree::Owner;
use crate::fs::dirfd::Dir;
use crate::fs::output::OutputPlace;
use crate::fs::regular;

/// `NAME_MAX` of the filesystems of Linux, in bytes.
const MAX_NAME: usize = 255;

/// The mode of an output, less the umask.
const MODE: u32 = 0o644;

/// The bytes of two files that are compared at a time.
const COMPARED_AT_ONCE: u64 = 128 << 10;

/// The permissions, the owner and the time of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputAttributes {
    /// The permission bits, whatever the umask.
    pub mode: u32,
    /// Its owner and group; none: those of runner.
    pub owner: Option<Owner>,
    /// The time of its last change, in seconds since 1970; none: the present one.
    pub time: Option<i64>,
}

impl Lease {
    /// Copies a file of the store to an output, in one instant, and returns whether it did: an output that already has
    /// the same bytes, mode and owner is not written again, because a bind may show it to steps, whose inputs would
    /// then change. Shares the bytes where the filesystem can, see copy_file_range(2). When this returns, the output
    /// survives a crash. Its mode is 0644 less the umask.
    ///
    /// # Errors
    /// Where the output is no regular file any more, or a link has replaced its directory, and those of copying. The
    /// output is unchanged then.
    pub fn publish(&self, source: &Path, output: &OutputPlace) -> Result<bool, StoreError> {
        self.publish_as(source, output, None)
    }

    /// Copies a file of the store to an output as [`publish`](Self::publish) does, and gives it these attributes.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish), and of changing the attributes.
    pub fn publish_as(
        &self,
        source: &Path,
        output: &OutputPlace,
        attributes: Option<OutputAttributes>,
    ) -> Result<bool, StoreError> {
        let published = self.replace(source, output, attributes);
        published.map_err(|error| StoreError::Publish { path: output.path().to_owned(), source: Box::new(error) })
    }

    fn replace(
        &self,
        source: &Path,
        output: &OutputPlace,
        attributes: Option<OutputAttributes>,
    ) -> Result<bool, StoreError> {
        let directory = output.directory();
        let dir = output.current().map_err(failed("open the directory", directory))?;
        output.check(&dir).and_then(|()| output.refuse_directory(&dir)).map_err(failed("replace", output.path()))?;
        // An output that cannot be compared is replaced, and replacing it reports the problem.
        if is_as_written(source, &dir, output.name(), attributes).unwrap_or(false) {
            return Ok(false);
        }
        let half = self.name_half_written(directory, output.name())?;
        // A detached lease's list is lost with this process: the file then has no name before it is complete.
        let copied = regular::open(source)
            .and_then(|source| {
                let finish = |file: &File| attributes.map_or(Ok(()), |attributes| attributes.set(file));
                atomic::copy_half(source, &dir, &half, MODE, self.is_detached, finish)
            })
            .map_err(failed("write", &directory.join(&half)));
        let copied = copied.and_then(|()| {
            // A step may have replaced it meanwhile.
            let renamed = output.check(&dir).and_then(|()| atomic::rename_at(&dir, &half, output.name()));
            renamed.map_err(failed("replace", output.path()))
        });
        if copied.is_err() {
            // It may not exist; and if it cannot be removed, closing the lease tries again and reports it.
            let _ = unlinkat(&dir, &half, AtFlags::empty());
        }
        copied.and_then(|()| atomic::sync_dir(&dir).map_err(failed("sync", directory))).map(|()| true)
    }

    /// Returns a name beside the output, which the lease lists: a runner that finds the lease dead removes the file.
    pub(super) fn name_half_written(&self, directory: &Path, name: &OsStr) -> Result<OsString, StoreError> {
        let mark = record::mark(self.id());
        let end = format!("{mark}{}", self.outputs.fetch_add(1, Ordering::Relaxed));
        let mut half = OsString::new();
        if 1 + name.len() + end.len() <= MAX_NAME {
            half.push(".");
            half.push(name);
        }
        half.push(end);
        let path = directory.join(&half);
        record::append(&self.file, &path).map_err(failed("write the lease of", &path))?;
        Ok(half)
    }
}

impl OutputAttributes {
    fn set(self, file: &File) -> io::Result<()> {
        if let Some(Owner { user, group }) = self.owner {
            fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        fchmod(file, Mode::from_raw_mode(self.mode & 0o777))?;
        if let Some(seconds) = self.time {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            futimens(file, &Timestamps { last_access: time, last_modification: time })?;
        }
        Ok(())
    }
}

/// Whether a file has the bytes, the mode and the owner of an output that is written now, and no second name, through
/// which other programs could write to it. Changes nothing in the directory; a filesystem without nameless files gives
/// no answer.
fn is_as_written(source: &Path, dir: &Dir, name: &OsStr, attributes: Option<OutputAttributes>) -> io::Result<bool> {
    let opened = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let (found, mut source) = (fstat(&opened)?, regular::open(source)?);
    if found.st_nlink != 1 || u64::try_from(found.st_size) != Ok(source.metadata()?.len()) {
        return Ok(false);
    }
    let new = File::from(atomic::nameless(dir, MODE)?);
    if let Some(attributes) = attributes {
        attributes.set(&new)?;
    }
    let new = fstat(&new)?;
    if (found.st_mode, found.st_uid, found.st_gid) != (new.st_mode, new.st_uid, new.st_gid) {
        return Ok(false);
    }
    let mut file = regular::reopen(opened.as_fd())?;
    if !has_same_bytes(&mut source, &mut file)? {
        return Ok(false);
    }
    file.sync_all()?;
    atomic::sync_dir(dir)?;
    // A step may have replaced it meanwhile.
    let now = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok((now.st_dev, now.st_ino) == (found.st_dev, found.st_ino))
}

fn has_same_bytes(one: &mut File, other: &mut File) -> io::Result<bool> {
    let (mut bytes, mut others) = (Vec::new(), Vec::new());
    loop {
        bytes.clear();
        others.clear();
        one.by_ref().take(COMPARED_AT_ONCE).read_to_end(&mut bytes)?;
        other.by_ref().take(COMPARED_AT_ONCE).read_to_end(&mut others)?;
        if bytes != others || bytes.is_empty() {
            return Ok(bytes == others);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::super::Store;
    use super::*;

    fn publish(lease: &Lease, source: &Path, output: &Path) -> Result<(), String> {
        let output = OutputPlace::open(output).map_err(|error| error.to_string())?;
        lease.publish(source, &output).map(drop).map_err(|error| crate::error::error_chain(&error))
    }

    fn lease() -> (tempfile::TempDir, Lease, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let source = directory.path().join("source");
        fs::write(&source, vec![7; 3 << 20]).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
        let lease = store.lease().unwrap();
        (directory, lease, source)
    }

    fn names(directory: &Path) -> Vec<OsString> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn an_output_is_written_with_its_directories_and_replaces_an_older_one() {
        let (directory, lease, source) = lease();
        let output = directory.path().join("out/deep/base.squashfs");
        publish(&lease, &source, &output).unwrap();
        fs::write(&output, "old").unwrap();
        publish(&lease, &source, &output).unwrap();
        assert_eq!(fs::read(&output).unwrap(), fs::read(&source).unwrap());
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o133, 0, "more than 0644");
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o600, 0o600);
        assert_eq!(names(output.parent().unwrap()), ["base.squashfs"]);
    }

    #[test]
    fn a_link_that_a_step_puts_in_place_of_an_output_is_refused() {
        let (directory, lease, source) = lease();
        let (victim, path) = (directory.path().join("kept"), directory.path().join("out/image"));
        let output = OutputPlace::open(&path).unwrap();
        fs::write(&victim, "kept").unwrap();
        let refused = || crate::error::error_chain(&lease.publish(&source, &output).unwrap_err());
        symlink(&victim, &path).unwrap();
        assert!(refused().contains("it is a symbolic link, and an output replaces a regular file only"));
        fs::remove_dir_all(directory.path().join("out")).unwrap();
        fs::create_dir(directory.path().join("elsewhere")).unwrap();
        symlink("elsewhere", directory.path().join("out")).unwrap();
        assert!(refused().contains("now a link is in the way"), "{}", refused());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(names(&directory.path().join("elsewhere")), [] as [&str; 0]);
        fs::remove_file(directory.path().join("out")).unwrap();
        lease.publish(&source, &output).unwrap();
        assert_eq!(names(&directory.path().join("out")), ["image"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_output_unchanged() {
        let (directory, lease, source) = lease();
        let out = directory.path().join("out");
        let (directory_at_output, file) = (out.join("folder"), out.join("file"));
        fs::create_dir_all(directory_at_output.join("full")).unwrap();
        fs::write(&file, "old").unwrap();
        assert!(publish(&lease, &source, &directory_at_output).is_err());
        assert!(publish(&lease, &directory.path().join("none"), &file).is_err());
        assert!(publish(&lease, &source, &file.join("below")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        let mut remaining = names(&out);
        remaining.sort();
        assert_eq!(remaining, ["file", "folder"]);
    }

    #[test]
    fn an_output_with_the_longest_file_name_is_written() {
        let (directory, lease, source) = lease();
        let output = directory.path().join("n".repeat(MAX_NAME));
        publish(&lease, &source, &output).unwrap();
        assert!(output.exists());
    }

    #[test]
    fn closing_the_lease_removes_a_half_written_output() {
        let (directory, lease, _) = lease();
        let out = directory.path().join("out\n\u{fffd}");
        fs::create_dir(&out).unwrap();
        let temp = lease.name_half_written(&out, "base.squashfs".as_ref()).unwrap();
        fs::write(out.join(&temp), "half").unwrap();
        assert!(temp.to_str().unwrap().starts_with(".base.squashfs.runner-"));
        lease.close().unwrap();
        assert!(names(&out).is_empty());
    }
}
