//! Reports of a whole build, written at its end: HTML, JUnit XML or JSON, by the file's extension.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::escape;
use crate::event::Stamped;
use crate::fs::atomic::Permissions;
use crate::fs::named_file::NamedFile;
use crate::image::Content;

use super::record::Record;
use super::{ReportContext, Reporter, html, junit};

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An HTML page for people.
    Html,
    /// JUnit XML, which CI systems show.
    Junit,
    /// JSON for programs.
    Json,
}

impl Format {
    /// Returns the format that the path's extension names.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "xml" => Some(Self::Junit),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The images that a report measures: mounting one takes some milliseconds, and a build may write thousands.
const MAX_MEASURED: usize = 100;

/// Returns the sizes in the image of a digest; none where they are unknown.
type Measure = dyn Fn(&str) -> Option<Content> + Send + Sync;

/// Measures images for a report.
#[derive(Clone)]
pub struct MeasureImage(Arc<Measure>);

impl MeasureImage {
    /// Takes the function that measures an image.
    pub fn by(measure: impl Fn(&str) -> Option<Content> + Send + Sync + 'static) -> Self {
        Self(Arc::new(measure))
    }
}

impl std::fmt::Debug for MeasureImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MeasureImage")
    }
}

/// Gathers the events of a build, and writes a report at its end.
#[derive(Debug)]
pub(super) struct FileReport {
    file: NamedFile,
    format: Format,
    context: Option<Arc<ReportContext>>,
    permissions: Permissions,
    measure: Option<MeasureImage>,
    record: Record,
}

impl FileReport {
    pub(super) fn new(
        file: NamedFile,
        format: Format,
        context: Option<Arc<ReportContext>>,
        permissions: Permissions,
        measure: Option<MeasureImage>,
    ) -> Self {
        Self { file, format, context, permissions, measure, record: Record::default() }
    }
}

impl Reporter for FileReport {
    fn event(&mut self, stamped: &Stamped, _: &mut dyn Write) -> io::Result<()> {
        self.record.event(stamped);
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        if let Some(MeasureImage(measure)) = self.measure.as_ref().filter(|_| self.format != Format::Junit) {
            let snapshots = self.record.steps.iter_mut().filter_map(|step| step.snapshot.as_mut());
            snapshots.take(MAX_MEASURED).for_each(|snapshot| snapshot.content = measure(&snapshot.digest));
        }
        let text = match self.format {
            Format::Html => html::page(&self.record, self.context.as_deref()),
            Format::Junit => junit::document(&self.record, self.context.as_deref()).map_err(io::Error::other)?,
            Format::Json => format!("{}\n", escape::json(&serde_json::to_string_pretty(&self.record)?)),
        };
        self.file.replace(text.as_bytes(), self.permissions)
    }
}
