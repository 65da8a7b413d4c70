//! Exports files of a container's root: into the store, and from there to the host.

use std::io;
use std::path::{Path, PathBuf};

use super::context::Context;
use super::failure::Failure;
use super::step_context::{StepContext, measured, unusable};
use crate::error::error_chain_with_hint;
use crate::event::Event;
use crate::export::{self, ExportError, Job, Layers, Lost, caller};
use crate::fs::copy_tree::LeftOut;
use crate::fs::output::OutputPlace;
use crate::model::{Action, Export, ExportFormat};
use crate::session::SessionError;
use crate::snapshot::ImageProgress;
use crate::store::{CacheRecord, ExportForm, ExportedTree, OutputAttributes, RecordedExport, StoreError};
use crate::warning::Warning;

/// An export whose content is in the store.
pub struct Exported {
    /// Its content.
    pub recorded: RecordedExport,
    /// The failure of the step nevertheless: its output cannot be written, or its image not be pushed.
    pub failure: Option<Failure>,
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let reason = error_chain_with_hint(&error, error.hint());
        if error.is_of_root() { Self { is_explained: true, ..Self::own(reason, None) } } else { Self::host(reason) }
    }
}

impl StepContext<'_, '_> {
    /// Exports the root as the steps before this one have left it.
    pub fn export(&self, export: &Export) -> Result<Exported, Failure> {
        let Context { build, store, lease, interrupt, .. } = self.context;
        let step = build.step(self.id);
        let temp = lease.temp_file(&format!("{}.export", step.name))?;
        let scratch_name = format!("{}.oci", step.name);
        let mut progress = |ImageProgress { bytes, percent }| {
            self.events.send(Event::SnapshotProgress { step: step.name.clone(), bytes, percent });
        };
        let form = {
            let mut slot = self.sessions.exclusive(step.container)?;
            let session = slot.as_mut().ok_or_else(|| Failure::host("the session is closed"))?;
            session.restore_changes()?;
            let view =
                session.export_view(export.path == Path::new("/") && export.is_image() && export.oci.is_none())?;
            let (mut all, is_top_in_use) = session.export_layers();
            if all.is_empty() {
                // An image of nothing has one layer with nothing.
                all.push(view.path().to_owned());
            }
            let layers = Layers { all, is_top_in_use };
            let scratch = match export.format {
                ExportFormat::Oci | ExportFormat::Erofs => Some(lease.scratch_dir(&scratch_name)?),
                _ => None,
            };
            let job = Job {
                view: view.path(),
                layers: &layers,
                scratch: scratch.as_deref(),
                export,
                epoch: build.source_date_epoch,
                interrupt: interrupt.descriptor(),
            };
            let written = job.write(&temp, &mut progress);
            if scratch.is_some() {
                lease.remove_scratch_dir(&scratch_name)?;
            }
            let export::Written { form, lost } = written?;
            if !export.is_image() && export::loses_rights(view.path(), &export.path).is_ok_and(|loses| loses) {
                let privileges = (vec![PathBuf::new()], 1);
                self.warn_of_left_out(LeftOut { privileges, ..LeftOut::default() }, &export.path);
            }
            self.warn_of_lost(lost, &export.path);
            view.close().map_err(SessionError::Busy)?;
            form
        };
        let (digest, size) = measured(&temp)?;
        self.sessions.add_pin(Some(store.put_export(&temp, &digest)?));
        let recorded = RecordedExport { digest, size, form };
        // From here on the content is stored, and no failure makes the steps run again.
        let placed = self.place_export(export, &recorded, false);
        let failure = placed.and_then(|()| self.push_export(export, &recorded)).err();
        Ok(Exported { recorded, failure })
    }

    /// Uses an export of the store: writes its output and pushes its image, unless they are there.
    pub fn take_export(&self, recorded: &CacheRecord, segment: usize) -> Result<(), Failure> {
        let Context { build, store, .. } = self.context;
        let step = build.step(self.id);
        let Action::Export(export) = &step.action else { return Ok(()) };
        let exports = self.checker.segments().get(segment).exports(build);
        let of_step = exports.zip(&recorded.exports).find(|(id, _)| *id == self.id);
        let Some((_, exported)) = of_step else { return Err(Failure::host("the record of the export is gone")) };
        store.touch(recorded)?;
        // The last key only serves explanations; the calls that must write to the store report one that is read-only.
        let _ = store.set_last_key(&build.name, &build.project, &step.name, &recorded.fields);
        self.place_export(export, exported, true)?;
        self.push_export(export, exported)
    }

    /// Writes the output, unless it is there and the same.
    fn place_export(&self, export: &Export, exported: &RecordedExport, is_cached: bool) -> Result<(), Failure> {
        let Context { store, .. } = self.context;
        let stored = store.export_path(&exported.digest);
        let mut is_written = false;
        if let Some(output) = self.context.paths.output(self.id) {
            is_written = match exported.form {
                ExportForm::File { mode, time } => {
                    self.place_file(&stored, exported, output, OutputAttributes { mode, owner: caller(), time })?
                }
                ExportForm::Directory => self.place_directory(export, &stored, exported, output)?,
            };
            if is_written {
                self.checker.wrote(output.path());
            }
        }
        self.events.send(Event::ExportWritten {
            step: self.context.build.step(self.id).name.clone(),
            digest: exported.digest.to_string(),
            size: exported.size,
            path: export.output.clone().unwrap_or(stored),
            cached: is_cached,
            changed: is_written,
        });
        Ok(())
    }

    fn place_file(
        &self,
        stored: &Path,
        exported: &RecordedExport,
        output: &OutputPlace,
        attributes: OutputAttributes,
    ) -> Result<bool, Failure> {
        if self.checker.has_export(output, exported) {
            return Ok(false);
        }
        Ok(self.context.lease.publish_as(stored, output, Some(attributes))?)
    }

    fn place_directory(
        &self,
        export: &Export,
        stored: &Path,
        exported: &RecordedExport,
        output: &OutputPlace,
    ) -> Result<bool, Failure> {
        let Context { store, lease, workspace, interrupt, .. } = self.context;
        let digest = &exported.digest;
        if self.checker.has_export(output, exported) {
            return Ok(false);
        }
        if store.is_read_only() {
            return Err(StoreError::ReadOnly { path: store.root().to_owned() }.into());
        }
        let image = workspace.image(stored).map_err(unusable("mount the export"))?;
        let mut report = |_: u64| {
            if interrupt.is_set() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        };
        let tree = ExportedTree { from: image.path(), digest, owner: caller() };
        let left_out = lease.publish_tree(tree, output, &mut report).map_err(|error| {
            if interrupt.is_set() { Failure::own("interrupted", None) } else { Failure::from(error) }
        })?;
        self.warn_of_left_out(left_out, &export.path);
        Ok(true)
    }

    fn warn_of_lost(&self, Lost { sockets, attributes: (first, files) }: Lost, exported: &Path) {
        let step = Some(self.context.build.step(self.id).name.as_str());
        if sockets > 0 {
            self.events.warn(step, &Warning::SocketsLeftOut { sockets });
        }
        if files > 0 {
            let first = first.iter().map(|path| exported.join(path)).collect();
            self.events.warn(step, &Warning::AttributesLost { files, first });
        }
    }

    fn warn_of_left_out(&self, left_out: LeftOut, exported: &Path) {
        for warning in Warning::of_left_out(left_out, exported) {
            self.events.warn(Some(&self.context.build.step(self.id).name), &warning);
        }
    }
}
