//! Paths that were opened once: the files that they led to then, wherever they lead now.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::dirfd::{Dir, Identity, real_path};
use super::output::OutputPlace;

/// The files that paths of the host led to when they were opened.
#[derive(Debug, Default)]
pub struct OpenedPaths {
    files: HashMap<PathBuf, Opened>,
    hidden: Option<Identity>,
}

#[derive(Debug)]
enum Opened {
    Once(OwnedFd),
    /// Written again while the build runs: opened on request.
    Output(Arc<OutputPlace>),
}

/// A file that is open as `O_PATH`.
#[derive(Debug)]
pub enum OpenedFile<'a> {
    /// Opened before anything ran.
    Before(BorrowedFd<'a>),
    /// Opened now.
    Now(OwnedFd),
}

impl AsFd for OpenedFile<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Before(file) => *file,
            Self::Now(file) => file.as_fd(),
        }
    }
}

impl OpenedPaths {
    /// Opens a path, links followed, unless it was opened before.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(&mut self, path: &Path) -> io::Result<()> {
        if !self.files.contains_key(path) {
            let file = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            self.files.insert(path.to_owned(), Opened::Once(file));
        }
        Ok(())
    }

    /// Opens a device node, no link followed, unless its path was opened before.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open_node(&mut self, path: &Path) -> io::Result<()> {
        if !self.files.contains_key(path) {
            let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            self.files.insert(path.to_owned(), Opened::Once(file));
        }
        Ok(())
    }

    /// Registers the outputs that the build writes while it runs: a later lookup of one of these files, by any path, returns the
    /// file of that moment.
    ///
    /// # Errors
    /// Those of looking at the paths.
    pub fn expect_outputs(&mut self, outputs: &[Arc<OutputPlace>]) -> io::Result<()> {
        if outputs.is_empty() {
            return Ok(());
        }
        for opened in self.files.values_mut() {
            let Opened::Once(file) = opened else { continue };
            let path = real_path(file.as_fd())?;
            let Some((above, name)) = path.parent().zip(path.file_name()) else { continue };
            if !outputs.iter().any(|output| output.name() == name) {
                continue;
            }
            let above = Dir::open(above)?.identity();
            if let Some(output) = outputs.iter().find(|output| output.identity() == (above, name)) {
                *opened = Opened::Output(Arc::clone(output));
            }
        }
        for output in outputs {
            self.files.entry(output.path().to_owned()).or_insert_with(|| Opened::Output(Arc::clone(output)));
        }
        Ok(())
    }

    /// Registers the directory that can be seen through none of them.
    pub fn hide(&mut self, hidden: Identity) {
        self.hidden = Some(hidden);
    }

    /// Returns the directory that can be seen through none of them.
    pub fn hidden(&self) -> Option<Identity> {
        self.hidden
    }

    /// Returns the file that a path led to; none for a path that was not opened.
    ///
    /// # Errors
    /// For an output, those of opening it now.
    pub fn get(&self, path: &Path) -> io::Result<Option<OpenedFile<'_>>> {
        Ok(match self.files.get(path) {
            None => None,
            Some(Opened::Once(file)) => Some(OpenedFile::Before(file.as_fd())),
            Some(Opened::Output(output)) => Some(OpenedFile::Now(output.file()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_output_is_opened_on_request_by_any_of_its_paths() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir(at("out")).unwrap();
        fs::write(at("out/image"), "old").unwrap();
        fs::write(at("out/other"), "old").unwrap();
        symlink("out/image", at("latest")).unwrap();
        let mut opened = OpenedPaths::default();
        for path in ["latest", "out/other", "out"] {
            opened.open(&at(path)).unwrap();
        }
        let output = Arc::new(OutputPlace::open(&at("out/../out/image")).unwrap());
        opened.expect_outputs(std::slice::from_ref(&output)).unwrap();
        for name in ["image", "other"] {
            fs::write(at("new"), "new").unwrap();
            fs::rename(at("new"), at("out").join(name)).unwrap();
        }
        let text = |path: &Path| {
            let file = opened.get(path).unwrap().unwrap();
            fs::read_to_string(super::super::dirfd::path_of(file.as_fd())).unwrap()
        };
        assert_eq!(text(&at("latest")), "new");
        assert_eq!(text(output.path()), "new");
        assert_eq!(text(&at("out/other")), "old");
        assert!(opened.get(&at("elsewhere")).unwrap().is_none());
    }
}
