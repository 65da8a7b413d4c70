//! The real host behind [`crate::model::Host`].

use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::fs::regular;
use crate::git;
use crate::model::{FileKind, Host, PROGRAM_PATH, lexical};
use crate::mount::MountTable;
use crate::seccomp::Kernel;
use crate::ssh_agent;

/// The names that are read of one directory at most: they only help to guess an intended name.
const MAX_NAMES: usize = 1000;

/// The machine that runner runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisHost;

fn kind(file_type: FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::File
    } else if file_type.is_dir() {
        FileKind::Dir
    } else if file_type.is_symlink() {
        FileKind::Symlink
    } else if file_type.is_char_device() {
        FileKind::CharDevice
    } else if file_type.is_block_device() {
        FileKind::BlockDevice
    } else {
        FileKind::Other
    }
}

impl Host for ThisHost {
    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        fs::metadata(path).map(|metadata| kind(metadata.file_type()))
    }

    fn node(&self, path: &Path) -> io::Result<FileKind> {
        fs::symlink_metadata(path).map(|metadata| kind(metadata.file_type()))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let is_program =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        PROGRAM_PATH.iter().map(|dir| Path::new(dir).join(name)).find(is_program)
    }

    fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        regular::read(path, max_bytes)
    }

    fn real(&self, path: &Path) -> PathBuf {
        let existing = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
        let below = |above: &Path, real: &Path| lexical(&real.join(path.strip_prefix(above).unwrap_or(path)));
        existing.map_or_else(|| lexical(path), |(above, real)| below(above, &real))
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
        entries.take(MAX_NAMES).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    fn has_variable(&self, name: &str) -> bool {
        std::env::var_os(name).is_some()
    }

    fn path_variable(&self, name: &str) -> Option<PathBuf> {
        std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn connect(&self, socket: &Path) -> io::Result<()> {
        ssh_agent::connect(socket).map(drop)
    }

    fn variables(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }

    fn commit_time(&self, directory: &Path) -> Result<u64, String> {
        // The variable overrides all, also where there is no repository; a value that is no number is refused elsewhere.
        match std::env::var("SOURCE_DATE_EPOCH").ok().filter(|value| !value.is_empty()) {
            Some(value) => Ok(value.parse().unwrap_or_default()),
            None => git::last_commit_time(directory),
        }
    }

    fn filesystems(&self) -> Vec<String> {
        let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        list.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
    }

    fn mounts_below(&self, dir: &Path) -> Vec<PathBuf> {
        // The names there have no links in them.
        let (Ok(table), Ok(real)) = (MountTable::read(), dir.canonicalize()) else { return Vec::new() };
        let below = table.points().filter_map(|point| point.strip_prefix(&real).ok());
        let below = below.filter(|below| !below.as_os_str().is_empty()).map(|below| dir.join(below));
        below.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    fn kernel(&self) -> Option<Kernel> {
        Kernel::of_release(&rustix::system::uname().release().to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{FileKind, Host, ThisHost};

    #[test]
    fn two_spellings_of_a_path_have_one_real_path_even_if_it_does_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        std::fs::create_dir(top.join("out")).unwrap();
        std::os::unix::fs::symlink("out", top.join("link")).unwrap();
        for spelling in ["out/image", "link/image", "link/../out/./image"] {
            assert_eq!(ThisHost.real(&top.join(spelling)), top.join("out/image"), "{spelling}");
        }
        assert_eq!(ThisHost.real(&top.join("link/new/../new/image")), top.join("out/new/image"));
    }

    #[test]
    fn the_kinds_of_files_are_found_with_links_followed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert_eq!(ThisHost.kind(dir.path()).unwrap(), FileKind::Dir);
        assert_eq!(ThisHost.kind(&link).unwrap(), FileKind::CharDevice);
        assert_eq!(ThisHost.node(&link).unwrap(), FileKind::Symlink);
        assert!(ThisHost.node(&dir.path().join("none")).is_err());
        assert_eq!(ThisHost.names(dir.path()), ["link"]);
        assert!(ThisHost.program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(ThisHost.program("no-such-program"), None);
        assert!(ThisHost.names(Path::new("/no/such/folder")).is_empty());
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(ThisHost.read(&path, 4).unwrap(), b"1234");
        assert_eq!(ThisHost.read(&path, 3).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
        assert!(ThisHost.read(dir.path(), 4).is_err());
    }
}
