//! Whether steps of two containers can together take away what the host has mounted below the source of a bind.
//!
//! The places of such mounts are mount points in the namespace of a container with the bind, so none of its steps removes
//! one. A step of a container without that bind, if it is sent a descriptor of the directory, could.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::confinement::Confinement;
use super::{NamedPathError, binds};
use crate::model::{Build, Container, ContainerId, Mount, MountKind, Network};
use crate::mount::{Location, MountTable};

/// The first bind with which containers of the build that run can do so; `tops` says where the sources are.
pub fn taken(
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
        let meet = |one: usize, other: usize| {
            runs.contains(&ContainerId(other)) && meet(&build.containers[one], &build.containers[other], table, tops)
        };
        let reached = reached(build.containers.len(), id.0, meet);
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

/// The containers that a descriptor of one can get to, also by others in between.
fn reached(count: usize, first: usize, meet: impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let (mut reached, mut at) = (vec![first], 0);
    while let Some(one) = reached.get(at).copied() {
        let new: Vec<usize> = (0..count).filter(|other| !reached.contains(other) && meet(one, *other)).collect();
        reached.extend(new);
        at += 1;
    }
    reached
}

/// Whether the steps of two containers can find the same Unix socket.
fn meet(one: &Container, other: &Container, table: &MountTable, tops: &HashMap<&Path, Location>) -> bool {
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
    fn a_descriptor_gets_on_by_others_in_between_and_not_where_nobody_meets() {
        let pairs = [(0, 2), (2, 3), (1, 4)];
        let meet = |one, other| pairs.contains(&(one, other)) || pairs.contains(&(other, one));
        assert_eq!(reached(5, 0, meet), [0, 2, 3]);
        assert_eq!(reached(5, 4, meet), [4, 1]);
    }
}
