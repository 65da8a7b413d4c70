//! Paths below an open directory: resolved inside it and never by the host, because its content may be hostile.
//!
//! This is the one place of openat2(2). [`open`] follows links inside a root, as chroot(2) would; the other functions follow
//! none.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// The number of links that path_resolution(7) follows.
const MAX_LINKS: u32 = 40;

/// A lookup that races with as many renames in a row is not going to end.
const MAX_TRIES: u32 = 1000;

/// The result of resolving a path inside a root, with every link followed inside it.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolvedPath {
    /// The part that exists; absolute, seen from inside.
    pub existing: PathBuf,
    /// The type of `existing`.
    pub kind: FileType,
    /// The names below it that do not exist.
    pub missing: Vec<OsString>,
}

impl ResolvedPath {
    /// Returns the whole path; absolute, seen from inside.
    pub fn path(&self) -> PathBuf {
        let mut path = self.existing.clone();
        path.extend(&self.missing);
        path
    }
}

/// Something that will be mounted inside a root.
#[derive(Debug)]
pub struct Cover {
    /// Its mount point; absolute, seen from inside, without links.
    pub at: PathBuf,
    /// The directory that will be mounted; none where it cannot be known. Nothing below an unknown one is looked up.
    pub content: Option<OwnedFd>,
}

/// Follows `path` inside `root`, also through links that lead to nothing.
///
/// # Errors
/// `ELOOP` past 40 links; `ENOTDIR` where a file is used as a directory; those of openat2(2).
pub fn resolve(root: BorrowedFd<'_>, path: &Path) -> io::Result<ResolvedPath> {
    resolve_covered(root, &[], path)
}

/// Follows a path as [`resolve`] does, and as if all of `covers` were mounted. The same directories may be mounted elsewhere too,
/// where hostile steps put links into them: no link in them is followed.
///
/// # Errors
/// Those of [`resolve`]; in words for a link in one of `covers`.
pub fn resolve_covered(root: BorrowedFd<'_>, covers: &[Cover], path: &Path) -> io::Result<ResolvedPath> {
    let above = |path: &Path| {
        let above = covers.iter().filter(|cover| path != cover.at && path.starts_with(&cover.at));
        above.max_by_key(|cover| cover.at.components().count())
    };
    let look = |path: &Path| match above(path) {
        None => look(root, path),
        Some(Cover { content: None, .. }) => Ok(None),
        Some(Cover { at, content: Some(content) }) => look(content.as_fd(), path.strip_prefix(at).unwrap_or(path)),
    };
    let mut remaining: VecDeque<OsString> = names(path);
    let mut at = PathBuf::from("/");
    let mut kind = FileType::Directory;
    let mut links = 0;
    while let Some(name) = remaining.pop_front() {
        if name == ".." {
            at.pop();
            kind = FileType::Directory;
            continue;
        }
        if kind != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        let next = at.join(&name);
        let Some((fd, next_kind)) = look(&next)? else {
            let missing = std::iter::once(name).chain(remaining).fold(Vec::new(), |mut missing, name| {
                if name == ".." {
                    drop(missing.pop())
                } else {
                    missing.push(name)
                }
                missing
            });
            let inside = ResolvedPath { existing: at, kind, missing };
            let whole = inside.path();
            // The missing part may exist once the mount point is made and something is mounted on it.
            match above(&whole).filter(|cover| cover.content.is_some() && !inside.existing.starts_with(&cover.at)) {
                None => return Ok(inside),
                Some(cover) => {
                    (at, kind) = (cover.at.clone(), FileType::Directory);
                    remaining = names(whole.strip_prefix(&cover.at).unwrap_or(&whole));
                    continue;
                }
            }
        };
        if next_kind != FileType::Symlink {
            (at, kind) = (next, next_kind);
            continue;
        }
        if let Some(cover) = above(&next) {
            return Err(link_in_mount(&next, &cover.at));
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let link = readlinkat(&fd, c"", Vec::new())?.into_bytes();
        let link = PathBuf::from(OsString::from_vec(link));
        if link.is_absolute() {
            at = PathBuf::from("/");
        }
        for name in names(&link).into_iter().rev() {
            remaining.push_front(name);
        }
    }
    Ok(ResolvedPath { existing: at, kind, missing: Vec::new() })
}

/// Returns the error for a link on the way of a mount's target, in the directory mounted at `mount`.
pub fn link_in_mount(link: &Path, mount: &Path) -> io::Error {
    io::Error::other(format!(
        "{} is a link that lies in the mount {}, where other steps may have put it, and is not followed; remove the link, or \
         write a target that leads through no link in that mount",
        link.display(),
        mount.display()
    ))
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Opens the file at `path` inside `root`, with every link on the way followed inside it.
///
/// # Errors
/// Those of openat2(2); the `EAGAIN` of a race only after many tries.
pub fn open(root: impl AsFd, path: impl Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    look_up(root, path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens the file at `path` below `dir` and follows no link.
///
/// # Errors
/// `ELOOP` for a link on the way, `EXDEV` for a path that leads upwards, and the others of openat2(2).
pub fn open_beneath(dir: impl AsFd, path: impl Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    look_up(dir, path, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

/// Opens the file at `path` below `dir`, follows no link and enters no other mount.
///
/// # Errors
/// Those of [`open_beneath`]; `EXDEV` for a mount point too.
pub fn open_on_same_mount(dir: impl AsFd, path: impl Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    look_up(dir, path, flags | OFlags::NOFOLLOW, resolve)
}

/// Opens the file at `path`, from `dir` unless it is absolute, and follows no link.
///
/// # Errors
/// `ELOOP` for a link on the way, and the others of openat2(2).
pub fn open_without_links(dir: impl AsFd, path: impl Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    look_up(dir, path, flags, ResolveFlags::NO_SYMLINKS)
}

/// The most bytes of a piece of a path: with a name of 255 more it is within the system's limit of 4,096.
const MAX_PIECE: usize = 3800;

/// Follows a path of any length below `dir` until one system call takes the remaining part. Returns the directory that the
/// remaining part begins at, where that is not `dir`, and that part. `open` opens the directory at a piece of the path.
///
/// # Errors
/// Those of `open`.
pub fn shorten<'p>(
    dir: BorrowedFd<'_>,
    path: &'p Path,
    open: impl Fn(BorrowedFd<'_>, &Path) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<(Option<OwnedFd>, &'p Path)> {
    let (mut at, mut rest) = (None::<OwnedFd>, path.as_os_str().as_bytes());
    // A name has at most 255 bytes, so there is a slash to cut at.
    while rest.len() > MAX_PIECE
        && let Some(end) = rest[..=MAX_PIECE].iter().rposition(|byte| *byte == b'/')
    {
        at = Some(open(at.as_ref().map_or(dir, AsFd::as_fd), Path::new(OsStr::from_bytes(&rest[..end])))?);
        rest = &rest[end + 1..];
    }
    Ok((at, Path::new(OsStr::from_bytes(rest))))
}

/// Opens a path by openat2(2). An empty path is the directory itself.
fn look_up(dir: impl AsFd, path: impl Arg, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    path.into_with_c_str(|path| {
        let path = if path.is_empty() { c"." } else { path };
        let mut tries = 0;
        loop {
            match openat2(dir.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // openat2(2) asks for another try: something on the host was renamed or mounted while it resolved a `..`.
                Err(Errno::AGAIN | Errno::INTR) if tries < MAX_TRIES => tries += 1,
                result => return result,
            }
        }
    })
}

/// Opens the file at `path`, in which only the last name may be a link.
fn look(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<(OwnedFd, FileType)>> {
    match open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(fd) => {
            let kind = FileType::from_raw_mode(fstat(&fd)?.st_mode);
            Ok(Some((fd, kind)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("usr/bin")).unwrap();
        fs::write(directory.path().join("usr/bin/sh"), "").unwrap();
        symlink("usr/bin", directory.path().join("bin")).unwrap();
        symlink("/../../run/resolv", directory.path().join("resolv.conf")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let fd = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (directory, fd)
    }

    fn at(path: &str) -> io::Result<(String, usize)> {
        let (_directory, fd) = root();
        resolve(fd.as_fd(), Path::new(path)).map(|inside| (inside.path().display().to_string(), inside.missing.len()))
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        assert_eq!(at("/bin/sh").unwrap(), ("/usr/bin/sh".into(), 0));
    }

    #[test]
    fn a_link_that_climbs_out_and_leads_to_nothing_stays_inside() {
        assert_eq!(at("/resolv.conf").unwrap(), ("/run/resolv".into(), 2));
    }

    #[test]
    fn missing_names_are_counted_apart_from_the_existing_path() {
        assert_eq!(at("/bin/a/../b").unwrap(), ("/usr/bin/b".into(), 1));
        assert_eq!(at("/").unwrap(), ("/".into(), 0));
    }

    #[test]
    fn a_path_below_a_later_mount_is_resolved_in_the_mounted_directory() {
        let (_root, fd) = root();
        let mounted = tempfile::tempdir().unwrap();
        fs::create_dir(mounted.path().join("there")).unwrap();
        symlink("/resolv.conf", mounted.path().join("out")).unwrap();
        symlink("../../sys/hidden", mounted.path().join("up")).unwrap();
        let content = rustix::fs::open(mounted.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let covers = [
            Cover { at: "/usr/bin".into(), content: Some(content.try_clone().unwrap()) },
            Cover { at: "/sys".into(), content: None },
            Cover { at: "/not/there/yet".into(), content: Some(content) },
        ];
        for (path, real) in [
            ("/bin/there", "/usr/bin/there"),
            // The file that was there is hidden.
            ("/bin/sh", "/usr/bin/sh"),
            ("/sys/a/../b", "/sys/b"),
            ("/not/there/else", "/not/there/else"),
        ] {
            let found = resolve_covered(fd.as_fd(), &covers, Path::new(path)).unwrap();
            assert_eq!(found.path(), Path::new(real), "{path}");
        }
        assert_eq!(resolve_covered(fd.as_fd(), &covers, Path::new("/bin/sh")).unwrap().missing, ["sh"]);
        for (path, link, mount) in [
            ("/bin/out", "/usr/bin/out", "/usr/bin"),
            ("/bin/up/x", "/usr/bin/up", "/usr/bin"),
            ("/not/there/yet/out", "/not/there/yet/out", "/not/there/yet"),
        ] {
            let error = resolve_covered(fd.as_fd(), &covers, Path::new(path)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{link} is a link that lies in the mount {mount},")), "{error}");
        }
    }

    #[test]
    fn without_links_a_link_on_the_way_is_refused() {
        let (directory, fd) = root();
        let refused = Some(Errno::LOOP);
        assert_eq!(open_beneath(&fd, "bin/sh", OFlags::PATH).err(), refused);
        assert_eq!(open_on_same_mount(&fd, "bin", OFlags::RDONLY).err(), refused);
        assert_eq!(open_without_links(&fd, "bin/sh", OFlags::PATH).err(), refused);
        assert_eq!(open_without_links(&fd, directory.path().join("bin/sh"), OFlags::PATH).err(), refused);
        assert_eq!(open_beneath(&fd, "usr/../..", OFlags::PATH).err(), Some(Errno::XDEV));
        for path in ["", "usr/bin/sh"] {
            assert!(
                open_beneath(&fd, path, OFlags::PATH).is_ok() && open_without_links(&fd, path, OFlags::PATH).is_ok()
            );
        }
    }

    #[test]
    fn the_pieces_of_a_long_path_joined_are_the_path() {
        let (_directory, fd) = root();
        let name = "n".repeat(255);
        for count in 0..60 {
            let path = PathBuf::from(vec![name.as_str(); count].join("/"));
            let pieces = std::cell::RefCell::new(PathBuf::new());
            let open = |_: BorrowedFd<'_>, piece: &Path| {
                assert!(piece.as_os_str().len() <= MAX_PIECE);
                pieces.borrow_mut().push(piece);
                open_beneath(&fd, "", OFlags::PATH)
            };
            let (at, rest) = shorten(fd.as_fd(), &path, open).unwrap();
            assert_eq!(at.is_some(), count * 256 > MAX_PIECE + 1);
            assert!(rest.as_os_str().len() <= MAX_PIECE);
            assert_eq!(pieces.into_inner().join(rest).components().count(), count);
        }
    }

    #[test]
    fn a_loop_of_links_and_a_file_used_as_a_directory_are_errors() {
        assert_eq!(at("/loop/x").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(at("/bin/sh/x").unwrap_err().raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
    }

    #[test]
    fn a_rename_elsewhere_on_the_host_fails_no_lookup() {
        let (directory, fd) = root();
        let elsewhere = tempfile::tempdir().unwrap();
        let (one, other) = (elsewhere.path().join("one"), elsewhere.path().join("other"));
        fs::create_dir(&one).unwrap();
        symlink("../../../../../../../usr/../usr/../usr/bin/sh", directory.path().join("climbs")).unwrap();
        let is_finished = std::sync::atomic::AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_finished.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&one, &other).unwrap();
                    fs::rename(&other, &one).unwrap();
                }
            });
            let failed = (0..20_000).find_map(|_| open(&fd, "/climbs", OFlags::PATH).err());
            is_finished.store(true, std::sync::atomic::Ordering::Relaxed);
            failed
        });
        assert_eq!(failed, None);
    }
}
