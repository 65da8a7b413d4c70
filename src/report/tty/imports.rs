//! The sources of roots that arrive while a build is shown.

use std::time::SystemTime;

use super::super::imports;
use super::super::sanitize::sanitize;
use crate::event::{Event, ImportMethod, Stamped};

/// The imports that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Imports(Vec<Import>);

/// A source that arrives.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) container: String,
    pub(super) started_at: SystemTime,
    source: String,
    /// Its progress, as a long and as a short text.
    text: [String; 2],
    method: ImportMethod,
}

impl Imports {
    /// Takes an event, and returns the line to put above the running steps, if any.
    pub(super) fn event(&mut self, Stamped { time, event, .. }: &Stamped) -> Option<String> {
        match event {
            Event::ImportStarted { container, source, method, .. } => {
                // The row says so while the import lasts, and the last line afterwards.
                let begins = imports::line(event).unwrap_or_default();
                self.0.push(Import {
                    container: container.clone(),
                    started_at: *time,
                    source: source.clone(),
                    text: [sanitize(&begins).into_owned(), String::new()],
                    method: *method,
                });
                None
            }
            Event::ImportProgress { source, stage, bytes, total, .. } => {
                let import = self.0.iter_mut().find(|import| import.source == *source)?;
                let text = imports::progress(source, import.method, *stage, *bytes, *total);
                import.text = text.map(|text| sanitize(&text).into_owned());
                None
            }
            Event::ImportFinished { source, .. } => {
                self.0.retain(|import| import.source != *source);
                Some(sanitize(&imports::line(event)?).into_owned())
            }
            Event::RequestWaits { .. } => Some(sanitize(&imports::line(event)?).into_owned()),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Import> {
        self.0.iter()
    }
}

impl Import {
    pub(super) fn text(&self) -> [&str; 2] {
        [&self.text[0], &self.text[1]]
    }
}
