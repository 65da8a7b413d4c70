//! Settings of a step for itself alone: mounts, devices, a network and capabilities beside those of its container.
//!
//! They become a container of their own, without a session: everything that looks at the mounts or devices of all containers
//! sees these too. A test has its own container already, which gets them.

use super::build::{Capability, Container, ContainerId, Device, Mount, MountKind, Network};
use super::check::Check;
use super::containers::Definitions;
use super::edge::{Edge, EdgeReason};
use super::steps::OrderedStep;
use crate::diagnostic::Trail;
use crate::manifest::StepDef;

/// The settings of a step for itself.
pub(super) struct OwnSettings {
    mounts: Vec<Mount>,
    devices: Vec<Device>,
    network: Option<Network>,
    /// All capabilities of the step.
    capabilities: Option<Vec<Capability>>,
}

impl Check<'_> {
    /// Returns the settings that a step has for itself, if there are any.
    pub(super) fn own_settings(
        &mut self,
        def: &StepDef,
        at: &Trail<'_>,
        container: Option<&Container>,
        known: &Definitions<'_>,
    ) -> Option<OwnSettings> {
        let StepDef { mounts, devices, network, capabilities, .. } = def;
        if mounts.is_none() && devices.is_none() && network.is_none() && capabilities.is_none() {
            return None;
        }
        let (of_mounts, of_devices) = container.map_or((&[][..], &[][..]), |of| (&of.mounts, &of.devices));
        let before = container.map_or(&[][..], |of| &of.capabilities);
        Some(OwnSettings {
            mounts: self.mounts(mounts.as_deref(), &at.key("mounts"), known, of_mounts),
            devices: self.devices(devices.as_deref(), &at.key("devices"), known, of_devices),
            network: self.network(network.as_deref(), &at.key("network")),
            capabilities: capabilities
                .as_ref()
                .map(|def| self.capabilities(before, Some(def), &at.key("capabilities"))),
        })
    }
}

/// Gives each step with settings of its own a container with these.
pub(super) fn separate(containers: &mut Vec<Container>, ordered: &mut [OrderedStep]) {
    for OrderedStep { step, own, .. } in ordered {
        let Some(own) = own.take() else { continue };
        let id = step.container;
        if step.is_test() {
            own.add_to(&mut containers[id.0]);
            continue;
        }
        let mut container = Container { variant_of: Some(id), ..containers[id.0].clone() };
        own.add_to(&mut container);
        step.settings = Some(ContainerId(containers.len()));
        containers.push(container);
    }
}

impl OwnSettings {
    /// Returns the edges to the snapshots that the step has mounted for itself.
    pub(super) fn edges(&self) -> impl Iterator<Item = Edge> {
        self.mounts.iter().enumerate().filter_map(|(index, mount)| match mount.kind {
            MountKind::Snapshot { step, .. } => Some(Edge { on: step, why: EdgeReason::OwnMount(index) }),
            _ => None,
        })
    }

    fn add_to(self, container: &mut Container) {
        container.mounts.extend(self.mounts);
        container.devices.extend(self.devices);
        container.network = self.network.unwrap_or(container.network);
        container.capabilities = self.capabilities.unwrap_or_else(|| std::mem::take(&mut container.capabilities));
    }
}
