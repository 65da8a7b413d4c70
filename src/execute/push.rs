//! Pushes the image of an export from the store to its registry.
//!
//! The export is in the store and at its output before, so a push that fails costs the next build nothing but the push. The blobs are
//! read where the store has them, in the image or in the archive of the layout; nothing is unpacked.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::context::Context;
use super::failure::{Cause, Failure};
use super::step_context::{StepContext, unusable};
use crate::error::error_chain_with_hint;
use crate::event::Event;
use crate::fs::regular;
use crate::model::{Export, ImagePlace};
use crate::oci::{ImageName, Layout, OciError, StoredImage};
use crate::registry::{PushError, PushProgress, RegistryError, Repository};
use crate::session::LowerLayer;
use crate::store::{ExportForm, RecordedExport};

/// How often the progress of a push is reported.
const INTERVAL: Duration = Duration::from_millis(250);

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        let reason = error_chain_with_hint(&error, error.hint());
        let cause = match &error.source {
            source if source.is_interruption() => Cause::Interrupt,
            source if source.is_of_input() => Cause::Input,
            _ => Cause::Host,
        };
        Self { cause, ..Self::host(reason) }
    }
}

impl StepContext<'_, '_> {
    /// Pushes the image of an export, unless its tag leads to it already.
    pub(super) fn push_export(&self, export: &Export, exported: &RecordedExport) -> Result<(), Failure> {
        let Some(name) = &export.push else { return Ok(()) };
        let Context { build, store, images, interrupt, .. } = self.context;
        if interrupt.is_set() {
            return Err(Failure::interrupted("interrupted", None));
        }
        let step = build.step(self.id);
        let stored = store.export_path(&exported.digest);
        let failed = |source: RegistryError| Failure::from(PushError { name: name.to_string(), source });
        // The mounted layout must outlast the push.
        let (layout, _mounted) = self.layout(exported.form, &stored, &failed)?;
        let image = StoredImage::of(&layout).map_err(|error| failed(error.into()))?;
        let next = Mutex::new(Instant::now() + INTERVAL);
        let progress = |PushProgress { sent, done, total }: PushProgress| {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            if Instant::now() >= *next {
                *next = Instant::now() + INTERVAL;
                let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
                let percent = u8::try_from(percent.min(99)).unwrap_or(99);
                self.events.send(Event::PushProgress { step: step.name.clone(), bytes: sent, percent });
            }
        };
        let repository = Repository::new(&images.registries, name.clone());
        let report = repository.push_image(&image, self.base_repository(name), &progress).map_err(failed)?;
        self.events.send(Event::ImagePushed {
            step: step.name.clone(),
            image: format!("{name}@{}", image.digest),
            digest: image.digest.to_string(),
            sent: report.sent,
            changed: report.is_changed,
        });
        Ok(())
    }

    /// Opens the layout that the store has of an export. Returns also its mount, if it is an image.
    fn layout(
        &self,
        form: ExportForm,
        stored: &Path,
        failed: &impl Fn(RegistryError) -> Failure,
    ) -> Result<(Layout, Option<LowerLayer>), Failure> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from)
        };
        let (mounted, place) = match form {
            ExportForm::Directory => {
                let image = self.context.workspace.image(stored).map_err(unusable("mount the export"))?;
                let place = open(image.path()).map_err(unusable("open the export"))?;
                (Some(image), place)
            }
            ExportForm::File { .. } => (None, regular::open(stored).map_err(unusable("open the export"))?.into()),
        };
        let layout = Layout::open(stored, std::os::fd::AsFd::as_fd(&place));
        Ok((layout.map_err(|error: OciError| failed(error.into()))?, mounted))
    }

    /// Returns the repository of the image that the root begins with, if the registry of `name` has it: its blobs may be the same.
    fn base_repository(&self, name: &ImageName) -> Option<&str> {
        let build = self.context.build;
        match &build.base_image(build.step(self.id).container)?.place {
            ImagePlace::Registry(base) if base.registry == name.registry && base.repository != name.repository => {
                Some(&base.repository)
            }
            _ => None,
        }
    }
}
