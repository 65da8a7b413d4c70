//! Outputs: files outside the store, there whole or as they were before.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::error::io as failed;
use super::{Lease, StoreError, record};
use crate::fs::atomic;

/// `NAME_MAX` of the filesystems of Linux, in bytes.
const LONGEST_NAME: usize = 255;

impl Lease {
    /// Copies a file of the store to an output, whose folders are made. What was there is replaced in one instant; of
    /// a link the link itself. Shares the bytes where the filesystem can, see copy_file_range(2). When this returns,
    /// the output lasts. Its mode is 0644 less the umask.
    ///
    /// # Errors
    /// [`StoreError::Output`] for a path that is not absolute or ends in no name, and whatever the copying gives. The
    /// output is as it was then.
    pub fn publish(&self, source: &Path, output: &Path) -> Result<(), StoreError> {
        let invalid = || StoreError::Output { path: output.to_owned() };
        let (folder, name) = output.parent().zip(output.file_name()).ok_or_else(invalid)?;
        if !output.is_absolute() {
            return Err(invalid());
        }
        let publish = || self.replace(source, folder, name, output);
        publish().map_err(|error| StoreError::Publish { path: output.to_owned(), source: Box::new(error) })
    }

    fn replace(&self, source: &Path, folder: &Path, name: &OsStr, output: &Path) -> Result<(), StoreError> {
        fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;
        let temp = self.name_half_written(folder, name)?;
        let copied = copy(source, &temp).map_err(failed("write", &temp));
        let copied = copied.and_then(|()| atomic::rename(&temp, output).map_err(failed("replace", output)));
        if copied.is_err() {
            // It may not be there; and if it cannot be removed, closing the lease tries again and tells.
            let _ = fs::remove_file(&temp);
        }
        copied.and_then(|()| File::open(folder).and_then(atomic::sync_dir).map_err(failed("sync", folder)))
    }

    /// A name beside the output that the lease knows: whoever finds the lease dead removes the file.
    fn name_half_written(&self, folder: &Path, name: &OsStr) -> Result<PathBuf, StoreError> {
        let mark = record::mark(self.id());
        let end = format!("{mark}{}", self.outputs.fetch_add(1, Ordering::Relaxed));
        let mut temp = OsString::new();
        if 1 + name.len() + end.len() <= LONGEST_NAME {
            temp.push(".");
            temp.push(name);
        }
        temp.push(end);
        let temp = folder.join(temp);
        record::append(&self.file, &temp).map_err(failed("write the lease of", &temp))?;
        Ok(temp)
    }
}

fn copy(source: &Path, temp: &Path) -> io::Result<()> {
    let mut from = File::open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o644).open(temp)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::Store;
    use super::*;

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
        lease.publish(&source, &output).unwrap();
        fs::write(&output, "old").unwrap();
        lease.publish(&source, &output).unwrap();
        assert_eq!(fs::read(&output).unwrap(), fs::read(&source).unwrap());
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o133, 0, "more than 0644");
        assert_eq!(output.metadata().unwrap().permissions().mode() & 0o600, 0o600);
        assert_eq!(names(output.parent().unwrap()), ["base.squashfs"]);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let (folder, lease, source) = lease();
        let (kept, output) = (folder.path().join("kept"), folder.path().join("link"));
        fs::write(&kept, "kept").unwrap();
        symlink(&kept, &output).unwrap();
        lease.publish(&source, &output).unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        assert!(!output.is_symlink());
    }

    #[test]
    fn a_failure_leaves_what_was_there() {
        let (folder, lease, source) = lease();
        let out = folder.path().join("out");
        let (taken, file) = (out.join("folder"), out.join("file"));
        fs::create_dir_all(taken.join("full")).unwrap();
        fs::write(&file, "old").unwrap();
        assert!(lease.publish(&source, &taken).is_err());
        assert!(lease.publish(&folder.path().join("none"), &file).is_err());
        assert!(lease.publish(&source, &file.join("below")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        let mut left = names(&out);
        left.sort();
        assert_eq!(left, ["file", "folder"]);
    }

    #[test]
    fn what_can_be_no_output_is_refused() {
        let (_folder, lease, source) = lease();
        for output in ["/", "", "relative", "/a/.."] {
            assert!(matches!(lease.publish(&source, Path::new(output)), Err(StoreError::Output { .. })), "{output}");
        }
    }

    #[test]
    fn the_longest_name_can_be_written() {
        let (folder, lease, source) = lease();
        let output = folder.path().join("n".repeat(LONGEST_NAME));
        lease.publish(&source, &output).unwrap();
        assert!(output.exists());
    }

    #[test]
    fn a_half_written_output_goes_with_its_lease() {
        let (folder, lease, _) = lease();
        let out = folder.path().join("out\n\u{fffd}");
        fs::create_dir(&out).unwrap();
        let temp = lease.name_half_written(&out, "base.squashfs".as_ref()).unwrap();
        fs::write(&temp, "half").unwrap();
        assert!(temp.file_name().unwrap().to_str().unwrap().starts_with(".base.squashfs.runner-"));
        lease.close().unwrap();
        assert!(names(&out).is_empty());
    }
}
