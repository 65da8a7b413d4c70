//! A manifest file → a checked build, or all its problems: the entry of every command.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::diagnostic::{Problem, Style, render};
use crate::fs::regular;
use crate::manifest;
use crate::model::{self, Build, Host};

/// The reason why a manifest gave no build.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the manifest {}: {source}", path.display())]
    Read {
        /// The path as the user gave it.
        path: PathBuf,
        /// The error of reading.
        source: io::Error,
    },
    /// The file was read, and has mistakes.
    #[error("{}: {} problem{}", path.display(), problems.len(), if problems.len() == 1 { "" } else { "s" })]
    Refused {
        /// The path as the user gave it.
        path: PathBuf,
        /// The text that the problems' places refer to.
        text: String,
        /// The problems, at least one.
        problems: Vec<Problem>,
    },
}

impl LoadError {
    /// Returns the fix, where it is not in the problems themselves.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("name the manifest, as in `runner apply path/to/build.yaml`".to_owned())
            }
            Self::Read { source, path } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(format!("make it readable with `chmod +r {}`", path.display()))
            }
            Self::Read { .. } | Self::Refused { .. } => None,
        }
    }

    /// Returns the report for the user, with a line end.
    pub fn render(&self, style: Style) -> String {
        match self {
            Self::Read { .. } => {
                let hint = self.hint().map_or_else(String::new, |hint| format!("  help: {hint}\n"));
                format!("error: {self}\n{hint}")
            }
            Self::Refused { path, text, problems } => render(problems, &path.display().to_string(), text, style),
        }
    }
}

/// A correct manifest.
#[derive(Debug)]
pub struct Loaded {
    /// The build of it.
    pub build: Build,
    /// Its text, which places of problems refer to.
    pub text: String,
}

/// Reads and checks the manifest at `path`; `sets` overrides its variables.
///
/// # Errors
/// The file cannot be read, or every problem of it.
pub fn load(path: &Path, sets: &BTreeMap<String, String>, host: &dyn Host) -> Result<Loaded, LoadError> {
    let read_error = |source| LoadError::Read { path: path.to_owned(), source };
    let refused = |text, problems| LoadError::Refused { path: path.to_owned(), text, problems };
    let absolute = std::path::absolute(path).map_err(read_error)?;
    let bytes = read(path).map_err(read_error)?;
    if bytes.len() > manifest::MAX_BYTES {
        return Err(refused(String::new(), vec![manifest::too_large()]));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let problem = Problem::new(at..at + 1, "the manifest is not UTF-8").label("this byte is no text");
            return Err(refused(text, vec![problem.help("save it as UTF-8")]));
        }
    };
    // A byte order mark is no part of the text: it would shift every place.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    match check(&text, &absolute, sets, host) {
        Ok(build) => Ok(Loaded { build, text }),
        Err(problems) => Err(refused(text, problems)),
    }
}

/// Reads and checks a manifest's text; `path` is its absolute path.
///
/// # Errors
/// Every problem.
pub fn check(text: &str, path: &Path, sets: &BTreeMap<String, String>, host: &dyn Host) -> Result<Build, Vec<Problem>> {
    match manifest::parse(text, sets) {
        Ok(manifest) => model::validate(&manifest, path, host),
        Err(manifest::Broken { mut problems, rest }) => {
            if let Some(rest) = rest {
                let (manifest, gaps) = *rest;
                problems.extend(model::problems(&manifest, path, host, &gaps));
            }
            Err(problems)
        }
    }
}

/// Reads at most one byte more than a manifest may have: enough to see that it is too large.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    regular::open_or_pipe(path)?.take(manifest::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
