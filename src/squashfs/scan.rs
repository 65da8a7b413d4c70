//! Reads a directory into a tree: names, what inodes say, targets of links, extended attributes; no content of files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Stat, readlinkat, statat};

use super::WriteOptions;
use super::attributes::{self, Attributes};
use super::error::WriteError;
use super::ids::Ids;
use super::tree::{Kind, Node, ROOT, Text, Tree};
use super::walk::{self, Watch};
use crate::fs::list::entries;
use crate::fs::xattr::XattrReader;

/// The tree as it was read.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub tree: Tree,
    pub ids: Ids,
    pub attributes: Attributes,
    reader: XattrReader,
    /// The first entry of each file that has several names, by device and inode.
    links: HashMap<(u64, u64), u32>,
    latest: u32,
    longest_path: usize,
}

/// All files of a tree have no more bytes, most of which are holes then. Lists of their blocks take a 32,000th of it.
pub(super) const MAX_BYTES: u64 = 64 << 40;

/// Reads the directory at `top` and all in it.
///
/// # Errors
/// Those of the system, with the path; where there is more than an image can store.
pub(super) fn scan(top: BorrowedFd<'_>, options: WriteOptions, watch: Watch<'_>) -> Result<Scan, WriteError> {
    let WriteOptions { latest, longest_path, .. } = options;
    let mut scan = Scan { latest, longest_path, ..Scan::default() };
    let failed = |source: io::Error| WriteError::Read { path: "/".into(), source };
    let stat = rustix::fs::fstat(top).map_err(|error| failed(error.into()))?;
    let set = attributes::read(&mut scan.reader, top, OsStr::new(".")).map_err(failed)?;
    let root = scan.node(Text::default(), ROOT, &stat, Kind::Directory { first: 0, count: 0 }, set)?;
    scan.tree.add(root)?;
    scan.tree.set_children(ROOT, 1);
    walk::walk(top, &mut scan, |scan| &scan.tree, |scan, fd, directory| scan.list(fd, directory, watch))?;
    if scan.tree.bytes() > MAX_BYTES {
        return Err(WriteError::TooMany { what: "bytes of files, holes included", most: MAX_BYTES });
    }
    Ok(scan)
}

impl Scan {
    /// Adds the entries of a directory.
    fn list(&mut self, fd: BorrowedFd<'_>, directory: u32, watch: Watch<'_>) -> Result<(), WriteError> {
        let names = names(fd).map_err(|source| WriteError::Read { path: self.tree.path(directory), source })?;
        let first = self.tree.len() as u32;
        let path = self.tree.path(directory);
        for name in names {
            watch.check()?;
            if path.as_os_str().len() + name.len() > self.longest_path {
                return Err(WriteError::PathTooLong { path, most: self.longest_path });
            }
            self.entry(fd, directory, &name)?;
        }
        self.tree.set_children(directory, first);
        Ok(())
    }

    fn entry(&mut self, fd: BorrowedFd<'_>, directory: u32, name: &[u8]) -> Result<(), WriteError> {
        let failed = |tree: &Tree, source: io::Error| WriteError::Read {
            path: tree.path(directory).join(OsStr::from_bytes(name)),
            source,
        };
        let stat = statat(fd, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| failed(&self.tree, error.into()))?;
        let text = self.tree.add_text(name)?;
        let index = self.tree.len() as u32;
        let kind = FileType::from_raw_mode(stat.st_mode);
        // Overlayfs gives all whiteouts of one mount one inode. Where a session was mounted anew between two of them, after a
        // checkpoint or for another try, they have two, and the layer is to be the same.
        let is_whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        if kind != FileType::Directory && stat.st_nlink > 1 && !is_whiteout {
            let first = *self.links.entry((stat.st_dev, stat.st_ino)).or_insert(index);
            if first != index {
                let node = Node { name: text, parent: directory, kind: Kind::Link(first), ..*self.tree.node(first) };
                self.tree.add(node)?;
                return Ok(());
            }
        }
        let kind = match kind {
            FileType::Directory => Kind::Directory { first: 0, count: 0 },
            FileType::RegularFile => {
                let size = stat.st_size.cast_unsigned();
                Kind::File { size, is_sparse: stat.st_blocks.cast_unsigned() < size.div_ceil(512) }
            }
            FileType::Symlink => {
                let target = readlinkat(fd, OsStr::from_bytes(name), Vec::new());
                let target = target.map_err(|error| failed(&self.tree, error.into()))?;
                Kind::Symlink(self.tree.add_text(target.as_bytes())?)
            }
            FileType::BlockDevice => Kind::BlockDevice(device(stat.st_rdev)),
            FileType::CharacterDevice => Kind::CharacterDevice(device(stat.st_rdev)),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return Err(failed(&self.tree, io::Error::other("it is of an unknown kind"))),
        };
        let set = attributes::read(&mut self.reader, fd, OsStr::from_bytes(name));
        let set = set.map_err(|error| failed(&self.tree, error))?;
        let node = self.node(text, directory, &stat, kind, set)?;
        self.tree.add(node)?;
        Ok(())
    }

    fn node(
        &mut self,
        name: Text,
        parent: u32,
        stat: &Stat,
        kind: Kind,
        set: Vec<(u16, Vec<u8>, Vec<u8>)>,
    ) -> Result<Node, WriteError> {
        Ok(Node {
            name,
            parent,
            kind,
            mode: (stat.st_mode & 0o7777) as u16,
            user: self.ids.number(stat.st_uid)?,
            group: self.ids.number(stat.st_gid)?,
            // 32 bits, and none before 1970.
            time: stat.st_mtime.clamp(0, self.latest.into()) as u32,
            attributes: self.attributes.number(set)?,
            inode: 0,
            links: 0,
        })
    }
}

/// Returns the names in a directory, sorted by their bytes as readers look them up.
fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut names: Vec<_> = entries(directory)?.into_iter().map(|entry| entry.into_c_name().into_bytes()).collect();
    names.sort_unstable();
    // A filesystem that was made to do harm may list a name again and again.
    names.dedup();
    Ok(names)
}

/// Returns a device's number as the kernel encodes it in 32 bits.
fn device(number: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::super::tests::options;
    use super::*;
    use crate::model::Compression;

    fn scanned(path: &std::path::Path) -> Scan {
        let (never, _writer) = io::pipe().unwrap();
        let top = fs::File::open(path).unwrap();
        let options = WriteOptions { latest: 1000, ..options(Compression::Zstd) };
        scan(top.as_fd(), options, Watch::new(never.as_fd())).unwrap()
    }

    #[test]
    fn directories_are_runs_of_sorted_names_and_second_names_are_links() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["z", "a b", "Z", "b"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("b/file"), "12345").unwrap();
        fs::hard_link(folder.path().join("b/file"), folder.path().join("z/same")).unwrap();
        symlink("nowhere", folder.path().join("z/link")).unwrap();
        fs::hard_link(folder.path().join("z/link"), folder.path().join("link2")).unwrap();
        let Scan { tree, ids, .. } = scanned(folder.path());
        let names: Vec<String> = (0..tree.len() as u32).map(|index| tree.path(index).display().to_string()).collect();
        assert_eq!(names, ["/", "/Z", "/a b", "/b", "/link2", "/z", "/b/file", "/z/link", "/z/same"]);
        assert!(matches!(tree.node(7).kind, Kind::Link(4)) && matches!(tree.node(8).kind, Kind::Link(6)));
        assert_eq!([0, 4, 6].map(|index| tree.node(index).links), [6, 2, 2]);
        assert!(matches!(tree.node(4).kind, Kind::Symlink(target) if tree.text(target) == b"nowhere"));
        assert!((0..9).all(|index| tree.node(index).time == 1000));
        assert_eq!((tree.inodes(), tree.bytes(), ids.count()), (7, 5, 1));
    }

    #[test]
    fn devices_are_numbered_as_the_kernel_reads_them() {
        let number = |major, minor| device(rustix::fs::makedev(major, minor));
        assert_eq!([number(1, 3), number(0, 0), number(259, 0x12345)], [0x103, 0, 0x1231_0345]);
    }

    #[test]
    fn an_interrupt_ends_it() {
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, b"x").unwrap();
        let top = fs::File::open("/usr").unwrap();
        let error = scan(top.as_fd(), options(Compression::Zstd), Watch::new(reader.as_fd())).unwrap_err();
        assert!(matches!(error, WriteError::Interrupted));
    }
}
