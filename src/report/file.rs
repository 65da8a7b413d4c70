//! Reports of a whole build, written when it is over: HTML, JUnit XML or JSON, as the file's name says.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::escape;
use crate::event::Stamped;
use crate::fs::atomic;
use crate::fs::dirfd::Dir;

use super::record::Record;
use super::{Outline, Reporter, html, junit};

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page for people.
    Html,
    /// JUnit's XML, which CI systems show.
    Junit,
    /// For programs.
    Json,
}

impl Format {
    /// By the path's extension.
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "html" | "htm" => Some(Self::Html),
            "xml" => Some(Self::Junit),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Gathers what happens, and writes it down at the end.
#[derive(Debug)]
pub(super) struct FileReport {
    path: PathBuf,
    format: Format,
    outline: Option<Arc<Outline>>,
    mode: u32,
    record: Record,
}

impl FileReport {
    /// Less the umask, the file has that mode.
    pub(super) fn new(path: PathBuf, format: Format, outline: Option<Arc<Outline>>, mode: u32) -> Self {
        Self { path, format, outline, mode, record: Record::default() }
    }
}

impl Reporter for FileReport {
    fn event(&mut self, stamped: &Stamped, _: &mut dyn Write) -> io::Result<()> {
        self.record.event(stamped);
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        let text = match self.format {
            Format::Html => html::page(&self.record, self.outline.as_deref()),
            Format::Junit => junit::document(&self.record, self.outline.as_deref()).map_err(io::Error::other)?,
            Format::Json => format!("{}\n", escape::json(&serde_json::to_string_pretty(&self.record)?)),
        };
        write_whole(&self.path, text.as_bytes(), self.mode)
    }
}

/// The mode of any new file, before the umask.
const NEW: u32 = 0o666;

/// Written whole or not at all; what was there stays until then.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let permissions = if mode == NEW { atomic::Permissions::New } else { atomic::Permissions::Exactly(mode) };
    atomic::replace(Dir::open(folder)?, name, bytes, permissions)
}
