//! Checks whether steps of two containers can together remove a mount of the host below the source of a bind.
//!
//! Such mounts have mount points in the namespace of a container with the bind, so its steps cannot remove them. A
//! step of a container without the bind could, if it receives a descriptor of the directory.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::confinement::Confinement;
use super::{NamedPathError, binds};
use crate::model::{Build, Container, ContainerId, Mount, MountKind, Network};
use crate::mount::{Location, MountTable};

/// Returns the first bind whose mounts running containers of the build can remove; `tops` has the locations of the
/// sources.
pub fn removable_mount(
    build: &Build,
    runs: &HashSet<ContainerId>,
    table: &MountTable,
    tops: &HashMap<&Path, Location>,
    confinement: &Confinement,
) -> Option<NamedPathError> {
    if *confinement == Confinement::Landlock {
        return None;
    }
    let writable = |(id, mount, _): &(ContainerId, &Mount, &Path)| runs.contains(id) && !mount.is_read_only();
    binds(build).filter(writable).find_map(|(id, _, path)| {
        let top = tops.get(path)?;
        let mount = top.path().join(table.mounted_below(top, false).next()?);
        let share_sockets = |one: usize, other: usize| {
            runs.contains(&ContainerId(other))
                && share_sockets(&build.containers[one], &build.containers[other], table, tops)
        };
        let reached = reached(build.containers.len(), id.0, share_sockets);
        let has_bind = |container: &Container| sources(container).any(|source| source == path);
        let other = reached.into_iter().map(|index| &build.containers[index]).find(|container| !has_bind(container))?;
        Some(NamedPathError::BindTakesMount {
            path: path.to_owned(),
            mount,
            container: build.container(id).name.clone(),
            other: other.name.clone(),
            confinement: confinement.clone(),
        })
    })
}

/// Returns the containers that a descriptor of one can reach, also through others.
fn reached(count: usize, first: usize, share_sockets: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let (mut reached, mut at) = (vec![first], 0);
    while let Some(one) = reached.get(at).copied() {
        let new: Vec<usize> =
            (0..count).filter(|other| !reached.contains(other) && share_sockets(one, *other)).collect();
        reached.extend(new);
        at += 1;
    }
    reached
}

/// Returns whether the steps of two containers can reach the same Unix socket.
fn share_sockets(one: &Container, other: &Container, table: &MountTable, tops: &HashMap<&Path, Location>) -> bool {
    let overlap = |one: &Path, other: &Path| match (tops.get(one), tops.get(other)) {
        (Some(one), Some(other)) => {
            !table.views(one, other, true).is_empty() || !table.views(other, one, true).is_empty()
        }
        _ => false,
    };
    one.network == Network::Host && other.network == Network::Host
        || caches(one).any(|id| caches(other).any(|known| known == id))
        || sources(one).any(|source| sources(other).any(|known| overlap(source, known)))
}

fn sources(container: &Container) -> impl Iterator<Item = &Path> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind(source) => Some(source.as_path()),
        _ => None,
    })
}

fn caches(container: &Container) -> impl Iterator<Item = &str> {
    container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Cache(cache) => Some(cache.id.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_reaches_containers_through_others_that_share_a_socket() {
        let pairs = [(0, 2), (2, 3), (1, 4)];
        let share_sockets = |one, other| pairs.contains(&(one, other)) || pairs.contains(&(other, one));
        assert_eq!(reached(5, 0, share_sockets), [0, 2, 3]);
        assert_eq!(reached(5, 4, share_sockets), [4, 1]);
    }
}
