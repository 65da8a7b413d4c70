//! The edges between steps, with their reasons.

use super::build::{Container, MountKind, Rootfs, StepId};
use super::steps::OrderedStep;

/// One step waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    /// The step that is waited for.
    pub on: StepId,
    pub why: EdgeReason,
}

/// The reason why a step waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeReason {
    /// The element of `needs` of that index.
    Needs(usize),
    /// The other step is the one before it in the container.
    Before,
    /// The other step is the snapshot that is the container's root filesystem.
    Rootfs,
    /// The step is a test of the container that the other step belongs to.
    Tests,
    /// The step copies files of the other one, a snapshot.
    Copy,
    /// The mount of that index of the container shows the other step, a snapshot.
    Mount(usize),
    /// The mount of that index that the step has for itself shows the other step, a snapshot.
    OwnMount(usize),
}

impl EdgeReason {
    /// Returns whether the step waits without naming the other one in `needs`, and also where it does.
    pub(super) fn follows_from_use(self) -> bool {
        matches!(self, Self::Rootfs | Self::Copy | Self::Mount(_) | Self::OwnMount(_))
    }
}

/// Adds the edges of containers that are on a snapshot or have one mounted, which start after it: each step that waits for no other
/// step of its container, and so could be its first, waits for the snapshot. The other steps wait for it through those.
pub(super) fn add_edges_of_containers(ordered: &mut [OrderedStep], containers: &[Container]) {
    for n in 0..ordered.len() {
        let Some(id) = ordered[n].container else { continue };
        let container = &containers[id.0];
        let mut edges = Vec::new();
        // A test waits for the other steps of its container.
        if let Rootfs::Snapshot(on) = container.rootfs
            && !ordered[n].step.is_test()
        {
            edges.push(Edge { on, why: EdgeReason::Rootfs });
        }
        for (index, mount) in container.mounts.iter().enumerate() {
            if let MountKind::Snapshot { step, .. } = mount.kind {
                edges.push(Edge { on: step, why: EdgeReason::Mount(index) });
            }
        }
        if !edges.is_empty() && !ordered[n].edges.iter().any(|edge| ordered[edge.on.0].container == Some(id)) {
            ordered[n].edges.extend(edges);
        }
    }
}
