//! Outputs: files outside the store, there whole or as they were before.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat, unlinkat};

use super::error::io as failed;
use super::{Lease, StoreError, record};
use crate::fs::atomic;
use crate::fs::dirfd::{Dir, path_of};
use crate::fs::output::OutputPlace;
use crate::fs::regular;

/// `NAME_MAX` of the filesystems of Linux, in bytes.
const LONGEST_NAME: usize = 255;

impl Lease {
    /// Copies a file of the store to an output, in one instant. Shares the bytes where the filesystem can, see
    /// copy_file_range(2). When this returns, the output lasts. Its mode is 0644 less the umask.
    ///
    /// # Errors
    /// For an output that is no regular file by now, or whose directory a link has taken the place of, and whatever the
    /// copying gives. The output is as it was then.
    pub fn publish(&self, source: &Path, output: &OutputPlace) -> Result<(), StoreError> {
        let published = self.replace(source, output);
        published.map_err(|error| StoreError::Publish { path: output.path().to_owned(), source: Box::new(error) })
    }

    fn replace(&self, source: &Path, output: &OutputPlace) -> Result<(), StoreError> {
        let directory = output.directory();
        let dir = output.current().map_err(failed("open the directory", directory))?;
        output.check(&dir).map_err(failed("replace", output.path()))?;
        let half = self.name_half_written(directory, output.name())?;
        let copied = copy(source, &dir, &half, self.is_detached).map_err(failed("write", &directory.join(&half)));
        let copied = copied.and_then(|()| {
            // A step may have put something else there meanwhile.
            let renamed = output.check(&dir).and_then(|()| atomic::rename_at(&dir, &half, output.name()));
            renamed.map_err(failed("replace", output.path()))
        });
        if copied.is_err() {
            // It may not be there; and if it cannot be removed, closing the lease tries again and tells.
            let _ = unlinkat(&dir, &half, AtFlags::empty());
        }
        copied.and_then(|()| atomic::sync_dir(&dir).map_err(failed("sync", directory)))
    }

    /// A name beside the output that the lease knows: whoever finds the lease dead removes the file.
    fn name_half_written(&self, directory: &Path, name: &OsStr) -> Result<OsString, StoreError> {
        let mark = record::mark(self.id());
        let end = format!("{mark}{}", self.outputs.fetch_add(1, Ordering::Relaxed));
        let mut half = OsString::new();
        if 1 + name.len() + end.len() <= LONGEST_NAME {
            half.push(".");
            half.push(name);
        }
        half.push(end);
        let path = directory.join(&half);
        record::append(&self.file, &path).map_err(failed("write the lease of", &path))?;
        Ok(half)
    }
}

/// Where nobody would find a half-written file after a kill, it has no name before it is whole, if the filesystem can.
fn copy(source: &Path, dir: &Dir, half: &OsStr, is_nameless: bool) -> io::Result<()> {
    let mut from = regular::open(source)?;
    let mode = Mode::from_raw_mode(0o644);
    let nameless = || openat(dir, ".", OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC, mode).ok();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (mut to, has_name) = match is_nameless.then(nameless).flatten() {
        Some(file) => (File::from(file), false),
        None => (File::from(openat(dir, half, flags, mode)?), true),
    };
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    if !has_name {
        linkat(CWD, path_of(to.as_fd()), dir, half, AtFlags::SYMLINK_FOLLOW)?;
    }
    Ok(())
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
        lease.publish(source, &output).map_err(|error| crate::error::told(&error))
    }

    fn lease() -> (tempfile::TempDir, Lease, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let source = folder.path().join("source");
        fs::write(&source, vec![7; 3 << 20]).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
        let lease = store.lease().unwrap();
        (folder, lease, source)
    }

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn an_output_is_written_with_its_folders_and_replaced() {
        let (folder, lease, source) = lease();
        let output = folder.path().join("out/deep/base.squashfs");
        publish(&lease, &source, &output).unwrap();
        fs::write(&output, "old").unwrap();
        publish(&lease, &source, &output).unwrap();
        assert_eq!(fs::read(&output).unwrap(), fs::read(&source).unwrap());
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o133, 0, "more than 0644");
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o600, 0o600);
        assert_eq!(names(output.parent().unwrap()), ["base.squashfs"]);
    }

    #[test]
    fn what_a_step_puts_in_the_place_of_an_output_is_not_replaced() {
        let (folder, lease, source) = lease();
        let (kept, path) = (folder.path().join("kept"), folder.path().join("out/image"));
        let output = OutputPlace::open(&path).unwrap();
        fs::write(&kept, "kept").unwrap();
        let refused = || crate::error::told(&lease.publish(&source, &output).unwrap_err());
        symlink(&kept, &path).unwrap();
        assert!(refused().contains("it is a symbolic link, and an output replaces a regular file only"));
        fs::remove_dir_all(folder.path().join("out")).unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        symlink("elsewhere", folder.path().join("out")).unwrap();
        assert!(refused().contains("now a link is in the way"), "{}", refused());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        assert_eq!(names(&folder.path().join("elsewhere")), [] as [&str; 0]);
        fs::remove_file(folder.path().join("out")).unwrap();
        lease.publish(&source, &output).unwrap();
        assert_eq!(names(&folder.path().join("out")), ["image"]);
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let (folder, lease, source) = lease();
        let out = folder.path().join("out");
        let (taken, file) = (out.join("folder"), out.join("file"));
        fs::create_dir_all(taken.join("full")).unwrap();
        fs::write(&file, "old").unwrap();
        assert!(publish(&lease, &source, &taken).is_err());
        assert!(publish(&lease, &folder.path().join("none"), &file).is_err());
        assert!(publish(&lease, &source, &file.join("below")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        let mut left = names(&out);
        left.sort();
        assert_eq!(left, ["file", "folder"]);
    }

    #[test]
    fn the_longest_name_can_be_written() {
        let (folder, lease, source) = lease();
        let output = folder.path().join("n".repeat(LONGEST_NAME));
        publish(&lease, &source, &output).unwrap();
        assert!(output.exists());
    }

    #[test]
    fn a_half_written_output_goes_with_its_lease() {
        let (folder, lease, _) = lease();
        let out = folder.path().join("out\n\u{fffd}");
        fs::create_dir(&out).unwrap();
        let temp = lease.name_half_written(&out, "base.squashfs".as_ref()).unwrap();
        fs::write(out.join(&temp), "half").unwrap();
        assert!(temp.to_str().unwrap().starts_with(".base.squashfs.runner-"));
        lease.close().unwrap();
        assert!(names(&out).is_empty());
    }
}
