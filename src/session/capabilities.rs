//! Checks that runner has the capabilities that a session needs: those for its own work, and those of its steps.

use std::collections::BTreeSet;

use caps::CapSet;

use super::{Session, SessionError};
use crate::model::{Capability, Container, DEFAULT_CAPABILITIES, Network};
use crate::runtime::Runtime;

/// The capabilities that each session needs: for device nodes, overlays of other users' directories, and the groups and bounding
/// sets of its processes.
const ALWAYS: [Capability; 4] = [Capability::DacOverride, Capability::Mknod, Capability::Setgid, Capability::Setpcap];

impl Session<'_> {
    /// Returns whether the steps may change a network that they share, and that no layer contains. With an external runtime each step
    /// has a network of its own.
    pub fn may_change_network(&self) -> bool {
        let has_own = self.container.network == Network::None && *self.workspace.runtime() == Runtime::Embedded;
        has_own && self.container.capabilities.contains(&Capability::NetAdmin)
    }
}

/// Refuses a container that needs capabilities which this process does not have.
///
/// # Errors
/// [`SessionError::Capabilities`].
pub(super) fn check(container: &Container) -> Result<(), SessionError> {
    check_in(container, &of_caller().map_err(std::io::Error::other)?)
}

/// Returns the capabilities that a container with the default settings needs and this process does not have.
///
/// # Errors
/// Those of reading this process' capabilities.
pub fn missing_by_default() -> Result<BTreeSet<String>, caps::errors::CapsError> {
    let needed = ALWAYS.iter().chain(&[Capability::NetAdmin]).chain(&DEFAULT_CAPABILITIES);
    let needed: BTreeSet<String> = needed.map(|capability| format!("CAP_{capability}")).collect();
    Ok(&needed - &of_caller()?)
}

/// Returns the capabilities of this process that the programs it starts can have too.
fn of_caller() -> Result<BTreeSet<String>, caps::errors::CapsError> {
    let mut available = BTreeSet::new();
    for capability in caps::read(None, CapSet::Effective)? {
        if caps::has_cap(None, CapSet::Bounding, capability)? {
            available.insert(capability.to_string());
        }
    }
    Ok(available)
}

fn check_in(container: &Container, available: &BTreeSet<String>) -> Result<(), SessionError> {
    let lacks = |capability: &&Capability| !available.contains(&format!("CAP_{capability}"));
    let for_loopback = (container.network == Network::None).then_some(&Capability::NetAdmin);
    let own: Vec<Capability> = ALWAYS.iter().chain(for_loopback).filter(lacks).copied().collect();
    if !own.is_empty() {
        return Err(SessionError::Capabilities { missing: own, steps: false });
    }
    let missing: Vec<Capability> = container.capabilities.iter().filter(lacks).copied().collect();
    if missing.is_empty() { Ok(()) } else { Err(SessionError::Capabilities { missing, steps: true }) }
}

/// Returns the names of capabilities, as in a manifest.
pub(super) fn names(capabilities: &[Capability], prefix: &str) -> String {
    let names: Vec<String> = capabilities.iter().map(|capability| format!("{prefix}{capability}")).collect();
    names.join(", ")
}
