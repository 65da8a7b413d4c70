//! The mounts of a process' namespace, see proc_pid_mountinfo(5), and the paths at which they show a directory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::fs::dirfd::real_path;

/// The deepest chain of mounts on mounts.
const MAX_DEPTH: usize = 1 << 16;

/// The mounts of a namespace.
#[derive(Debug)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

#[derive(Debug)]
struct Mount {
    id: u64,
    parent: u64,
    /// `MAJOR:MINOR` of the filesystem.
    device: String,
    /// The directory of the filesystem that is mounted.
    root: PathBuf,
    /// The mount point.
    point: PathBuf,
}

/// The location of an open file: its path in the namespace, and its path in its filesystem, which does not depend on
/// mount points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    mount: u64,
    path: PathBuf,
    device: String,
    inside: PathBuf,
}

/// A path at which a directory is visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The path.
    pub path: PathBuf,
    /// The path itself or one above it, from which the rest of the path is in one mount.
    pub mount_point: PathBuf,
}

/// The mounts that a bind shows, see [`MountTable::shown_by`].
#[derive(Debug)]
pub struct ShownBy<'a> {
    table: &'a MountTable,
    parts: Vec<ShownMount<'a>>,
    recursive: bool,
}

/// A mount that a bind shows: the directory from which it is shown, and its path.
#[derive(Debug)]
struct ShownMount<'a> {
    id: u64,
    device: &'a str,
    at: &'a Path,
    root: &'a Path,
}

impl ShownBy<'_> {
    /// Returns the paths at which a directory, or a part of it, is visible.
    pub fn views(&self, of: &Location) -> Vec<View> {
        let mut views = Vec::new();
        for ShownMount { id, device, at, root } in &self.parts {
            let path = if *device != of.device {
                continue;
            } else if let Ok(below) = of.inside.strip_prefix(root) {
                if below.as_os_str().is_empty() { at.to_path_buf() } else { at.join(below) }
            } else if root.starts_with(&of.inside) {
                at.to_path_buf()
            } else {
                continue;
            };
            // A mount on the way to it, or on itself, is visible in its place.
            let hides =
                |mount: &Mount| mount.parent == *id && mount.point.starts_with(at) && path.starts_with(&mount.point);
            if !self.recursive || !self.table.mounts.iter().any(hides) {
                views.push(View { path, mount_point: at.to_path_buf() });
            }
        }
        views
    }
}

impl Location {
    /// Returns its path in the namespace, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the location of the file of that name in it, whether or not it exists.
    #[must_use]
    pub fn join(self, name: &OsStr) -> Self {
        Self { path: self.path.join(name), inside: self.inside.join(name), ..self }
    }

    /// Returns whether it is the other directory or in it, independent of mount points.
    pub fn is_in(&self, other: &Self) -> bool {
        self.device == other.device && self.inside.starts_with(&other.inside)
    }
}

impl MountTable {
    /// Reads the table of this process.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read("/proc/thread-self/mountinfo")?))
    }

    /// Reads the table of another process.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read_of(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
    }

    /// Parses the text of a mountinfo.
    pub fn parse(text: &[u8]) -> Self {
        let mount = |line: &[u8]| {
            let mut fields = line.split(|byte| *byte == b' ');
            let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
            let (id, parent) = (number()?, number()?);
            let device = std::str::from_utf8(fields.next()?).ok()?.to_owned();
            let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
            Some(Mount { id, parent, device, root, point })
        };
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(mount).collect() }
    }

    /// Returns the mount points.
    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(|mount| mount.point.as_path())
    }

    /// Returns the `MAJOR:MINOR` of the filesystem that is visible at a mount point.
    pub fn device_at(&self, point: &Path) -> Option<&str> {
        self.mounts.iter().rfind(|mount| mount.point == point).map(|mount| mount.device.as_str())
    }

    /// Returns whether the filesystem with that `MAJOR:MINOR` is mounted anywhere.
    pub fn has_device(&self, device: &str) -> bool {
        self.mounts.iter().any(|mount| mount.device == device)
    }

    /// Returns the mount points below a directory on the directory's own mount, or with `recursive` also on mounts
    /// below; each relative to the directory.
    pub fn mounted_below<'a>(&'a self, top: &'a Location, recursive: bool) -> impl Iterator<Item = &'a Path> {
        let is_on = move |mount: &&Mount| mount.parent == top.mount || recursive && self.is_below(mount, top.mount);
        let on_it = self.mounts.iter().filter(move |mount| mount.id != top.mount).filter(is_on);
        let below = on_it.filter_map(|mount| mount.point.strip_prefix(&top.path).ok());
        below.filter(|path| !path.as_os_str().is_empty())
    }

    /// Returns the location of an open file.
    ///
    /// # Errors
    /// `NotFound` for a file that is in no mount of this namespace, or was removed.
    pub fn locate(&self, file: BorrowedFd<'_>) -> io::Result<Location> {
        let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::NLINK)?;
        let path = real_path(file)?;
        let id = found.stx_mnt_id;
        let mount = self.mounts.iter().find(|mount| mount.id == id && found.stx_nlink > 0);
        let located = mount.and_then(|mount| {
            let inside = mount.root.join(path.strip_prefix(&mount.point).ok()?);
            Some(Location { mount: id, path: path.clone(), device: mount.device.clone(), inside })
        });
        located.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("{} is in no mount of this process", path.display()))
        })
    }

    /// Returns the mounts that a bind of `top` shows, with `recursive` also those below it, for queries about many
    /// directories.
    pub fn shown_by<'a>(&'a self, top: &'a Location, recursive: bool) -> ShownBy<'a> {
        let mut parts = vec![ShownMount { id: top.mount, device: &top.device, at: &top.path, root: &top.inside }];
        for mount in self.mounts.iter().filter(|mount| recursive && mount.point.starts_with(&top.path)) {
            if mount.id != top.mount && self.is_below(mount, top.mount) {
                parts.push(ShownMount { id: mount.id, device: &mount.device, at: &mount.point, root: &mount.root });
            }
        }
        ShownBy { table: self, parts, recursive }
    }

    /// Returns the paths at or below `top` at which a directory, or a part of it, is visible; with `recursive`, also
    /// in mounts below `top`.
    pub fn views(&self, top: &Location, of: &Location, recursive: bool) -> Vec<View> {
        self.shown_by(top, recursive).views(of)
    }

    /// Returns whether a mount is on the other one, directly or through mounts between them.
    fn is_below(&self, mount: &Mount, other: u64) -> bool {
        let mut parent = mount.parent;
        for _ in 0..MAX_DEPTH {
            if parent == other {
                return true;
            }
            match self.mounts.iter().find(|mount| mount.id == parent) {
                Some(mount) if mount.parent != parent => parent = mount.parent,
                _ => return false,
            }
        }
        false
    }
}

/// Decodes a path of mountinfo, in which the kernel writes blanks and backslashes as a backslash and three octal
/// digits.
pub fn unescaped(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const TABLE: &str = "\
1 0 8:1 / / rw - ext4 disk rw
2 1 8:2 / /home rw - ext4 disk rw
3 1 8:2 /me/cache/store /home/me/src/alias rw - ext4 disk rw
4 2 8:2 /me/cache /home/me/src/deep\\040er rw - ext4 disk rw
5 4 0:9 / /home/me/src/deep\\040er/hidden rw - tmpfs none rw
6 2 8:2 /me/cache/store/keys /home/me/src/keys rw - ext4 disk rw
";

    fn location(mount: u64, path: &str, inside: &str) -> Location {
        Location { mount, path: path.into(), device: "8:2".into(), inside: inside.into() }
    }

    fn views(top: &Location, of: &Location, recursive: bool) -> Vec<(String, String)> {
        let views = MountTable::parse(TABLE.as_bytes()).views(top, of, recursive);
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        views.into_iter().map(|view| (text(view.path), text(view.mount_point))).collect()
    }

    fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(path, at)| ((*path).to_owned(), (*at).to_owned())).collect()
    }

    #[test]
    fn a_directory_is_visible_below_the_source_of_a_bind_and_through_mounts_there() {
        let (home, store) = (location(2, "/home", "/"), location(2, "/home/me/cache/store", "/me/cache/store"));
        assert_eq!(
            views(&home, &store, true),
            expected(&[
                ("/home/me/cache/store", "/home"),
                ("/home/me/src/deep er/store", "/home/me/src/deep er"),
                ("/home/me/src/keys", "/home/me/src/keys"),
            ])
        );
        assert_eq!(views(&home, &store, false), expected(&[("/home/me/cache/store", "/home")]));
    }

    #[test]
    fn a_directory_is_not_visible_under_another_mount() {
        let (home, hidden) =
            (location(4, "/home/me/src/deep er", "/me/cache"), location(2, "/x", "/me/cache/hidden/x"));
        assert_eq!(views(&home, &hidden, true), []);
        assert_eq!(views(&location(2, "/home/other", "/other"), &hidden, true), []);
    }

    #[test]
    fn a_path_is_decoded_from_the_kernels_escapes() {
        assert_eq!(unescaped(br"/s\040p/\134\04\"), Path::new(r"/s p/\\04\"));
    }

    #[test]
    fn a_location_inside_a_directory_is_recognised_through_any_mount() {
        let store = location(2, "/home/me/cache/store", "/me/cache/store");
        assert!(location(3, "/home/me/src/alias/keys", "/me/cache/store/keys").is_in(&store));
        assert!(!location(2, "/home/me/cache", "/me/cache").is_in(&store));
        assert!(!Location { device: "8:3".into(), ..store.clone() }.is_in(&store));
    }

    #[test]
    fn an_open_directory_is_located_in_the_mounts_of_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path| crate::fs::dirfd::Dir::open(path).unwrap();
        std::fs::create_dir(directory.path().join("in")).unwrap();
        let table = MountTable::read().unwrap();
        let (top, inside) = (open(directory.path()), open(&directory.path().join("in")));
        let (top, inside) = (table.locate(top.as_fd()).unwrap(), table.locate(inside.as_fd()).unwrap());
        assert!(inside.is_in(&top) && !top.is_in(&inside));
        assert_eq!(top.path(), directory.path().canonicalize().unwrap());
        assert_eq!(table.views(&top, &inside, true)[0].path, inside.path());
        let removed = open(directory.path());
        drop(directory);
        assert_eq!(table.locate(removed.as_fd()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
