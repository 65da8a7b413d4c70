//! Enters and leaves directories of any depth by descriptors alone, with few of them open at once.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, openat};

use super::dirfd::Identity;
use super::in_root::open_on_same_mount;

/// The number of directories that stay open above the one that is read.
const MAX_OPEN: usize = 16;

/// As many `..` make a path that is short enough for a system call.
const MAX_UP: usize = 1000;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory on the way down.
struct Level {
    identity: Identity,
    /// None where it is closed, because many are open below it.
    fd: Option<OwnedFd>,
}

/// The directory that is read, and those above it up to the top.
pub struct Descent<'a> {
    top: BorrowedFd<'a>,
    levels: Vec<Level>,
}

impl<'a> Descent<'a> {
    /// Begins at the top.
    pub fn new(top: BorrowedFd<'a>) -> Self {
        Self { top, levels: Vec::new() }
    }

    /// Returns the directory that is read.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.levels.last().and_then(|level| level.fd.as_ref()).map_or(self.top, AsFd::as_fd)
    }

    /// Enters a directory of the one that is read. A link is not followed.
    ///
    /// # Errors
    /// Those of openat(2).
    pub fn enter(&mut self, name: &[u8]) -> io::Result<()> {
        let fd = openat(self.fd(), OsStr::from_bytes(name), FLAGS, Mode::empty())?;
        self.push(fd)
    }

    /// Enters a directory as [`enter`](Self::enter) does, where it is on the same mount.
    ///
    /// # Errors
    /// As [`enter`](Self::enter), and `EXDEV` for a mount point.
    pub fn enter_on_same_mount(&mut self, name: &[u8]) -> io::Result<()> {
        let fd = open_on_same_mount(self.fd(), OsStr::from_bytes(name), FLAGS)?;
        self.push(fd)
    }

    fn push(&mut self, fd: OwnedFd) -> io::Result<()> {
        let identity = Identity::of(&fd)?;
        if let Some(above) = self.levels.len().checked_sub(MAX_OPEN) {
            self.levels[above].fd = None;
        }
        self.levels.push(Level { identity, fd: Some(fd) });
        Ok(())
    }

    /// Goes back to the directory above.
    ///
    /// # Errors
    /// Those of openat(2); where the directory was moved meanwhile.
    pub fn leave(&mut self) -> io::Result<()> {
        self.leave_levels(1)
    }

    /// Goes back by several levels at once, and opens none of those between again.
    ///
    /// # Errors
    /// As [`leave`](Self::leave).
    pub fn leave_levels(&mut self, count: usize) -> io::Result<()> {
        let mut at = self.levels.len().saturating_sub(count);
        let mut below: Option<OwnedFd> = None;
        for level in self.levels.drain(at..) {
            // The uppermost directory that is still open; the last one always is.
            match (&below, level.fd) {
                (None, None) => at += 1,
                (None, fd) => below = fd,
                (Some(_), _) => {}
            }
        }
        let length = self.levels.len();
        let (Some(above), Some(mut below)) = (self.levels.last_mut(), below) else { return Ok(()) };
        if above.fd.is_some() {
            return Ok(());
        }
        let mut up = at + 1 - length;
        while up > 0 {
            let piece = up.min(MAX_UP);
            below = openat(below, vec![".."; piece].join("/"), FLAGS, Mode::empty())?;
            up -= piece;
        }
        if Identity::of(&below)? != above.identity {
            return Err(io::Error::other("it was moved while it was read"));
        }
        above.fd = Some(below);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, FLAGS, Mode::empty()).unwrap()
    }

    fn descriptors() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn a_directory_deeper_than_a_path_and_all_descriptors_is_reached_and_left() {
        const DEPTH: usize = 2000;
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = open(directory.path());
        let mut descent = Descent::new(top.as_fd());
        let before = descriptors();
        for depth in 0..DEPTH {
            let name = format!("{depth:0200}");
            rustix::fs::mkdirat(descent.fd(), name.as_str(), Mode::RWXU).unwrap();
            descent.enter(name.as_bytes()).unwrap();
        }
        // Other tests open files too.
        assert!(descriptors() < before + DEPTH / 2);
        for depth in (0..DEPTH).rev() {
            descent.leave().unwrap();
            let name = format!("{depth:0200}");
            rustix::fs::unlinkat(descent.fd(), name.as_str(), rustix::fs::AtFlags::REMOVEDIR).unwrap();
        }
        assert_eq!(Identity::of(descent.fd()).unwrap(), Identity::of(&top).unwrap());
    }

    #[test]
    fn any_number_of_levels_is_left_at_once() {
        const DEPTH: usize = 2500;
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let top = open(directory.path());
        let mut descent = Descent::new(top.as_fd());
        let mut identities = vec![Identity::of(&top).unwrap()];
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(descent.fd(), "d", Mode::RWXU).unwrap();
            descent.enter(b"d").unwrap();
            identities.push(Identity::of(descent.fd()).unwrap());
        }
        // Within the open directories, to the last of them, past them, far, and above the top.
        for (count, depth) in
            [(0, 2500), (3, 2497), (12, 2485), (1, 2484), (2, 2482), (40, 2442), (2100, 342), (999, 0)]
        {
            descent.leave_levels(count).unwrap();
            assert_eq!(Identity::of(descent.fd()).unwrap(), identities[depth], "{count}");
        }
        drop(descent);
        crate::fs::remove_tree::remove_tree(&directory.path().join("d")).unwrap();
    }

    #[test]
    fn a_link_is_not_followed_and_a_directory_that_was_moved_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        symlink("/etc", directory.path().join("link")).unwrap();
        let deep = ["d"; MAX_OPEN + 2].join("/");
        fs::create_dir_all(directory.path().join(&deep)).unwrap();
        let top = open(directory.path());
        let mut descent = Descent::new(top.as_fd());
        assert!(descent.enter(b"link").is_err());
        for _ in 0..MAX_OPEN + 2 {
            descent.enter(b"d").unwrap();
        }
        // The third directory is moved out of the second, which is closed by now.
        fs::rename(directory.path().join("d/d/d"), directory.path().join("moved")).unwrap();
        let errors: Vec<String> = (0..MAX_OPEN).filter_map(|_| Some(descent.leave().err()?.to_string())).collect();
        assert_eq!(errors.first().map(String::as_str), Some("it was moved while it was read"));
    }
}
