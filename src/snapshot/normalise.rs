//! Makes a frozen directory identical to its squashfs image, so later steps behave the same on either.
//!
//! | removed | reason |
//! | --- | --- |
//! | times after SOURCE_DATE_EPOCH | the same inputs give the same bytes |
//! | fractions of seconds, times before 1970 or after 2106 | squashfs has 32 bits of whole seconds |
//! | the order in which extended attributes were set | the same inputs give the same bytes |
//! | `trusted.overlay.*` but `opaque` | they name inodes of this mount, and mean nothing in another one |
//! | `trusted.overlay.opaque` of a directory that hides nothing | with `xino` the kernel gives it to every new one, and the layer would hide what another base has there |
//! | POSIX access control lists, as `setfacl -b` does | squashfs cannot store them; the build reports them |

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, statat, utimensat};

use crate::fs::acl;
use crate::fs::walk::{MountPoints, Walk};
use crate::fs::xattr::{XattrFile, XattrReader};

/// No program opens a longer path, see path_resolution(7): neither a reader of an image, nor the copy of a checkpoint.
pub const MAX_PATH_BYTES: usize = 4095;

/// The most entries that are reported.
const MAX_REPORTED: usize = 10;

/// The findings of a walk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// The number of files, directories and other entries, the root included.
    pub entries: u64,
    /// Entries with access control lists, which squashfs cannot store: the first ten, and the number of all.
    pub with_acl: (Vec<PathBuf>, u64),
}

/// Normalises the directory at `root`, which no other process may be using, with everything in it. `is_below` returns whether a
/// layer below has an entry at a path, which an opaque directory hides.
///
/// # Errors
/// Those of the system calls, with the path; a path that is too long.
pub fn normalise(root: &Path, epoch: Option<u64>, is_below: &dyn Fn(&Path) -> bool) -> io::Result<Normalised> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = rustix::fs::open(root, flags, Mode::empty())?;
    let mut pass = Pass { epoch, is_below, reader: XattrReader::default(), seen: Normalised::default() };
    pass.entry(top.as_fd(), OsStr::new("."), Path::new("/"))?;
    // A step of another container may have a descriptor of this directory, and put links in the place of directories.
    let mut walk = Walk::new(top.as_fd(), MountPoints::Refuse);
    loop {
        let advanced = walk.advance();
        let directory = Path::new("/").join(walk.path());
        let with_path =
            |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if !advanced.map_err(|error| with_path(&directory, error))? {
            return Ok(pass.seen);
        }
        for entry in walk.entries().map_err(|error| with_path(&directory, error))? {
            let path = directory.join(entry.name());
            if path.as_os_str().len() + root.as_os_str().len() > MAX_PATH_BYTES {
                return Err(io::Error::other(format!(
                    "{}… : the path is longer than 4095 bytes, and no program can open it",
                    path.display().to_string().chars().take(80).collect::<String>()
                )));
            }
            let kind = entry.kind(walk.fd()).map_err(|error| with_path(&directory, error.into()))?;
            pass.entry(walk.fd(), entry.name(), &path).map_err(|error| with_path(&path, error))?;
            if kind == FileType::Directory {
                walk.enter(entry.into_name());
            }
        }
    }
}

/// One walk: its rules, and its findings.
struct Pass<'a> {
    epoch: Option<u64>,
    is_below: &'a dyn Fn(&Path) -> bool,
    reader: XattrReader,
    seen: Normalised,
}

impl Pass<'_> {
    fn entry(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        self.seen.entries += 1;
        if self.attributes(&XattrFile::entry(directory, name)?, path)? {
            acl::remove(directory, name)?;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if let Some(seconds) = clamped(&stat, self.epoch) {
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Normalises the attributes of an entry; returns whether it has access control lists.
    fn attributes(&mut self, file: &XattrFile<'_>, path: &Path) -> io::Result<bool> {
        let names = self.reader.names(file)?;
        let mut has_acl = false;
        let mut remaining = Vec::new();
        for name in names.iter() {
            if name.starts_with(b"trusted.overlay.") && (name != b"trusted.overlay.opaque" || !(self.is_below)(path)) {
                file.remove(name)?;
            } else if acl::is_list(name) {
                has_acl = true;
            } else {
                remaining.push(name);
            }
        }
        self.put_in_order(file, &remaining)?;
        if has_acl {
            self.seen.with_acl.1 += 1;
            if self.seen.with_acl.0.len() < MAX_REPORTED {
                self.seen.with_acl.0.push(path.to_owned());
            }
        }
        Ok(has_acl)
    }

    /// Sets the attributes again where they are listed in another order, the last name first as tmpfs lists them.
    ///
    /// A filesystem that lists them in the order in which they were set, as ext4 mostly does, then lists them so too. The order
    /// of other filesystems does not change; and attributes of a security module, like `security.selinux`, are not touched.
    fn put_in_order(&mut self, file: &XattrFile<'_>, names: &[&[u8]]) -> io::Result<()> {
        let ours = |name: &&[u8]| {
            [b"user.".as_slice(), b"trusted.", b"security.capability"].iter().any(|by| name.starts_with(by))
        };
        if names.is_sorted_by(|one, next| one >= next) || !names.iter().all(ours) {
            return Ok(());
        }
        let mut all = Vec::new();
        for name in names {
            all.push((*name, self.reader.value(file, name)?.to_vec()));
        }
        all.sort_by(|one, other| other.cmp(one));
        for (name, _) in &all {
            file.remove(*name)?;
        }
        for (name, value) in &all {
            file.set(*name, value)?;
        }
        Ok(())
    }
}

/// Returns the time to be set, if it differs from the present one.
fn clamped(stat: &Stat, epoch: Option<u64>) -> Option<i64> {
    let most = i64::from(u32::MAX).min(epoch.map_or(i64::MAX, |epoch| i64::try_from(epoch).unwrap_or(i64::MAX)));
    let seconds = stat.st_mtime.clamp(0, most);
    (seconds != stat.st_mtime || stat.st_mtime_nsec != 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::fs::XattrFlags;

    use super::*;

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/new"), "").unwrap();
        fs::write(directory.path().join("old"), "").unwrap();
        symlink("nowhere", directory.path().join("link")).unwrap();
        let old = fs::File::options().write(true).open(directory.path().join("old")).unwrap();
        old.set_modified(UNIX_EPOCH + Duration::from_millis(5_500)).unwrap();
        directory
    }

    fn time(directory: &tempfile::TempDir, name: &str) -> (i64, i64) {
        let metadata = fs::symlink_metadata(directory.path().join(name)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    }

    #[test]
    fn newer_times_are_clamped_and_older_ones_become_whole_seconds() {
        let directory = directory();
        let seen = normalise(directory.path(), Some(1000), &|_| true).unwrap();
        assert_eq!(seen.entries, 5);
        for name in ["below/new", "below", "link", "."] {
            assert_eq!(time(&directory, name), (1000, 0), "{name}");
        }
        assert_eq!(time(&directory, "old"), (5, 0));
    }

    #[test]
    fn without_an_epoch_only_fractions_of_seconds_are_removed() {
        let directory = directory();
        let before = time(&directory, "below/new").0;
        normalise(directory.path(), None, &|_| true).unwrap();
        assert_eq!(time(&directory, "below/new"), (before, 0));
    }

    #[test]
    fn a_directory_deeper_than_there_are_descriptors_is_walked_to_its_end() {
        const DEPTH: usize = 1900;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(["d"; DEPTH].join("/"));
        fs::create_dir_all(&path).unwrap();
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        // Of the whole test process: other tests open few files at once.
        let few = rustix::process::Rlimit { current: Some(1024), ..before };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
        let seen = normalise(directory.path(), Some(7), &|_| true);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, before).unwrap();
        assert_eq!(seen.unwrap().entries, 1 + DEPTH as u64);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), UNIX_EPOCH + Duration::from_secs(7));
    }

    #[test]
    fn attributes_set_in_any_order_are_listed_backwards_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        for (name, value) in [("user.z", "1"), ("user.a", "2"), ("trusted.m", "3")] {
            rustix::fs::setxattr(&path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
        }
        normalise(directory.path(), None, &|_| true).unwrap();
        let mut names = vec![0; 1024];
        let length = rustix::fs::listxattr(&path, &mut names).unwrap();
        assert_eq!(names[..length], *b"user.z\0user.a\0trusted.m\0");
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(&path, "user.z", &mut value).unwrap(), 1);
        assert_eq!(value[0], b'1');
    }

    #[test]
    fn all_attributes_of_overlayfs_but_opaque_are_removed() {
        let directory = directory();
        let path = directory.path().join("below");
        for name in ["trusted.overlay.origin", "trusted.overlay.opaque", "user.kept"] {
            rustix::fs::setxattr(&path, name, b"y", XattrFlags::empty()).unwrap();
        }
        normalise(directory.path(), None, &|_| true).unwrap();
        let mut names = vec![0; 1024];
        let length = rustix::fs::listxattr(&path, &mut names).unwrap();
        let mut names: Vec<_> =
            names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort();
        assert_eq!(names, [b"trusted.overlay.opaque".to_vec(), b"user.kept".to_vec()]);
    }

    #[test]
    fn a_directory_that_hides_nothing_is_not_opaque() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["hides", "new"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            let place = directory.path().join(name);
            rustix::fs::setxattr(&place, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        }
        normalise(directory.path(), None, &|path| path == Path::new("/hides")).unwrap();
        for (name, expected) in [("hides", &b"trusted.overlay.opaque\0"[..]), ("new", b"")] {
            let mut names = vec![0; 1024];
            let length = rustix::fs::listxattr(directory.path().join(name), &mut names).unwrap();
            assert_eq!(&names[..length], expected, "{name}");
        }
    }
}
