//! The questions that the checks ask the host: a trait, so that the checks touch no disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::seccomp::Kernel;

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A symbolic link; only [`Host::node`] returns it.
    Symlink,
    /// A socket or a fifo.
    Other,
}

impl FileKind {
    /// Returns the name with its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Dir => "a directory",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Symlink => "a symbolic link",
            Self::Other => "a socket or a fifo",
        }
    }
}

/// The host that a manifest is checked for.
pub trait Host {
    /// Returns the kind of the file at `path`, with links followed, as stat(2).
    ///
    /// # Errors
    /// Those of stat(2); a broken link is not found.
    fn kind(&self, path: &Path) -> io::Result<FileKind>;

    /// Returns the kind of `path` itself, as lstat(2).
    ///
    /// # Errors
    /// Those of lstat(2).
    fn node(&self, path: &Path) -> io::Result<FileKind>;

    /// Returns the path of a program without a slash in its name, looked up in [`PROGRAM_PATH`].
    fn program(&self, name: &str) -> Option<PathBuf>;

    /// Reads a file that the checks themselves need.
    ///
    /// # Errors
    /// Those of reading it; [`io::ErrorKind::FileTooLarge`] where it has more bytes than `most`.
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>>;

    /// Returns the path of a file with links followed, whether or not it exists: the same for two spellings of one
    /// path.
    fn real(&self, path: &Path) -> PathBuf;

    /// Returns the names in a directory, for suggestions; none if it cannot be read.
    fn names(&self, directory: &Path) -> Vec<String>;

    /// Returns whether the environment has a variable of that name.
    fn has_variable(&self, name: &str) -> bool;

    /// Returns the value of a variable of the environment that is a path.
    fn path_variable(&self, name: &str) -> Option<PathBuf>;

    /// Connects to the Unix socket of an SSH agent, and closes the connection.
    ///
    /// # Errors
    /// Those of connect(2): where nothing listens, for example; [`io::ErrorKind::WouldBlock`] where it takes too long.
    fn connect(&self, socket: &Path) -> io::Result<()>;

    /// Returns the names of all variables of the environment, for suggestions.
    fn variables(&self) -> Vec<String>;

    /// Returns the time of the last commit of the repository that a directory is in, in seconds since 1970.
    ///
    /// # Errors
    /// The reason why there is none, as text.
    fn commit_time(&self, directory: &Path) -> Result<u64, String>;

    /// Returns the filesystems that the kernel has loaded.
    fn filesystems(&self) -> Vec<String>;

    /// Returns the mount points below a directory.
    fn mounts_below(&self, directory: &Path) -> Vec<PathBuf>;

    /// Returns the version of the kernel, if its release contains one.
    fn kernel(&self) -> Option<Kernel>;
}

/// The directories in which programs are looked up, on the host and inside.
pub const PROGRAM_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
