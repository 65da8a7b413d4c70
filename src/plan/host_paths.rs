//! The paths of the host that containers read and steps write, and the overlaps between them. Pure; no I/O.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crate::model::{Action, Build, ImagePlace, ImageSource, Mount, MountKind, Rootfs, StepId};

use super::{Plan, Segment};

/// Returns the paths of the host in the key of a segment, each with the target of its bind; the rootfs has no target, and a copied
/// file itself as the target.
pub(super) fn read<'b>(build: &'b Build, segment: &'b Segment) -> impl Iterator<Item = (Option<&'b Path>, &'b Path)> {
    let (files, path) = match &build.container(segment.container).rootfs {
        Rootfs::Squashfs(layers) => (layers.as_slice(), None),
        Rootfs::Erofs(file) | Rootfs::Tar(file) => (std::slice::from_ref(file), None),
        Rootfs::Dir(path) | Rootfs::Image(ImageSource { place: ImagePlace::Layout(path, _), .. }) => {
            ([].as_slice(), Some(path))
        }
        Rootfs::Image(_) | Rootfs::Url(_) | Rootfs::Programs(_) | Rootfs::Snapshot(_) | Rootfs::Scratch => {
            ([].as_slice(), None)
        }
    };
    let root = files.iter().map(|file| &file.path).chain(path);
    let mounts = build.mounts_of(segment.container, &segment.steps).map(|(_, mount)| mount);
    let mounts = mounts.filter(|mount| mount.is_read_only() && !mount.ignored);
    let source = |mount: &'b Mount| match &mount.kind {
        MountKind::Bind(source) | MountKind::Image(source) => Some(source.as_path()),
        _ => None,
    };
    let binds = mounts.filter_map(move |mount| Some((Some(mount.target.as_path()), source(mount)?)));
    let copied = segment.steps.iter().flat_map(|step| match &build.step(*step).action {
        Action::Copy(copy) => copy.host_paths(),
        _ => &[],
    });
    let copied = copied.map(|path| (Some(path.as_path()), path.as_path()));
    root.map(|path| (None, path.as_path())).chain(binds).chain(copied)
}

/// Returns the paths of the host that planned steps may write, in their order.
pub(super) fn written<'b>(build: &'b Build, plan: &'b Plan) -> impl Iterator<Item = (StepId, &'b Path)> {
    plan.order().iter().flat_map(|id| written_by(build, *id).map(|path| (*id, path)))
}

/// Returns the paths of the host that a step may write: the output of a snapshot or an export, and the writable binds of a step
/// with a process.
pub fn written_by(build: &Build, id: StepId) -> impl Iterator<Item = &Path> {
    let step = build.step(id);
    let (output, mounts) = match &step.action {
        Action::Snapshot(_) | Action::Export(_) => (step.action.output(), [].as_slice()),
        Action::Copy(_) => (None, [].as_slice()),
        Action::Run(_) | Action::Exec(_) => (None, build.settings(id).mounts.as_slice()),
    };
    let binds = mounts.iter().filter(|mount| !mount.is_read_only()).filter_map(bound);
    output.into_iter().chain(binds)
}

/// Returns the source of a bind.
pub(super) fn bound(mount: &Mount) -> Option<&Path> {
    match &mount.kind {
        MountKind::Bind(source) => Some(source),
        _ => None,
    }
}

/// Values by path, in the order of insertion.
pub(super) struct PathMap<T>(BTreeMap<PathBuf, Vec<(usize, T)>>);

impl<T: Copy> PathMap<T> {
    pub(super) fn new(all: impl Iterator<Item = (PathBuf, T)>) -> Self {
        let mut map: BTreeMap<PathBuf, Vec<(usize, T)>> = BTreeMap::new();
        for (number, (path, value)) in all.enumerate() {
            map.entry(path).or_default().push((number, value));
        }
        Self(map)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the values of the paths that are this one, are in it, or contain it.
    pub(super) fn overlapping(&self, path: &Path) -> Vec<T> {
        let above = path.ancestors().skip(1).filter_map(|above| self.0.get(above));
        // Paths are ordered by their components, so the paths in a directory follow it.
        let from = self.0.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        let below = from.take_while(|(other, _)| other.starts_with(path)).map(|(_, values)| values);
        let mut found: Vec<(usize, T)> = above.chain(below).flatten().copied().collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn paths_overlap_if_they_are_equal_or_one_contains_the_other(
            paths in prop::collection::vec("(/(a|b|ab|a-|a/b)){0,4}", 0..20),
            asked in "(/(a|b|ab|a-)){0,4}",
        ) {
            let paths: Vec<PathBuf> = paths.iter().map(|path| PathBuf::from(format!("/{path}"))).collect();
            let asked = PathBuf::from(format!("/{asked}"));
            let map = PathMap::new(paths.iter().cloned().enumerate().map(|(number, path)| (path, number)));
            let meets = |number: &usize| paths[*number].starts_with(&asked) || asked.starts_with(&paths[*number]);
            prop_assert_eq!(map.overlapping(&asked), (0..paths.len()).filter(meets).collect::<Vec<_>>());
        }
    }
}
