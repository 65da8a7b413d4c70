//! System calls for descriptors and files.

use core::mem::size_of_val;

use super::call::{ENOENT, Errno, Result, again, checked, fd, text};
use super::number;

pub fn close(descriptor: i32) {
    let _ = checked(number::CLOSE, [fd(descriptor)]);
}

/// Closes every descriptor that is not below `first`.
pub fn close_from(first: i32) -> Result<()> {
    checked(number::CLOSE_RANGE, [fd(first), u32::MAX as usize, 0]).map(drop)
}

pub const O_CLOEXEC: usize = 0o2_000_000;

/// Makes `to` a duplicate of `from`; it stays open across execve(2) unless `close_on_exec`.
pub fn duplicate(from: i32, to: i32, close_on_exec: bool) -> Result<()> {
    if from == to {
        const F_SETFD: usize = 2;
        return checked(number::FCNTL, [fd(from), F_SETFD, usize::from(close_on_exec)]).map(drop);
    }
    checked(number::DUP3, [fd(from), fd(to), if close_on_exec { O_CLOEXEC } else { 0 }]).map(drop)
}

/// Clears `O_NONBLOCK` and every other status flag.
pub fn block(descriptor: i32) -> Result<()> {
    const F_SETFL: usize = 4;
    checked(number::FCNTL, [fd(descriptor), F_SETFL, 0]).map(drop)
}

pub const AT_FDCWD: i32 = -100;
pub const O_WRONLY: usize = 1;
pub const O_RDWR: usize = 2;
pub const O_NOCTTY: usize = 0o400;
pub const O_NONBLOCK: usize = 0o4000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: usize = 0o100_000;
pub const O_PATH: usize = 0o10_000_000;

pub fn open(directory: i32, path: &[u8], flags: usize) -> Result<i32> {
    Ok(again(number::OPENAT, [fd(directory), text(path)?, flags | O_CLOEXEC, 0o600])? as i32)
}

/// Opens a path with no magic link of proc(5) on it, see openat2(2).
pub fn open_without_magic(path: &[u8], flags: usize) -> Result<i32> {
    const RESOLVE_NO_MAGICLINKS: u64 = 2;
    open_resolving(AT_FDCWD, path, flags, RESOLVE_NO_MAGICLINKS)
}

/// Opens a path with no symbolic link on it at all, see openat2(2); a relative one begins at a directory.
pub fn open_without_links(directory: i32, path: &[u8], flags: usize) -> Result<i32> {
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    open_resolving(directory, path, flags, RESOLVE_NO_SYMLINKS)
}

fn open_resolving(directory: i32, path: &[u8], flags: usize, resolve: u64) -> Result<i32> {
    let how = [(flags | O_CLOEXEC) as u64, 0, resolve];
    Ok(again(number::OPENAT2, [fd(directory), text(path)?, (&raw const how) as usize, size_of_val(&how)])? as i32)
}

/// The kind of file that a descriptor refers to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Directory,
    /// /dev/null, by its device number.
    Null,
    Other,
}

/// The beginning of `struct statx`, see statx(2), up to the numbers of a device.
#[repr(C)]
struct Statx {
    before_mode: [u32; 7],
    mode: u16,
    padding: u16,
    number: u64,
    before_changed: [u32; 14],
    changed: Time,
    modified: Time,
    major: u32,
    minor: u32,
    after: [u32; 30],
}

/// A time of a file, in the form of statx(2).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
    padding: u32,
}

impl Time {
    /// Before every time of a file.
    pub const FIRST: Self = Self { seconds: i64::MIN, nanoseconds: 0, padding: 0 };
}

/// Returns the status of a file below a directory, without following a link; an empty path stands for the directory.
fn stat(directory: i32, path: &[u8]) -> Result<Statx> {
    const AT_EMPTY_PATH_AND_NO_LINK: usize = 0x1000 | 0x100;
    const STATX_BASIC_STATS: usize = 0x7ff;
    let mut stat = Statx {
        before_mode: [0; 7],
        mode: 0,
        padding: 0,
        number: 0,
        before_changed: [0; 14],
        changed: Time::FIRST,
        modified: Time::FIRST,
        major: 0,
        minor: 0,
        after: [0; 30],
    };
    let arguments =
        [fd(directory), text(path)?, AT_EMPTY_PATH_AND_NO_LINK, STATX_BASIC_STATS, (&raw mut stat) as usize];
    checked(number::STATX, arguments)?;
    Ok(stat)
}

/// A file and its last change.
pub struct Change {
    /// The inode's number.
    pub number: u64,
    /// The time of the last change of the file or its attributes.
    pub changed: Time,
}

/// Returns the last change of a file below a directory, without following a link; an empty path stands for the directory.
pub fn change_of(directory: i32, path: &[u8]) -> Result<Change> {
    stat(directory, path).map(|stat| Change { number: stat.number, changed: stat.changed })
}

/// Returns the time that a file gets if it is changed now.
pub fn file_time() -> Result<Time> {
    const CLOCK_REALTIME_COARSE: usize = 5;
    let mut time = [0i64; 2];
    checked(number::CLOCK_GETTIME, [CLOCK_REALTIME_COARSE, (&raw mut time) as usize])?;
    Ok(Time { seconds: time[0], nanoseconds: time[1] as u32, padding: 0 })
}

pub fn kind(descriptor: i32) -> Result<FileKind> {
    let stat = stat(descriptor, &[0])?;
    Ok(match stat.mode & 0o170_000 {
        0o040_000 => FileKind::Directory,
        0o020_000 if (stat.major, stat.minor) == (1, 3) => FileKind::Null,
        _ => FileKind::Other,
    })
}

/// The mount that is visible at a path.
pub struct MountAt {
    /// The mount's id, unique in the namespace.
    pub id: u64,
    /// Whether the path is the root of the mount, and not a file below that.
    pub is_top: bool,
}

/// Returns the mount that is visible at a path, without following links; a relative path begins at a directory, in the namespace of
/// that directory's mount.
pub fn mount_at(directory: i32, path: &[u8]) -> Result<MountAt> {
    let place = open_without_links(directory, path, O_PATH | O_NOFOLLOW)?;
    let mount = mount_of(place);
    close(place);
    mount
}

/// Returns the mount of an open file.
pub fn mount_of(place: i32) -> Result<MountAt> {
    const AT_EMPTY_PATH: usize = 0x1000;
    mount(place, &[0], AT_EMPTY_PATH)
}

/// Returns the mount that is visible at an absolute path in this process' own namespace.
pub fn mount_visible_at(path: &[u8]) -> Result<MountAt> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    mount(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)
}

fn mount(directory: i32, path: &[u8], flags: usize) -> Result<MountAt> {
    const STATX_MNT_ID: usize = 0x1000;
    const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
    const ATTRIBUTES: usize = 1;
    const MNT_ID: usize = 18;
    let mut stat = [0u64; 32];
    let arguments = [fd(directory), text(path)?, flags, STATX_MNT_ID, (&raw mut stat) as usize];
    checked(number::STATX, arguments)?;
    Ok(MountAt { id: stat[MNT_ID], is_top: stat[ATTRIBUTES] & STATX_ATTR_MOUNT_ROOT != 0 })
}

/// Makes a directory in another one.
pub fn make_directory(directory: i32, path: &[u8]) -> Result<()> {
    checked(number::MKDIRAT, [fd(directory), text(path)?, 0o755]).map(drop)
}

/// Makes an empty file in a directory.
pub fn make_file(directory: i32, path: &[u8]) -> Result<()> {
    const S_IFREG: usize = 0o100_000;
    checked(number::MKNODAT, [fd(directory), text(path)?, S_IFREG | 0o644, 0]).map(drop)
}

/// Makes a device node that root owns. The mode includes the type; the device is its major and minor number.
pub fn make_node(directory: i32, path: &[u8], mode: u32, device: (u32, u32)) -> Result<()> {
    let (major, minor) = (u64::from(device.0), u64::from(device.1));
    // The same layout as that of makedev(3).
    let device = (major & 0xffff_f000) << 32 | (major & 0xfff) << 8 | (minor & 0xffff_ff00) << 12 | minor & 0xff;
    checked(number::MKNODAT, [fd(directory), text(path)?, mode as usize, device as usize]).map(drop)
}

/// Makes a symbolic link.
pub fn link(target: &[u8], directory: i32, path: &[u8]) -> Result<()> {
    checked(number::SYMLINKAT, [text(target)?, fd(directory), text(path)?]).map(drop)
}

/// Changes the owner and group of a file, without following a link.
pub fn change_owner_in(directory: i32, path: &[u8], uid: u32, gid: u32) -> Result<()> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    let owner = [uid as usize, gid as usize];
    checked(number::FCHOWNAT, [fd(directory), text(path)?, owner[0], owner[1], AT_SYMLINK_NOFOLLOW]).map(drop)
}

/// Writes a few bytes at once.
pub fn write(descriptor: i32, bytes: &[u8]) -> Result<()> {
    let written = again(number::WRITE, [fd(descriptor), bytes.as_ptr() as usize, bytes.len()])?;
    if written == bytes.len() { Ok(()) } else { Err(Errno(5)) }
}

/// Reads from a file; 0 at its end.
pub fn read(descriptor: i32, bytes: &mut [u8]) -> Result<usize> {
    again(number::READ, [fd(descriptor), bytes.as_mut_ptr() as usize, bytes.len()])
}

/// Reads entries of a directory, see getdents(2); 0 at its end.
pub fn entries(directory: i32, bytes: &mut [u8]) -> Result<usize> {
    checked(number::GETDENTS64, [fd(directory), bytes.as_mut_ptr() as usize, bytes.len()])
}

/// Changes to an open directory, and makes sure that it lies below the root of this process.
pub fn change_directory(directory: i32) -> Result<()> {
    checked(number::FCHDIR, [fd(directory)])?;
    // "(unreachable)/…" for a directory outside, see getcwd(2).
    let mut path = [0u8; 4096];
    checked(number::GETCWD, [path.as_mut_ptr() as usize, path.len()])?;
    if path[0] == b'/' { Ok(()) } else { Err(ENOENT) }
}
