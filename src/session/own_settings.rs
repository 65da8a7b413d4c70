//! The settings of one step in the session of its container: the container ends, and is made anew with the mounts, devices,
//! network and capabilities that the step adds, on the same changes and the same tmpfs mounts. The next step gets a
//! container without them: neither a mount nor its mount point nor a secret of the step stays.

use std::path::{Path, PathBuf};

use super::etc_files::EtcFile;
use super::mounts::{MountSources, PreparedMount, SessionMounts};
use super::{InitialChanges, Session, SessionError, etc_files, scratch, start};
use crate::error::context;
use crate::fs::remove_tree::remove_tree;
use crate::loopdev::LentLoopDevices;
use crate::model::Container;
use crate::named_paths::NamedPaths;
use crate::runtime::Runtime;
use crate::runtime::spec::{self, HostDevice};

/// The settings of a step for itself.
#[derive(Debug)]
pub struct OwnSettings<'a> {
    /// The container with these settings.
    container: &'a Container,
    /// All devices of that container.
    devices: Vec<HostDevice>,
    /// The mounts that the session does not have.
    mounts: SessionMounts,
    etc_files: Vec<EtcFile>,
    /// The directory of the mounts.
    directory: PathBuf,
    _lent: LentLoopDevices,
}

impl OwnSettings<'_> {
    /// Returns the mounts that the session does not have.
    pub fn mounts(&self) -> &SessionMounts {
        &self.mounts
    }
}

impl<'a> Session<'a> {
    /// Ends the container; the next one has the settings of `own`, which is the session's container with more mounts and
    /// devices, and another network and capabilities.
    ///
    /// # Errors
    /// Those of [`Session::prepare`], and of the end of a container.
    pub fn use_settings(
        &mut self,
        own: &'a Container,
        paths: &NamedPaths,
        sources: MountSources<'_>,
    ) -> Result<(), SessionError> {
        self.refuse_lost()?;
        self.reset_settings()?;
        let devices = start::look_up(own, paths)?;
        let numbers = devices.iter().map(|device| (device.node.major(), device.node.minor()));
        let lent = LentLoopDevices::note(numbers, self.workspace.disk())
            .map_err(context("record the loop devices of a step"))?;
        let directory = self.own_mounts.join(format!("step{}", self.workspace.number()));
        scratch::private_directory(&directory)?;
        let bound = spec::nodes(self.container, &self.devices).1;
        let is_new = |path: &Path| !bound.iter().any(|node| node.path() == path);
        let outside_dev: Vec<_> = spec::nodes(own, &devices).1.into_iter().filter(|node| is_new(node.path())).collect();
        let added = Container {
            mounts: own.mounts[self.container.mounts.len()..].to_vec(),
            has_scripts: false,
            init: false,
            ..own.clone()
        };
        let is_external = *self.workspace.runtime() != Runtime::Embedded;
        let secrets = self.workspace.secrets();
        let mounts = SessionMounts::prepare(&added, &outside_dev, &directory, paths, sources, secrets, is_external)?;
        let etc_files = etc_files::files(own, paths)?;
        self.helper = None;
        self.own = Some(OwnSettings { container: own, devices, mounts, etc_files, directory, _lent: lent });
        Ok(())
    }

    /// Ends the container, so that the next one has the settings of the session alone.
    ///
    /// # Errors
    /// Those of the end of a container.
    pub fn reset_settings(&mut self) -> Result<(), SessionError> {
        if let Some(live) = self.live.take() {
            self.initial_changes = Some(InitialChanges::Upper(live.end()?));
        }
        if let Some(OwnSettings { mounts, directory, .. }) = self.own.take() {
            drop(mounts);
            remove_tree(&directory).map_err(context("remove the mounts of a step"))?;
        }
        Ok(())
    }

    /// Returns the container with the settings that hold now.
    pub(super) fn settings(&self) -> &'a Container {
        self.own.as_ref().map_or(self.container, |own| own.container)
    }

    /// Returns the devices of that container.
    pub(super) fn devices(&self) -> &[HostDevice] {
        self.own.as_ref().map_or(&self.devices, |own| &own.devices)
    }

    pub(super) fn etc_files(&self) -> &[EtcFile] {
        self.own.as_ref().map_or(&self.etc_files, |own| &own.etc_files)
    }

    /// Returns the mounts of that container, in the order in which they must be mounted.
    pub(super) fn prepared(&self) -> Vec<&PreparedMount> {
        let own = self.own.iter().flat_map(|own| own.mounts.prepared());
        let mut all: Vec<&PreparedMount> = self.mounts.prepared().iter().chain(own).collect();
        // Deeper mounts come later, so that no mount is hidden by the one above it.
        all.sort_by_key(|mount| mount.point().target.components().count());
        all
    }
}
