//! Finds causes of a step's failure that it does not report itself, from its last output, the definition of its
//! container, and the files of its session.

mod cache_lock;
mod denied;
mod device;
mod file_numbers;
mod full;
mod masked_proc;
mod network;
mod no_shell;
mod only_layer;
mod open_files;
mod read_only;

use std::path::{Path, PathBuf};

use crate::model::{Container, Mount};
use crate::runtime::process::Credentials;
use crate::session::{FileInside, Session, Space};

/// A failed step.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// The user that it ran as.
    pub user: &'a Credentials,
    /// The directory that it started in.
    pub cwd: &'a Path,
    /// Its command or script.
    pub command: &'a str,
    /// The last lines that it printed.
    pub printed: &'a str,
}

impl<'a> Failed<'a> {
    /// Returns the last lines that contain any of these words, which are in small letters.
    fn lines(&self, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.printed.lines().filter(|line| {
            let line = line.to_lowercase();
            words.iter().any(|words| line.contains(words))
        })
    }
}

/// Answers the questions of the hints about the session of the step, and about the devices of the host.
pub trait SessionFacts {
    /// Returns the file at a path.
    fn file(&self, path: &Path) -> Option<FileInside>;

    /// Returns the space of a mount, by its target, or of the changes of the steps.
    fn space(&self, target: Option<&Path>) -> Option<Space>;

    /// Whether a path is in a directory that hides the store in a bind.
    fn hides_store(&self, path: &Path) -> bool;

    /// Whether the lowest layer of the root removes files, as if another layer were below it.
    fn lowest_layer_deletes(&self) -> bool;

    /// Returns the path on the host of the device at a path of a container's own `/dev`, or with the number of this
    /// node.
    fn host_device(&self, path: &Path, node: Option<FileInside>) -> Option<PathBuf>;
}

impl SessionFacts for Session<'_> {
    fn file(&self, path: &Path) -> Option<FileInside> {
        Session::file(self, path)
    }

    fn space(&self, target: Option<&Path>) -> Option<Space> {
        Session::space(self, target)
    }

    fn hides_store(&self, path: &Path) -> bool {
        Session::hides_store(self, path)
    }

    fn lowest_layer_deletes(&self) -> bool {
        Session::lowest_layer_deletes(self)
    }

    fn host_device(&self, path: &Path, node: Option<FileInside>) -> Option<PathBuf> {
        device::on_host(path, node)
    }
}

pub use no_shell::hint as no_shell;
pub use only_layer::hint as only_layer;

/// Returns the hint for the step, if there is one.
pub fn hint(container: &Container, failed: Failed<'_>, inside: &impl SessionFacts) -> Option<String> {
    full::hint(container, failed, inside)
        .or_else(|| cache_lock::hint(container, failed))
        .or_else(|| device::hint(container, failed, inside))
        .or_else(|| denied::hint(container, failed, inside))
        .or_else(|| read_only::hint(container, failed, inside))
        .or_else(|| network::hint(container, failed))
        .or_else(|| open_files::hint(container, failed))
        .or_else(|| file_numbers::hint(container, failed))
        .or_else(|| masked_proc::hint(container, failed))
}

/// Returns the absolute paths in a text.
fn paths(words: &str) -> impl Iterator<Item = &Path> {
    let parts = words.split(|c: char| c.is_whitespace() || c.is_control() || "'\"`‘’:;,()<>=[]&|".contains(c));
    parts.map(Path::new).filter(|path| path.is_absolute())
}

/// Returns the mount of the container that a path is in.
fn mount_of<'a>(container: &'a Container, path: &Path) -> Option<&'a Mount> {
    let above = container.mounts.iter().filter(|mount| path.starts_with(&mount.target));
    above.max_by_key(|mount| mount.target.components().count())
}

#[cfg(test)]
mod fixture {
    //! A container and a session for the tests of the hints.

    use std::collections::BTreeMap;

    use super::*;
    use crate::model::MountKind;
    use crate::plan::fixture::build;

    /// The files, filesystems and devices inside, by path.
    #[derive(Debug, Default)]
    pub struct TestSession {
        pub files: BTreeMap<PathBuf, FileInside>,
        pub spaces: BTreeMap<Option<PathBuf>, Space>,
        pub devices: Vec<PathBuf>,
        pub hidden_store: Option<PathBuf>,
        pub deletes: bool,
    }

    impl SessionFacts for TestSession {
        fn file(&self, path: &Path) -> Option<FileInside> {
            self.files.get(path).copied()
        }

        fn space(&self, target: Option<&Path>) -> Option<Space> {
            self.spaces.get(&target.map(Path::to_owned)).copied()
        }

        fn hides_store(&self, path: &Path) -> bool {
            self.hidden_store.as_ref().is_some_and(|store| path.starts_with(store))
        }

        fn lowest_layer_deletes(&self) -> bool {
            self.deletes
        }

        fn host_device(&self, path: &Path, node: Option<FileInside>) -> Option<PathBuf> {
            let number = |node: FileInside| self.devices.get(usize::try_from(node.device).ok()?).cloned();
            node.and_then(number).or_else(|| self.devices.iter().find(|device| *device == path).cloned())
        }
    }

    impl TestSession {
        pub fn file(mut self, path: &str, mode: u32, (uid, gid): (u32, u32)) -> Self {
            self.files.insert(path.into(), FileInside { mode, uid, gid, device: 0 });
            self
        }
    }

    /// Returns a container with these mounts: a kind, a target and options.
    pub fn container(mounts: &[(MountKind, &str, &[&str])]) -> Container {
        let mut container = build(&[("s", 0, &[])]).containers[0].clone();
        let mount = |(kind, target, options): &(MountKind, &str, &[&str])| Mount {
            kind: kind.clone(),
            target: target.into(),
            options: options.iter().map(ToString::to_string).collect(),
            ignored: false,
        };
        container.mounts = mounts.iter().map(mount).collect();
        container
    }

    pub fn user(uid: u32) -> Credentials {
        Credentials { uid, gid: uid, groups: vec![uid], home: "/".into() }
    }

    /// Returns the hint for a step of that user that printed this.
    pub fn hinted(container: &Container, uid: u32, printed: &str, found: &TestSession) -> Option<String> {
        hint(container, Failed { user: &user(uid), cwd: Path::new("/"), command: "make", printed }, found)
    }
}
