//! The manifest of a command: read from its file, checked, and with the time that `SOURCE_DATE_EPOCH` sets.

use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::console::style;
use crate::cli::SetArgs;
use crate::error::{Error, Exit};
use crate::host::ThisHost;
use crate::load::{LoadError, Loaded, load};
use crate::model::Build;

/// A checked manifest, with the text that the places of later problems refer to.
pub struct ManifestFile {
    /// The path as the user wrote it.
    pub path: PathBuf,
    /// The text of the file.
    pub text: String,
    /// The checked build.
    pub build: Build,
}

impl ManifestFile {
    /// Reads and checks the manifest with the variables that the command line sets.
    pub fn load(path: &Path, sets: &SetArgs) -> Result<Self, CommandError> {
        let path = existing(path)?;
        let Loaded { mut build, text } = load(path, &sets.to_map(), &ThisHost).map_err(|error| match error {
            LoadError::Read { .. } => Error::new(Exit::Usage, error.to_string()).with_hint(error.hint()).into(),
            LoadError::Refused { .. } => CommandError::Report(Exit::Usage, error.render(style())),
        })?;
        if let Some(seconds) = source_date_epoch()? {
            build.source_date_epoch = Some(seconds);
        }
        Ok(Self { path: path.to_owned(), text, build })
    }
}

/// Returns the path if something other than a directory is there.
fn existing(path: &Path) -> Result<&Path, Error> {
    let problem = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => "it is a directory".to_owned(),
        Ok(_) => return Ok(path),
        Err(error) => error.to_string(),
    };
    let hint = match path.join("build.yaml") {
        inside if inside.is_file() => format!("name the file in it: {}", inside.display()),
        _ => "name the manifest, as in `runner apply path/to/build.yaml`".to_owned(),
    };
    let message = format!("cannot read the manifest {}: {problem}", path.display());
    Err(Error::new(Exit::Usage, message).with_hint(Some(hint)))
}

/// Returns `SOURCE_DATE_EPOCH` of the environment, which overrides the manifest, as the specification of
/// reproducible-builds.org demands.
fn source_date_epoch() -> Result<Option<u64>, Error> {
    let name = "SOURCE_DATE_EPOCH";
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let seconds = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = seconds.and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or_else(|| {
        let message = format!("the variable {name} is `{}`, which is not a number of seconds", value.display());
        Error::new(Exit::Usage, message)
            .with_hint(Some(format!("unset {name}, or set it to a number of seconds since 1970")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_manifest_is_reported_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("build.yaml");
        let error = existing(&path).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        let message = format!("cannot read the manifest {}: No such file or directory (os error 2)", path.display());
        assert_eq!(error.to_string(), message);
        std::fs::write(&path, "").unwrap();
        assert_eq!(existing(&path).unwrap(), path);
    }

    #[test]
    fn for_a_directory_the_hint_names_the_manifest_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("build.yaml");
        std::fs::write(&path, "").unwrap();
        let hint = format!("name the file in it: {}", path.display());
        assert_eq!(existing(directory.path()).unwrap_err().hint(), Some(hint.as_str()));
    }
}
