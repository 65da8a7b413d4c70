//! Why the settings are not clear, and how that is told.

use std::io;
use std::path::PathBuf;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

use super::file::KEYS;
use crate::diagnostic::Style;
use crate::error::{Error, Exit};

/// Why the settings are not clear.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum SettingsError {
    /// `runner.toml` is there and cannot be read.
    #[error("cannot read the settings {}", path.display())]
    #[diagnostic(help("make it readable, or move it away: there are defaults for all settings"))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `runner.toml` has something wrong in it; every problem is a label.
    #[error("cannot take settings from {}", path.display())]
    #[diagnostic(help("the keys are {}", KEYS.map(|key| format!("`{key}`")).join(", ")))]
    File {
        /// The file.
        path: PathBuf,
        /// Its text.
        #[source_code]
        text: NamedSource<String>,
        /// What is wrong, and where.
        #[label(collection)]
        problems: Vec<LabeledSpan>,
    },
    /// Variables have values that cannot be.
    #[error("cannot take settings from the environment: {}", problems.join("; "))]
    #[diagnostic(help("unset the variable, or give the setting by its flag"))]
    Variables {
        /// For each, the variable, its value, and what is wrong with it.
        problems: Vec<String>,
    },
    /// There is no default for the store, for the user has no home.
    #[error("cannot choose a folder for the store: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    #[diagnostic(help("give one with `--store FOLDER` or `RUNNER_STORE`"))]
    NoStore,
    /// The current folder, which a relative path starts from, is gone.
    #[diagnostic(help("go to a folder that is there, or give an absolute path"))]
    #[error("cannot find the current folder, which `{}` starts from", path.display())]
    NoCurrentFolder {
        /// The relative path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SettingsError {
    /// The text for the user: of a file with its places and a last line that counts them, else as of any error.
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
