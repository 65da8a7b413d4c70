//! The steps and containers of a build by their purpose: tests, roots that runner makes, and the settings that a step has for itself.

use super::{
    Action, Build, Container, ContainerId, Device, FileSource, ImageSource, Mount, Role, Rootfs, Step, StepId,
};

impl Build {
    /// Returns the container of the manifest: of the container of a test, the one that is tested.
    pub fn origin(&self, id: ContainerId) -> ContainerId {
        self.container(id).variant_of.unwrap_or(id)
    }

    /// Returns the containers of the manifest.
    pub fn own_containers(&self) -> impl Iterator<Item = (ContainerId, &Container)> {
        let all = self.containers.iter().enumerate().map(|(index, container)| (ContainerId(index), container));
        all.filter(|(_, container)| container.variant_of.is_none())
    }

    /// Returns whether a step is the snapshot of a Debian root, which mmdebstrap(1) has made.
    pub fn makes_debian_root(&self, step: StepId) -> bool {
        matches!(&self.step(step).action, Action::Snapshot(snapshot) if snapshot.subtree.is_some())
    }

    /// Returns the tests.
    pub fn tests(&self) -> impl Iterator<Item = StepId> {
        self.with_role(|role| role == Role::Test)
    }

    /// Returns the steps that build. None, which stands for all of them, where the manifest has no test.
    pub fn building_steps(&self) -> Vec<StepId> {
        let has_tests = self.tests().next().is_some();
        self.with_role(|role| has_tests && role == Role::Build).collect()
    }

    fn with_role(&self, is_wanted: impl Fn(Role) -> bool) -> impl Iterator<Item = StepId> {
        let all = self.steps.iter().enumerate();
        all.filter(move |(_, step)| is_wanted(step.role)).map(|(index, _)| StepId(index))
    }

    /// Returns the container with the settings of a step: its container, or the one that also has the step's own settings.
    pub fn settings(&self, id: StepId) -> &Container {
        self.container(self.step(id).settings())
    }

    /// Returns the image that the root of a container begins with, below all snapshots.
    pub fn base_image(&self, mut id: ContainerId) -> Option<&ImageSource> {
        loop {
            match &self.container(id).rootfs {
                Rootfs::Image(image) => return Some(image),
                Rootfs::Snapshot(step) => id = self.step(*step).container,
                _ => return None,
            }
        }
    }

    /// Returns the mounts that a step has for itself.
    pub fn own_mounts(&self, step: &Step) -> &[Mount] {
        let of_container = self.container(step.container).mounts.len();
        step.settings.map_or(&[], |own| &self.container(own).mounts[of_container..])
    }

    /// Returns the devices that a step has for itself.
    pub fn own_devices(&self, step: &Step) -> &[Device] {
        let of_container = self.container(step.container).devices.len();
        step.settings.map_or(&[], |own| &self.container(own).devices[of_container..])
    }

    /// Returns the mounts of a container, and those that these steps of it have for themselves; none for exports alone, which read
    /// layers.
    pub fn mounts_of<'b>(
        &'b self,
        container: ContainerId,
        steps: &'b [StepId],
    ) -> impl Iterator<Item = (Option<StepId>, &'b Mount)> {
        let is_export = |id: &StepId| matches!(self.step(*id).action, Action::Export(_));
        let reads_layers = !steps.is_empty() && steps.iter().all(is_export);
        let of_container = if reads_layers { &[] } else { self.container(container).mounts.as_slice() };
        let of_container = of_container.iter().map(|mount| (None, mount));
        let own = |id: &'b StepId| self.own_mounts(self.step(*id)).iter().map(|mount| (Some(*id), mount));
        of_container.chain(steps.iter().flat_map(own))
    }
}

impl Rootfs {
    /// Returns the files of the host that it is an image or an archive in.
    pub fn files(&self) -> &[FileSource] {
        match self {
            Self::Squashfs(layers) => layers,
            Self::Erofs(file) | Self::Tar(file) => std::slice::from_ref(file),
            _ => &[],
        }
    }
}
