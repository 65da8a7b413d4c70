//! How a build is shown, and what is written beside that.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Stop;
use super::outline::outline;
use crate::build::{Build, MountKind};
use crate::error::{Error, Exit};
use crate::fs::named_file::NamedFile;
use crate::named_paths::WritableBinds;
use crate::plan::Plan;
use crate::report::{Format, NextSteps, OutputEnvironment, ReportOutputs, Shown};

/// What is to be written beside the display.
#[derive(Debug, Default)]
pub struct Files {
    /// The events.
    pub log: Option<PathBuf>,
    /// Reports.
    pub reports: Vec<(PathBuf, Format)>,
}

/// What is written beside the display of a build. Files are opened, or looked at, before anything runs, so that a path
/// that cannot be is told at once.
///
/// # Errors
/// With [`Exit::Usage`], where one cannot be written.
pub fn beside(
    files: &Files,
    surroundings: &OutputEnvironment,
    build: &Build,
    plan: &Plan,
    next_steps: Option<NextSteps>,
) -> Result<ReportOutputs, Error> {
    let all = files.reports.iter().map(|(path, _)| ("write the report", path.as_path()));
    let all = all.chain(files.log.as_deref().map(|path| ("write the log file", path)));
    let all = all.chain(surroundings.summary.as_deref().map(|path| ("write the summary", path)));
    let writable = WritableBinds::of(build);
    all.into_iter().try_for_each(|(what, path)| not_planted(&writable, what, path))?;
    let report = |(path, format): &(PathBuf, Format)| match NamedFile::find(path).and_then(NamedFile::open_stream) {
        Ok(file) => Ok((file, *format)),
        Err(error) => Err(not_written("report", path, &error)),
    };
    let reports = files.reports.iter().map(report).collect::<Result<Vec<_>, Error>>()?;
    let private = has_secrets(build);
    let log = files.log.as_deref().map(log_file).transpose()?;
    if let Some((path, file)) = log.as_ref().filter(|_| private) {
        make_private(path, file)?;
    }
    let is_outlined = !files.reports.is_empty() || surroundings.ci.is_some();
    Ok(ReportOutputs {
        log,
        reports,
        summary: surroundings.summary.as_deref().map(summary).transpose()?,
        context: is_outlined.then(|| Arc::new(outline(build, plan, manifest(build)))),
        next_steps,
        private,
    })
}

fn has_secrets(build: &Build) -> bool {
    let mut mounts = build.containers.iter().flat_map(|container| &container.mounts);
    mounts.any(|mount| matches!(mount.kind, MountKind::Secret(_)))
}

/// Secrets are masked in it, but a step may have printed one in a way that nobody looks for.
fn make_private(path: &Path, file: &File) -> Result<(), Error> {
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let made = if is_file { file.set_permissions(Permissions::from_mode(0o600)) } else { Ok(()) };
    made.map_err(|error| {
        Error::new(Exit::Usage, format!("cannot make the log file {} private: {error}", path.display()))
    })
}

/// The manifest's path as annotations need it: from the repository's top where a CI system says where that is, else from
/// the current folder.
fn manifest(build: &Build) -> String {
    let top = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().find_map(std::env::var_os).map(PathBuf::from);
    let folders = top.into_iter().chain(std::env::current_dir());
    let inside = folders.filter_map(|folder| build.manifest.strip_prefix(folder).ok().map(Path::to_owned)).next();
    inside.as_deref().unwrap_or(&build.manifest).display().to_string()
}

fn log_file(path: &Path) -> Result<(PathBuf, File), Error> {
    let opened = NamedFile::find(path).and_then(|file| file.create());
    Ok((path.to_owned(), opened.map_err(|error| not_written("log file", path, &error))?))
}

fn summary(path: &Path) -> Result<NamedFile, Error> {
    NamedFile::find(path).map_err(|error| not_written("summary", path, &error))
}

/// Refuses the path of a file that a link of an earlier step leads elsewhere.
///
/// # Errors
/// With [`Exit::Usage`], that runner cannot do `what`.
pub(super) fn not_planted(writable: &WritableBinds, what: &str, path: &Path) -> Result<(), Error> {
    // A link in the file's own place is refused whoever left it.
    let Some(planted) = writable.planted(folder_of(path)) else { return Ok(()) };
    let error = format!("cannot {what} {}: {planted}", path.display());
    Err(Error::new(Exit::Usage, error).with_hint(Some(planted.hint())))
}

fn not_written(what: &str, path: &Path, error: &io::Error) -> Error {
    let (why, hint) = why(folder_of(path), error);
    Error::new(Exit::Usage, format!("cannot write the {what} {}: {why}", path.display())).with_hint(hint)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Why a file cannot be written in a folder, and what mends it.
fn why(folder: &Path, error: &io::Error) -> (String, Option<String>) {
    if error.kind() == io::ErrorKind::NotADirectory {
        return (format!("{} is no folder", folder.display()), None);
    } else if error.kind() != io::ErrorKind::NotFound {
        return (error.to_string(), None);
    }
    let folder = folder.display();
    (format!("there is no folder {folder}"), Some(format!("make it with `mkdir -p {folder}`")))
}

/// Whether all was told; a reader that has read enough is no error.
///
/// # Errors
/// With [`Exit::Host`], where something was not.
pub fn told(shown: Shown) -> Result<(), Stop> {
    let failed =
        |what: String, error: io::Error| Err(Error::new(Exit::Host, format!("cannot write {what}: {error}")).into());
    if let Some((path, error)) = shown.outputs.into_iter().next() {
        return failed(path.display().to_string(), error);
    }
    match shown.display {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed("to standard output".to_owned(), error),
        _ => Ok(()),
    }
}
