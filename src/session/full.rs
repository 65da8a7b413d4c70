//! Names the place without free space when a session cannot be opened for lack of space.

use std::fmt;
use std::io;
use std::path::Path;

use super::inspect::Space;
use super::{Scratch, SessionError, Workspace};
use crate::model::size_text;

/// A place without free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPlace {
    /// The memory for the changes of the container.
    Scratch,
    /// The filesystem of the store.
    Store(Space),
    /// The memory in which runner mounts everything.
    Workspace(Space),
    /// The kernel's limit on mounts in a namespace.
    Mounts(u64),
}

/// The places in which a session needs space.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    /// None where the scratch is in the store.
    scratch: Option<Space>,
    store: Option<Space>,
    workspace: Option<Space>,
    mounts: u64,
    most_mounts: Option<u64>,
}

impl Places {
    fn full(&self) -> Option<FullPlace> {
        let most = self.most_mounts.filter(|most| self.mounts >= *most);
        let scratch = self.scratch.filter(Space::is_full).map(|_| FullPlace::Scratch);
        let store = || self.store.filter(Space::is_full).map(FullPlace::Store);
        let workspace = || self.workspace.filter(Space::is_full).map(FullPlace::Workspace);
        most.map(FullPlace::Mounts).or(scratch).or_else(store).or_else(workspace)
    }
}

impl FullPlace {
    /// Returns how to fix it.
    pub fn hint(self) -> String {
        match self {
            Self::Scratch => {
                "give the container more room, as with `scratch: {tmpfs: 40GiB}` or `scratch: {disk: true}`".to_owned()
            }
            Self::Store(_) => {
                "make room with `runner store gc`, or choose another store with `--store DIRECTORY`".to_owned()
            }
            Self::Workspace(_) => "end other programs, or give this host more memory".to_owned(),
            Self::Mounts(most) => format!("`sysctl -w fs.mount-max={}` allows more", most.saturating_mul(2)),
        }
    }
}

impl fmt::Display for FullPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = |space: &Space| format!("{} of {} left", size_text(space.free_bytes), size_text(space.bytes));
        match self {
            Self::Scratch => f.write_str("the scratch of the container, where changes live, is full"),
            Self::Store(space) => write!(f, "the filesystem of the store has {}", free(space)),
            Self::Workspace(space) => write!(f, "the memory in which runner mounts everything has {}", free(space)),
            Self::Mounts(most) => write!(f, "the kernel mounts no more than {most} filesystems (fs.mount-max)"),
        }
    }
}

/// Adds the full place to an error for lack of space.
pub fn explain(error: SessionError, workspace: &Workspace, scratch: Option<&Scratch>, store: &Path) -> SessionError {
    match &error {
        SessionError::Io(source) | SessionError::Rootfs(source) | SessionError::Copy(source)
            if source.kind() == io::ErrorKind::StorageFull => {}
        _ => return error,
    }
    let number = |path| std::fs::read_to_string(path).ok()?.trim().parse().ok();
    let table = std::fs::read("/proc/thread-self/mountinfo").unwrap_or_default();
    let places = Places {
        scratch: scratch.filter(|scratch| !scratch.is_on_disk()).and_then(|scratch| Space::of(scratch.place())),
        store: Space::of(store),
        workspace: Space::of(workspace.path()),
        mounts: table.iter().filter(|byte| **byte == b'\n').count() as u64,
        most_mounts: number("/proc/sys/fs/mount-max"),
    };
    match places.full() {
        Some(full) => SessionError::Full { error: Box::new(error), full },
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Space = Space { bytes: 8 << 20, free_bytes: 4 << 20, files: 0, free_files: 0 };
    const FILLED: Space = Space { free_bytes: 0, ..FREE };

    #[test]
    fn the_full_place_is_named_and_none_if_all_have_space() {
        let free = Places {
            scratch: Some(FREE),
            store: Some(FREE),
            workspace: Some(FREE),
            mounts: 99,
            most_mounts: Some(100),
        };
        assert_eq!(free.full(), None);
        for (places, full) in [
            (Places { scratch: Some(FILLED), store: Some(FILLED), ..free }, FullPlace::Scratch),
            (Places { store: Some(FILLED), ..free }, FullPlace::Store(FILLED)),
            (Places { scratch: None, store: Some(FILLED), ..free }, FullPlace::Store(FILLED)),
            (Places { workspace: Some(FILLED), ..free }, FullPlace::Workspace(FILLED)),
            (Places { mounts: 100, ..free }, FullPlace::Mounts(100)),
        ] {
            assert_eq!(places.full(), Some(full), "{places:?}");
        }
    }
}
