//! Starts a session's helper ahead, so that it gets ready while runner mounts the session's layers and root.

use crate::model::{Container, MountKind, Network, Secret};
use crate::named_paths::NamedPaths;
use crate::resource_limits::settable_nofile;
use crate::runtime::Preparation;
use crate::runtime::container::Helper;
use crate::runtime::spec::{self, HostDevice};

use super::{SessionError, Workspace, capabilities, secrets};

/// A session that has mounted nothing yet. Dropping it ends its helper.
#[derive(Debug)]
pub struct SessionStart {
    pub(super) devices: Vec<HostDevice>,
    pub(super) helper: ContainerHelper,
}

/// The helper of a container that it has not opened yet.
#[derive(Debug)]
pub(super) struct ContainerHelper {
    /// The container's id.
    pub id: String,
    pub helper: Helper,
}

impl SessionStart {
    /// Looks the container's devices up, and starts its helper.
    ///
    /// # Errors
    /// Where this process lacks a secret or a capability, or may not have as many open files, where a device does not exist, or no
    /// process can be started.
    pub fn new(workspace: &Workspace, container: &Container, paths: &NamedPaths) -> Result<Self, SessionError> {
        let devices = look_up(container, paths)?;
        let helper = begin(workspace, container, &devices)?;
        Ok(Self { devices, helper })
    }
}

/// Checks that this process has the secrets, the capabilities and the open files that the container needs, and looks its
/// devices up.
pub(super) fn look_up(container: &Container, paths: &NamedPaths) -> Result<Vec<HostDevice>, SessionError> {
    if let Some((variable, target)) = secrets::unset(container).next() {
        return Err(SessionError::UnsetSecret { variable: variable.to_owned(), target: target.to_owned() });
    }
    let absent = container.mounts.iter().find_map(|mount| match &mount.kind {
        MountKind::Secret(Secret::File(path)) | MountKind::Ssh(Secret::File(path)) if !paths.is_named(path) => {
            Some((path, &mount.target))
        }
        _ => None,
    });
    if let Some((path, target)) = absent {
        return Err(SessionError::AbsentSecret { path: path.clone(), target: target.clone() });
    }
    capabilities::check(container)?;
    if let (Some(requested), Some(most)) = (container.limits.nofile, settable_nofile())
        && requested > most
    {
        return Err(SessionError::OpenFiles { requested, most });
    }
    let look_up = |device| HostDevice::look_up(device, paths.opened()).map_err(|source| (device, source));
    let all = container.devices.iter().map(look_up).collect::<Result<Vec<_>, _>>();
    all.map_err(|(device, source)| SessionError::Device { path: device.path.clone(), source })
}

pub(super) fn begin(
    workspace: &Workspace,
    container: &Container,
    devices: &[HostDevice],
) -> Result<ContainerHelper, SessionError> {
    let (runtime, id) = (workspace.runtime(), workspace.container_id());
    let helper = runtime.start_helper(Preparation {
        id: &id,
        resources: spec::resources(&container.limits, runtime.own_processes(), devices)?,
        capabilities: &container.capabilities,
        own_network: container.network == Network::None,
    })?;
    Ok(ContainerHelper { id, helper })
}
