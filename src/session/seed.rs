//! Copies a layer into a folder for changes: a session goes on where a checkpoint was taken.
//!
//! Everything of the layer comes along as it is: owners, modes, times, extended attributes, hard links, holes, device
//! nodes, and with them the overlay's whiteouts and opaque folders. What is in it was made by steps and is hostile: no link
//! is followed, and nothing outside the two folders is touched.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Lower, Workspace, exact};
use crate::fs::in_root::open_on_same_mount as inside;

/// As much is copied at once; as much of zeros in a row becomes a hole.
const CHUNK: usize = 64 << 10;

/// An image of what was changed in a session, to be copied back.
#[derive(Debug)]
pub struct Saved {
    mounted: Lower,
    file: PathBuf,
}

impl Saved {
    /// Mounts the image.
    ///
    /// # Errors
    /// As [`Workspace::image`].
    pub fn open(workspace: &Workspace, image: &Path) -> io::Result<Self> {
        Ok(Self { mounted: workspace.image(image)?, file: image.to_owned() })
    }

    /// Copies it into an empty folder.
    ///
    /// # Errors
    /// What the system calls say, with the path.
    pub(super) fn restore(&self, to: &Path) -> io::Result<()> {
        copy_layer(self.mounted.path(), to)?;
        exact::restore(&self.file, to)
    }
}

/// Copies all that is in the folder `from` into the empty folder `to`, and makes `to` look like `from`.
///
/// # Errors
/// What the system calls say, with the path.
fn copy_layer(from: &Path, to: &Path) -> io::Result<()> {
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut copy = Copy { from: open(from)?, to: open(to)?, linked: HashMap::new() };
    let mut left = vec![PathBuf::new()];
    let mut folders = Vec::new();
    while let Some(folder) = left.pop() {
        for name in copy.names(&folder).map_err(told(&folder))? {
            let path = folder.join(name);
            if copy.entry(&path).map_err(told(&path))? == FileType::Directory {
                left.push(path);
            }
        }
        folders.push(folder);
    }
    // Times of folders change with what is put into them, so they come last, the deepest first.
    for folder in folders.iter().rev() {
        copy.finish_folder(folder).map_err(told(folder))?;
    }
    Ok(())
}

fn told(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("copy {} of the checkpoint: {error}", path.display()))
}

struct Copy {
    from: OwnedFd,
    to: OwnedFd,
    /// Where the first name of a file with several was put, by inode.
    linked: HashMap<u64, PathBuf>,
}

impl Copy {
    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let fd = inside(self.from.as_fd(), folder, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Makes one entry; of a folder, only the folder itself.
    fn entry(&mut self, path: &Path) -> io::Result<FileType> {
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let above = path.parent().unwrap_or(Path::new(""));
        let folder = OFlags::RDONLY | OFlags::DIRECTORY;
        let (from, to) = (inside(self.from.as_fd(), above, folder)?, inside(self.to.as_fd(), above, folder)?);
        let stat = statat(&from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                linkat(&self.to, first, &to, name, AtFlags::empty())?;
                return Ok(kind);
            }
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        match kind {
            FileType::Directory => mkdirat(&to, name, Mode::RWXU)?,
            FileType::RegularFile => {
                let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let source = File::from(openat(&from, name, read, Mode::empty())?);
                copy_content(source, File::from(openat(&to, name, write, Mode::RUSR | Mode::WUSR)?))?;
            }
            FileType::Symlink => {
                let target = readlinkat(&from, name, Vec::new())?;
                symlinkat(target.as_c_str(), &to, name)?;
            }
            kind => mknodat(&to, name, kind, Mode::empty(), stat.st_rdev)?,
        }
        dress(from.as_fd(), to.as_fd(), name, &stat)?;
        Ok(kind)
    }

    fn finish_folder(&self, folder: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (from, to) = (inside(self.from.as_fd(), folder, flags)?, inside(self.to.as_fd(), folder, flags)?);
        let stat = statat(&from, ".", AtFlags::empty())?;
        // The top was there before, and has nothing of the layer yet.
        if folder.as_os_str().is_empty() {
            return dress(from.as_fd(), to.as_fd(), OsStr::new("."), &stat);
        }
        Ok(utimensat(&to, ".", &times(&stat), AtFlags::empty())?)
    }
}

fn copy_content(mut from: File, mut to: File) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        if buffer[..count].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
        } else {
            to.write_all(&buffer[..count])?;
        }
    }
    // A hole at the end.
    to.set_len(length)
}

/// Owner, extended attributes, mode and times. In this order: a change of owner takes capabilities and setuid away.
fn dress(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    attributes(&by_descriptor(from, name), &by_descriptor(to, name))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        chmodat(to, name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    Ok(utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

fn by_descriptor(folder: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    // 64 KiB is the kernel's limit of a list of names, and of a value.
    let mut names = vec![0; 64 << 10];
    let length = match llistxattr(from, &mut names) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // Of what the overlay notes, only this means anything above other mounts.
        if name.starts_with(b"trusted.overlay.") && name != b"trusted.overlay.opaque" {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(from, name, &mut value)?;
        lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use rustix::fs::CWD;

    use super::*;

    /// All that can be told of each entry, by path.
    fn described(top: &Path) -> Vec<String> {
        let (mut left, mut all) = (vec![top.to_owned()], Vec::new());
        while let Some(path) = left.pop() {
            let stat = path.symlink_metadata().unwrap();
            let what = match stat.file_type() {
                kind if kind.is_dir() => {
                    left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                    String::new()
                }
                kind if kind.is_file() => format!("{:?}", fs::read(&path).unwrap().len()),
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
                _ => stat.rdev().to_string(),
            };
            let mut names = vec![0; 1024];
            let length = llistxattr(&path, &mut names).unwrap();
            let mut names: Vec<_> = names[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            names.sort();
            let links = if stat.is_dir() { 0 } else { stat.nlink() };
            all.push(format!(
                "{:?} {:o} {}:{} {} {}.{:09} {what} {names:?}",
                path.strip_prefix(top).unwrap(),
                stat.mode(),
                stat.uid(),
                stat.gid(),
                links,
                stat.mtime(),
                stat.mtime_nsec(),
            ));
        }
        all.sort();
        all
    }

    #[test]
    fn a_copy_is_as_the_layer_in_all_that_can_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for path in [&from, &to] {
            fs::create_dir(path).unwrap();
        }
        fs::create_dir_all(from.join("a/b\n/c")).unwrap();
        fs::write(from.join("a/file"), "content").unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/b\n/again")).unwrap();
        fs::write(from.join("setuid"), "x").unwrap();
        std::os::unix::fs::lchown(from.join("setuid"), Some(70_000), Some(7)).unwrap();
        fs::set_permissions(from.join("setuid"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(from.join("a/b\n"), fs::Permissions::from_mode(0o1500)).unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        std::os::unix::fs::lchown(from.join("link"), Some(5), Some(6)).unwrap();
        mknodat(CWD, from.join("whiteout"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (path, name) in [("a", "trusted.overlay.opaque"), ("a/file", "user.kept"), (".", "user.top")] {
            lsetxattr(from.join(path), name, b"y", XattrFlags::empty()).unwrap();
        }
        let sparse = File::create(from.join("sparse")).unwrap();
        sparse.set_len(10 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&sparse, b"end", (9 << 20) + 5).unwrap();
        copy_layer(&from, &to).unwrap();
        assert_eq!(described(&to), described(&from));
        assert_eq!(fs::read(to.join("sparse")).unwrap(), fs::read(from.join("sparse")).unwrap());
        assert!(to.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20, "the holes are filled");
    }

    #[test]
    fn notes_of_the_overlay_that_mean_nothing_elsewhere_stay_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for path in [&from, &to] {
            fs::create_dir(path).unwrap();
        }
        fs::write(from.join("file"), "").unwrap();
        lsetxattr(from.join("file"), "trusted.overlay.origin", b"x", XattrFlags::empty()).unwrap();
        copy_layer(&from, &to).unwrap();
        let mut names = [0; 64];
        assert_eq!(llistxattr(to.join("file"), &mut names).unwrap(), 0);
    }
}
