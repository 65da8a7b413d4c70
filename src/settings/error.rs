//! The errors of the settings, and their text for the user.

use std::io;
use std::path::PathBuf;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

use super::file::KEYS;
use crate::diagnostic::Style;
use crate::error::{Error, Exit};

/// The reason why the settings cannot be resolved.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum SettingsError {
    /// `runner.toml` exists and cannot be read.
    #[error("cannot read the settings {}", path.display())]
    #[diagnostic(help("make it readable, or move it: all settings have defaults"))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// `runner.toml` has mistakes; each problem is a label.
    #[error("cannot take settings from {}", path.display())]
    #[diagnostic(help("the keys are {}", KEYS.map(|key| format!("`{key}`")).join(", ")))]
    File {
        /// The file.
        path: PathBuf,
        /// Its text.
        #[source_code]
        text: NamedSource<String>,
        /// The problems and their places.
        #[label(collection)]
        problems: Vec<LabeledSpan>,
    },
    /// Variables have invalid values.
    #[error("cannot take settings from the environment: {}", problems.join("; "))]
    #[diagnostic(help("unset the variable, or use the flag instead"))]
    Variables {
        /// For each, the variable, its value, and the problem.
        problems: Vec<String>,
    },
    /// There is no default for the store, because the user has no home directory.
    #[error("cannot choose a directory for the store: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    #[diagnostic(help("give one with `--store DIRECTORY` or `RUNNER_STORE`"))]
    NoStore,
    /// The current directory, from which a relative path starts, was removed.
    #[diagnostic(help("change to a directory that exists, or write an absolute path"))]
    #[error("cannot find the current directory, which `{}` starts from", path.display())]
    NoCurrentDirectory {
        /// The relative path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl SettingsError {
    /// Returns the text for the user: for a file with its places and a last line with the count, otherwise like any
    /// error.
    pub fn render(self, style: Style) -> String {
        let mut text = String::new();
        if let Self::File { path, problems, .. } = &self {
            let theme = if style.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
            let handler = GraphicalReportHandler::new_themed(theme).with_width(style.width).with_links(false);
            if handler.render_report(&mut text, &self).is_ok() {
                let count = match problems.len() {
                    1 => "1 problem".to_owned(),
                    n => format!("{n} problems"),
                };
                return format!("{text}\nerror: {}: {count}\n", path.display());
            }
        }
        let hint = self.help().map(|help| help.to_string());
        Error::new(Exit::Usage, self).with_hint(hint).render()
    }
}
