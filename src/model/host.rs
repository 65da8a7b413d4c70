//! What the checks ask of the host, so that they themselves touch no disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::seccomp::Kernel;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A symbolic link; only told by [`Host::node`].
    Symlink,
    /// A socket or a fifo.
    Other,
}

impl FileKind {
    /// With its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Dir => "a folder",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Symlink => "a symbolic link",
            Self::Other => "a socket or a fifo",
        }
    }
}

/// The host that a manifest is checked for.
pub trait Host {
    /// What `path` names, links followed, as stat(2).
    ///
    /// # Errors
    /// Those of stat(2); a broken link is not found.
    fn kind(&self, path: &Path) -> io::Result<FileKind>;

    /// What `path` is itself, as lstat(2).
    ///
    /// # Errors
    /// Those of lstat(2).
    fn node(&self, path: &Path) -> io::Result<FileKind>;

    /// Where a program with no slash in its name is found, in [`PROGRAM_PATH`].
    fn program(&self, name: &str) -> Option<PathBuf>;

    /// Reads a file that the checks themselves need.
    ///
    /// # Errors
    /// Those of reading it; [`io::ErrorKind::FileTooLarge`] where it has more bytes than `most`.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// Where a file is or would be, links followed: the same for two spellings of one path.
    fn real(&self, path: &Path) -> PathBuf;

    /// Names in a folder, for guesses; empty where it cannot be read.
    fn names(&self, folder: &Path) -> Vec<String>;

    /// Whether the environment has a variable of that name.
    fn has_variable(&self, name: &str) -> bool;

    /// The names of all variables of the environment, for guesses.
    fn variables(&self) -> Vec<String>;

    /// The time of the last commit of the repository that a directory is in, in seconds since 1970.
    ///
    /// # Errors
    /// In words, where there is none.
    fn commit_time(&self, directory: &Path) -> Result<u64, String>;

    /// The filesystems that the kernel has loaded.
    fn filesystems(&self) -> Vec<String>;

    /// Where something is mounted below a directory.
    fn mounts_below(&self, folder: &Path) -> Vec<PathBuf>;

    /// The version of the kernel, where its release has one in it.
    fn kernel(&self) -> Option<Kernel>;
}

/// Where programs are looked up, on the host and inside.
pub const PROGRAM_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
