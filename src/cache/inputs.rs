//! Reads the inputs of a segment's key from the host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::sources::MountedContents;
use super::{CacheCheckError, CacheChecker, HostFacts};
use crate::cache::key::{HostInputs, KeyFields, StepInputs, fields};
use crate::content::Content;
use crate::digest::Digest;
use crate::export::{Writer, writer};
use crate::fs::opened::OpenedPaths;
use crate::fs::regular;
use crate::model::{Action, Build, Device, MountKind, StepId};
use crate::plan::Segment;
use crate::runtime::Runtime;
use crate::runtime::spec::{self, HostDevice};
use crate::seccomp::Kernel;
use crate::snapshot::{find_mksquashfs, uses_mksquashfs};
use crate::squashfs;
use crate::store::Store;

impl CacheChecker<'_> {
    /// Returns the fields of a segment's key without its parents; none where there is no store for its result.
    pub(super) fn draft(&self, index: usize) -> Result<Option<KeyFields>, CacheCheckError> {
        self.store.map(|_| self.fields_now(index)).transpose()
    }

    /// Returns the same fields, also where there is no store.
    pub(super) fn fields_now(&self, index: usize) -> Result<KeyFields, CacheCheckError> {
        self.fields_with(index, self.copied(index)?, self.mounted(index)?)
    }

    /// Returns the same fields with these contents of the sources of copies and of mounted snapshots.
    pub(super) fn fields_with(
        &self,
        index: usize,
        copied: BTreeMap<(usize, usize), String>,
        all_mounted: MountedContents,
    ) -> Result<KeyFields, CacheCheckError> {
        let segment = self.segments.get(index);
        if segment.is_export_of_layers(self.build) {
            let export_writers = self.export_writers(index)?;
            return Ok(fields(self.build, segment, &HostInputs { export_writers, ..HostInputs::default() }));
        }
        let container = self.build.container(segment.container);
        let (mut contents, mut of_steps) = (BTreeMap::new(), BTreeMap::<StepId, StepInputs>::new());
        for ReadBind { step, target, source } in read_binds(self.build, segment) {
            let digest = self.content(source)?.digest;
            let of_step = step.map(|step| &mut of_steps.entry(step).or_default().contents);
            of_step.unwrap_or(&mut contents).insert(target.to_owned(), digest);
        }
        for id in &segment.steps {
            for device in self.build.own_devices(self.build.step(*id)) {
                let node = self::node(device, &self.options.opened)?;
                of_steps.entry(*id).or_default().nodes.insert(device.target.clone(), node);
            }
        }
        let mut mounted = BTreeMap::new();
        for ((step, target), content) in all_mounted {
            let of_step = step.map(|step| &mut of_steps.entry(step).or_default().mounted);
            of_step.unwrap_or(&mut mounted).insert(target, content);
        }
        let node = |device: &Device| Ok((device.target.clone(), self::node(device, &self.options.opened)?));
        let inputs = HostInputs {
            contents,
            of_steps,
            mounted,
            copied,
            nodes: container.devices.iter().map(node).collect::<Result<_, CacheCheckError>>()?,
            lacks_user_attributes: lacks_user_attributes(),
            runtime: self.runtime()?,
            export_writers: self.export_writers(index)?,
            writer: segment.snapshot.map_or(Ok(String::new()), |step| self.writer(step))?,
        };
        Ok(fields(self.build, segment, &inputs))
    }

    /// Returns the paths of the host in a segment's key, each with the target of its bind, or itself where a step copies it.
    pub(super) fn host_inputs(&self, index: usize) -> impl Iterator<Item = ReadBind<'_>> {
        let copied = self.copied_host_paths(index).map(|path| ReadBind { step: None, target: path, source: path });
        read_binds(self.build, self.segments.get(index)).chain(copied)
    }

    pub(super) fn content(&self, source: &Path) -> Result<Arc<Content>, CacheCheckError> {
        let look = || {
            let content = Arc::new(self.contents.of(source)?);
            if let Some(listings) = &self.listings {
                // The listing only serves explanations; the calls that must write to the store report one that is
                // read-only.
                let _ = listings.put(&content.digest, &content.listing);
            }
            Ok(content)
        };
        let remember = |facts: &mut HostFacts, content| drop(facts.contents.insert(source.to_owned(), content));
        self.stored_or(|facts| facts.contents.get(source).cloned(), look, remember)
    }

    /// Returns the name and version of the writer of a snapshot's image.
    fn writer(&self, step: StepId) -> Result<String, CacheCheckError> {
        if uses_mksquashfs() {
            return self.program(&find_mksquashfs().ok_or(CacheCheckError::NoMksquashfs)?);
        }
        match &self.build.step(step).action {
            Action::Snapshot(snapshot) => Ok(squashfs::writer(snapshot.compression)),
            Action::Run(_) | Action::Exec(_) | Action::Copy(_) | Action::Export(_) => Ok(String::new()),
        }
    }

    /// Returns the names and versions of the writers of a segment's exports.
    fn export_writers(&self, index: usize) -> Result<BTreeMap<StepId, String>, CacheCheckError> {
        let mut writers = BTreeMap::new();
        for step in self.segments.get(index).exports(self.build) {
            let Action::Export(export) = &self.build.step(step).action else { continue };
            let writer = match writer(export) {
                Writer::Own(version) => version,
                Writer::MkfsErofs(program) => self.program(&program.ok_or(CacheCheckError::NoMkfsErofs)?)?,
                Writer::Mksquashfs => self.program(&find_mksquashfs().ok_or(CacheCheckError::NoMksquashfs)?)?,
            };
            writers.insert(step, writer);
        }
        Ok(writers)
    }

    fn runtime(&self) -> Result<String, CacheCheckError> {
        match &self.options.runtime {
            Runtime::Embedded => Ok("embedded".to_owned()),
            Runtime::External(program) => self.program(program.path()),
        }
    }

    fn program(&self, path: &Path) -> Result<String, CacheCheckError> {
        let remember = |facts: &mut HostFacts, program| drop(facts.programs.insert(path.to_owned(), program));
        self.stored_or(|facts| facts.programs.get(path).cloned(), || described(self.store, path), remember)
    }
}

/// Whether a tmpfs of this host refuses `user.*` attributes.
pub fn lacks_user_attributes() -> bool {
    lacks_user_attributes_in(spec::kernel().ok())
}

/// Whether a tmpfs of that kernel refuses `user.*` attributes, see tmpfs(5); false for an unknown kernel.
fn lacks_user_attributes_in(kernel: Option<Kernel>) -> bool {
    kernel.is_some_and(|kernel| (kernel.version, kernel.revision) < (6, 6))
}

/// A bind whose content is in a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadBind<'b> {
    /// The step that has it for itself.
    pub step: Option<StepId>,
    pub target: &'b Path,
    pub source: &'b Path,
}

impl ReadBind<'_> {
    /// Returns its name in a lock: its target, and the step that has it for itself.
    pub fn name(&self, build: &Build) -> String {
        name_of_input(build, self.step, self.target)
    }
}

/// Returns the name of a mount in a lock: its target, and the step that has it for itself.
pub(super) fn name_of_input(build: &Build, step: Option<StepId>, target: &Path) -> String {
    let of_step = step.map(|step| format!(" of step {}", build.step(step).name)).unwrap_or_default();
    format!("{}{of_step}", target.display())
}

/// Returns the binds whose content is in the key of a segment.
pub(super) fn read_binds<'b>(build: &'b Build, segment: &'b Segment) -> impl Iterator<Item = ReadBind<'b>> {
    let mounts = build.mounts_of(segment.container, &segment.steps);
    mounts.filter(|(_, mount)| mount.is_read_only() && !mount.ignored).filter_map(|(step, mount)| match &mount.kind {
        MountKind::Bind(source) => Some(ReadBind { step, target: &mount.target, source }),
        _ => None,
    })
}

/// Returns the name of a program and the digest of its file. Its version would say less, and only running the program
/// would give it.
fn described(store: Option<&Store>, program: &Path) -> Result<String, CacheCheckError> {
    let failed = |source| CacheCheckError::Program { path: program.to_owned(), source };
    let digest = store.map_or_else(|| Digest::of_file(&regular::open(program)?), |store| store.program_digest(program));
    let digest = digest.map_err(failed)?;
    Ok(format!("{} {digest}", program.file_name().unwrap_or_default().display()))
}

/// Returns the device node that a step finds: kind, numbers, mode and owner.
fn node(device: &Device, opened: &OpenedPaths) -> Result<String, CacheCheckError> {
    let found = HostDevice::look_up(device, opened);
    let HostDevice { node, .. } =
        found.map_err(|source| CacheCheckError::Device { path: device.path.clone(), source })?;
    Ok(format!(
        "{} {}:{} {:04o} {}:{}",
        node.typ().as_str(),
        node.major(),
        node.minor(),
        node.file_mode().unwrap_or_default(),
        node.uid().unwrap_or_default(),
        node.gid().unwrap_or_default(),
    ))
}
