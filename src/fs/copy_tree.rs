//! Copies a tree of files that steps made, with owners, modes, times, extended attributes, hard links, holes, device nodes, and
//! the overlay's whiteouts and opaque directories. The tree is hostile: the copy follows no link and touches nothing outside the
//! two directories.
//!
//! It walks both trees at once and finishes each directory after those in it, so it uses [`Descent`] itself and not `fs/walk`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chmodat, chownat, linkat, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

pub use super::caller::Owner;

use super::descent::Descent;
use super::in_root::{open_on_same_mount as inside, shorten};
use super::list::entries;
use super::regular::reopen;
use super::xattr::{XattrFile, XattrReader};

/// The bytes that are copied at once; as many zeros in a row become a hole.
pub const CHUNK: usize = 64 << 10;

/// The overlay's notes that mean something above other mounts: a directory that hides those below it, and the flags of chattr(1).
const EVERYWHERE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"trusted.overlay.protattr"];

/// The access control list that new files of a directory inherit: copied after the files.
const INHERITED: &[u8] = b"system.posix_acl_default";

/// The set-uid and the set-gid bit.
const PRIVILEGES: u32 = 0o6000;

/// The attribute with the capabilities of a program.
const CAPABILITY: &str = "security.capability";

/// The files that a copy names of those that it left out.
const MAX_NOTED: usize = 3;

/// How often the progress is reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Called with the number of bytes copied so far, after each entry and each 64 KiB; its error ends the copy.
pub type Report<'a> = dyn FnMut(u64) -> io::Result<()> + 'a;

/// Returns a report that calls `report` only a few times a second.
pub fn now_and_then(mut report: impl FnMut(u64) -> io::Result<()>) -> impl FnMut(u64) -> io::Result<()> {
    let mut next = Instant::now() + REPORT_INTERVAL;
    move |bytes| {
        let now = Instant::now();
        if now < next {
            return Ok(());
        }
        next = now + REPORT_INTERVAL;
        report(bytes)
    }
}

/// Copies all entries of the directory `from` into the empty directory `to`, and gives `to` the attributes of `from`.
///
/// # Errors
/// Those of the system calls, with the path; the error of `report`.
pub fn copy_tree(from: &Path, to: &Path, report: &mut Report<'_>) -> io::Result<()> {
    copy(from, to, false, report)
}

/// Copies as [`copy_tree`] does, with all of the overlay's notes about where a file comes from. Above the same layers they mean
/// the same: the files have the same inode numbers.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_tree_with_notes(from: &Path, to: &Path, report: &mut Report<'_>) -> io::Result<()> {
    copy(from, to, true, report)
}

/// The files that a copy for the host left out or changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Device nodes, fifos and sockets: the first ones, and the number of all.
    pub nodes: (Vec<PathBuf>, u64),
    /// Files without their set-uid or set-gid bit, or their capabilities: the first ones, and the number of all.
    pub privileges: (Vec<PathBuf>, u64),
}

/// Copies the entries of the directory `from` into the empty directory `to` as plain files of a user, without anything that gives
/// rights on the host: no device node, fifo or socket, no set-uid or set-gid bit, no attribute but those of `user.*`. With no
/// owner, they belong to the caller.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_plain(from: &Path, to: &Path, owner: Option<Owner>, report: &mut Report<'_>) -> io::Result<LeftOut> {
    let owner = owner.unwrap_or_else(|| Owner {
        user: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
    });
    copy_as(from, to, false, Some(owner), report)
}

fn copy(from: &Path, to: &Path, with_notes: bool, report: &mut Report<'_>) -> io::Result<()> {
    copy_as(from, to, with_notes, None, report).map(drop)
}

fn copy_as(
    from: &Path,
    to: &Path,
    with_notes: bool,
    plain: Option<Owner>,
    report: &mut Report<'_>,
) -> io::Result<LeftOut> {
    let open =
        |path: &Path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (from, to) = (open(from)?, open(to)?);
    let mut copy = Copy {
        top: to.as_fd(),
        linked: HashMap::new(),
        with_notes,
        plain,
        left_out: LeftOut::default(),
        progress: Progress { bytes: 0, report },
        buffer: vec![0; CHUNK],
        attributes: XattrReader::default(),
    };
    let (mut source, mut target) = (Descent::new(from.as_fd()), Descent::new(to.as_fd()));
    let mut path = PathBuf::new();
    // Of the directory that is read and of each above it: the names of its directories that are still to be entered.
    let mut levels = vec![copy.directory(source.fd(), target.fd(), &path)?];
    while let Some(rest) = levels.last_mut() {
        if let Some(name) = rest.pop() {
            path.push(&name);
            let entered = source.enter_on_same_mount(name.as_bytes());
            entered.and_then(|()| target.enter_on_same_mount(name.as_bytes())).map_err(with_path(&path))?;
            levels.push(copy.directory(source.fd(), target.fd(), &path)?);
        } else {
            // An entry that is put into a directory changes the directory's times.
            copy.finish_directory(source.fd(), target.fd(), levels.len() == 1).map_err(with_path(&path))?;
            source.leave().and_then(|()| target.leave()).map_err(with_path(&path))?;
            levels.pop();
            path.pop();
        }
    }
    Ok(copy.left_out)
}

fn with_path(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("copy {}: {error}", path.display()))
}

struct Copy<'a, 'r> {
    /// The top directory of the copy.
    top: BorrowedFd<'a>,
    /// The path of the first name of each file with several names, by inode.
    linked: HashMap<u64, PathBuf>,
    with_notes: bool,
    /// The owner of plain files: nothing that gives rights is copied.
    plain: Option<Owner>,
    left_out: LeftOut,
    progress: Progress<'a, 'r>,
    buffer: Vec<u8>,
    attributes: XattrReader,
}

/// An entry to be copied: its name in a directory of the source, and the same directory of the copy.
struct Entry<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    name: &'a OsStr,
    /// The path from the top.
    path: &'a Path,
}

struct Progress<'a, 'r> {
    bytes: u64,
    report: &'a mut Report<'r>,
}

impl Progress<'_, '_> {
    fn add(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes as u64;
        (self.report)(self.bytes)
    }
}

impl Copy<'_, '_> {
    /// Copies the entries of a directory, and returns the names of its directories, which are made and empty.
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> io::Result<Vec<OsString>> {
        let mut directories = Vec::new();
        for entry in entries(from).map_err(|error| with_path(path)(error.into()))? {
            let path = path.join(entry.name());
            let copied = self.entry(Entry { from, to, name: entry.name(), path: &path });
            if copied.map_err(with_path(&path))? == FileType::Directory {
                directories.push(entry.into_name());
            }
        }
        Ok(directories)
    }

    /// Gives a file another name, in a directory of the copy.
    fn link(&self, first: &Path, to: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let open = |from: BorrowedFd<'_>, piece: &Path| inside(from, piece, OFlags::PATH | OFlags::DIRECTORY);
        let (directory, rest) = shorten(self.top, first, open)?;
        Ok(linkat(directory.as_ref().map_or(self.top, AsFd::as_fd), rest, to, name, AtFlags::empty())?)
    }

    /// Copies one entry; of a directory, only the directory itself.
    fn entry(&mut self, entry: Entry<'_>) -> io::Result<FileType> {
        let Entry { from, to, name, path } = entry;
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if self.plain.is_some() && !matches!(kind, FileType::Directory | FileType::RegularFile | FileType::Symlink) {
            note(&mut self.left_out.nodes, path);
            return Ok(kind);
        }
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                self.link(first, to, name)?;
                return Ok(kind);
            }
            self.linked.insert(stat.st_ino, path.to_owned());
        }
        match kind {
            FileType::Directory => mkdirat(to, name, Mode::RWXU)?,
            FileType::RegularFile => {
                let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                // A process that was sent a descriptor of this tree can have put a FIFO or a device there by now.
                let place = openat(from, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                let source = reopen(place.as_fd())?;
                let target = File::from(openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
                self.content(source, target)?;
            }
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new())?;
                symlinkat(target.as_c_str(), to, name)?;
            }
            kind => mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?,
        }
        if self.plain.is_some() && kind != FileType::Symlink && self.has_privileges(from, name, &stat, kind)? {
            note(&mut self.left_out.privileges, path);
        }
        self.copy_metadata(from, to, name, &stat, |attribute| attribute != INHERITED)?;
        self.progress.add(0)?;
        Ok(kind)
    }

    fn finish_directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, is_top: bool) -> io::Result<()> {
        let stat = statat(from, ".", AtFlags::empty())?;
        // The top existed before, and has none of the source's attributes yet.
        if is_top {
            return self.copy_metadata(from, to, OsStr::new("."), &stat, |_| true);
        }
        let (from, copy) = (XattrFile::open(from), XattrFile::open(to));
        self.attributes(&from, &copy, |attribute| attribute == INHERITED)?;
        utimensat(to, ".", &times(&stat), AtFlags::empty())?;
        has_time(to, OsStr::new("."), &stat)
    }

    fn content(&mut self, from: File, to: File) -> io::Result<()> {
        let Self { buffer, progress, .. } = self;
        copy_data(from, to, buffer, |count| progress.add(count))
    }

    /// Copies owner, extended attributes, mode and times, in this order: a change of owner removes capabilities and setuid bits.
    fn copy_metadata(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        stat: &Stat,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        let Owner { user, group } = self.plain.unwrap_or(Owner { user: stat.st_uid, group: stat.st_gid });
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
        chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        self.attributes(&XattrFile::entry(from, name)?, &XattrFile::entry(to, name)?, is_wanted)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            let mode = if self.plain.is_some() { stat.st_mode & !PRIVILEGES } else { stat.st_mode };
            chmodat(to, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?;
        has_time(to, name, stat)
    }

    /// Whether a file gives a process that executes it rights, or its group to the files of a directory.
    fn has_privileges(&mut self, from: BorrowedFd<'_>, name: &OsStr, stat: &Stat, kind: FileType) -> io::Result<bool> {
        if stat.st_mode & PRIVILEGES != 0 {
            return Ok(true);
        }
        let is_file = kind == FileType::RegularFile;
        let capability = || XattrFile::entry(from, name)?.value(CAPABILITY);
        Ok(is_file && capability()?.is_some())
    }

    fn attributes(
        &mut self,
        from: &XattrFile<'_>,
        to: &XattrFile<'_>,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<()> {
        for name in self.attributes.names(from)?.iter() {
            let is_note = name.starts_with(b"trusted.overlay.") && !EVERYWHERE.contains(&name);
            let is_right = self.plain.is_some() && !name.starts_with(b"user.");
            if is_note && !self.with_notes || is_right || !is_wanted(name) {
                continue;
            }
            to.set(name, self.attributes.value(from, name)?).map_err(|error| {
                // The kernel reports ENOSPC also for an attribute that does not fit into its file, on a disk with room.
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("its attribute {}: {error}", OsStr::from_bytes(name).display()))
            })?;
        }
        Ok(())
    }
}

/// Notes a file, among the first ones with its path.
fn note((first, all): &mut (Vec<PathBuf>, u64), path: &Path) {
    *all += 1;
    if first.len() < MAX_NOTED {
        first.push(path.to_owned());
    }
}

/// Copies a file's content into an empty file. It reads no hole where the filesystem reports its holes, and makes one of zeros that
/// fill the buffer. `progress` is called with the number of bytes after each piece.
///
/// # Errors
/// Those of reading and writing, and of `progress`.
pub fn copy_data(
    mut from: File,
    mut to: File,
    buffer: &mut [u8],
    mut progress: impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let length = from.metadata()?.len();
    let mut at = 0;
    while at < length {
        let data = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            data => data?,
        };
        let hole = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Hole(data)) {
            Err(Errno::INVAL | Errno::OPNOTSUPP) => length,
            hole => hole?,
        };
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(data))?;
        at = hole;
        let mut left = hole.saturating_sub(data);
        while left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(CHUNK));
            let count = from.read(&mut buffer[..most])?;
            if count == 0 {
                break;
            }
            left -= count as u64;
            if buffer[..count].iter().all(|byte| *byte == 0) {
                to.seek(SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
            } else {
                to.write_all(&buffer[..count])?;
            }
            progress(count)?;
        }
    }
    // A hole at the end.
    to.set_len(length)
}

pub(super) fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

/// Fails where the copy's filesystem cannot store a time and has put another in its place: ext4 stores times from 1901 to 2446.
pub(super) fn has_time(to: BorrowedFd<'_>, name: &OsStr, stat: &Stat) -> io::Result<()> {
    let is_usual = (0..i64::from(u32::MAX)).contains(&stat.st_mtime);
    if is_usual || statat(to, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime == stat.st_mtime {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the filesystem of the copy cannot store its time"))
}

#[cfg(test)]
mod tests;
