//! Names the place that has no room left where a session cannot be opened for want of it.

use std::fmt;
use std::io;
use std::path::Path;

use super::inspect::Space;
use super::{Scratch, SessionError, Workspace};
use crate::model::size_text;

/// A place without room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The memory that the changes of the container may take.
    Scratch,
    /// The filesystem of the store.
    Store(Space),
    /// The memory that runner mounts all in.
    Workspace(Space),
    /// The kernel mounts no more than so many filesystems in a namespace.
    Mounts(u64),
}

/// The places that a session needs room in.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    /// None where it is in the store.
    scratch: Option<Space>,
    store: Option<Space>,
    workspace: Option<Space>,
    mounts: u64,
    most_mounts: Option<u64>,
}

impl Places {
    fn full(&self) -> Option<Full> {
        let most = self.most_mounts.filter(|most| self.mounts >= *most);
        let scratch = self.scratch.filter(Space::is_full).map(|_| Full::Scratch);
        let store = || self.store.filter(Space::is_full).map(Full::Store);
        let workspace = || self.workspace.filter(Space::is_full).map(Full::Workspace);
        most.map(Full::Mounts).or(scratch).or_else(store).or_else(workspace)
    }
}

impl Full {
    /// Returns the fix.
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

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = |space: &Space| format!("{} of {} left", size_text(space.free_bytes), size_text(space.bytes));
        match self {
            Self::Scratch => f.write_str("the scratch of the container, where changes live, is full"),
            Self::Store(space) => write!(f, "the filesystem of the store has {}", left(space)),
            Self::Workspace(space) => write!(f, "the memory that runner mounts all in has {}", left(space)),
            Self::Mounts(most) => write!(f, "the kernel mounts no more than {most} filesystems (fs.mount-max)"),
        }
    }
}

/// Adds the place that is full to an error for want of room.
pub fn explained(error: SessionError, workspace: &Workspace, scratch: Option<&Scratch>, store: &Path) -> SessionError {
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
    const NONE: Space = Space { free_bytes: 0, ..FREE };

    #[test]
    fn the_place_that_is_full_is_named_and_none_where_all_have_room() {
        let free = Places {
            scratch: Some(FREE),
            store: Some(FREE),
            workspace: Some(FREE),
            mounts: 99,
            most_mounts: Some(100),
        };
        assert_eq!(free.full(), None);
        for (places, full) in [
            (Places { scratch: Some(NONE), store: Some(NONE), ..free }, Full::Scratch),
            (Places { store: Some(NONE), ..free }, Full::Store(NONE)),
            (Places { scratch: None, store: Some(NONE), ..free }, Full::Store(NONE)),
            (Places { workspace: Some(NONE), ..free }, Full::Workspace(NONE)),
            (Places { mounts: 100, ..free }, Full::Mounts(100)),
        ] {
            assert_eq!(places.full(), Some(full), "{places:?}");
        }
    }
}
