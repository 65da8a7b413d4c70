//! Measures the size on disk of a tree that steps made.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, statat};
use rustix::io::Errno;

use super::walk::{MountPoints, Walk};

/// The unit of st_blocks, see stat(2).
const BLOCK: u64 = 512;

/// Returns the bytes that all files of a directory take on their disk. No link is followed, and files that are mounted inside do
/// not count.
///
/// # Errors
/// Those of the system calls; where a directory was moved while it was read.
pub fn tree_size(path: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(path, flags, Mode::empty())?;
    let device = rustix::fs::fstat(&top)?.st_dev;
    // Files with several names, which count once, by device and inode.
    let (mut bytes, mut seen) = (0, HashSet::new());
    let mut walk = Walk::new(top.as_fd(), MountPoints::Enter);
    loop {
        match walk.advance() {
            Ok(true) => {}
            Ok(false) => return Ok(bytes),
            // It is removed, or a file by now.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(error),
        }
        for entry in walk.entries()? {
            let stat = match statat(walk.fd(), entry.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let mut is_new = || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino));
            if stat.st_dev != device || !is_directory && !is_new() {
                continue;
            }
            bytes += BLOCK * u64::try_from(stat.st_blocks).unwrap_or_default();
            if is_directory {
                walk.enter(entry.into_name());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_file_counts_once_and_no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, other) = (directory.path().join("top"), directory.path().join("other"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(&other, vec![7; 1 << 20]).unwrap();
        let empty = tree_size(&top).unwrap();
        fs::write(top.join("a/b/file"), vec![7; 64 << 10]).unwrap();
        let one = tree_size(&top).unwrap();
        assert!((64 << 10..128 << 10).contains(&(one - empty)), "{empty} {one}");
        fs::hard_link(top.join("a/b/file"), top.join("again")).unwrap();
        symlink(&other, top.join("link")).unwrap();
        symlink(directory.path(), top.join("a/up")).unwrap();
        assert!(tree_size(&top).unwrap() < one + (16 << 10));
        assert!(tree_size(&top.join("a/up")).is_err());
        fs::File::create(top.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert!(tree_size(&top).unwrap() < 1 << 20);
    }
}
