//! The files that a build's reporters write in addition to the display: the log of events, reports, and a CI job's summary.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::command_error::CommandError;
use super::planted_links::{self, directory_of};
use super::report_context::report_context;
use crate::error::{Error, Exit};
use crate::fs::named_file::NamedFile;
use crate::model::{Build, MountKind};
use crate::named_paths::WritableBinds;
use crate::plan::Plan;
use crate::report::{Format, NextSteps, OutputEnvironment, ReportOutputs, Shown};

/// The files that the command line names.
#[derive(Debug, Default)]
pub struct OutputFiles {
    /// The file of the events.
    pub log: Option<PathBuf>,
    /// The reports.
    pub reports: Vec<(PathBuf, Format)>,
}

/// Opens the files, or checks that they can be written, before anything runs: so a wrong path is reported at once.
///
/// # Errors
/// With [`Exit::Usage`], if one cannot be written.
pub fn open(
    files: &OutputFiles,
    environment: &OutputEnvironment,
    build: &Build,
    plan: &Plan,
    next_steps: Option<NextSteps>,
) -> Result<ReportOutputs, Error> {
    let all = files.reports.iter().map(|(path, _)| ("write the report", path.as_path()));
    let all = all.chain(files.log.as_deref().map(|path| ("write the log file", path)));
    let all = all.chain(environment.summary.as_deref().map(|path| ("write the summary", path)));
    let writable = WritableBinds::of(build);
    all.into_iter().try_for_each(|(action, path)| planted_links::refuse(&writable, action, path))?;
    let report = |(path, format): &(PathBuf, Format)| match NamedFile::find(path).and_then(NamedFile::open_stream) {
        Ok(file) => Ok((file, *format)),
        Err(error) => Err(unwritable("report", path, &error)),
    };
    let reports = files.reports.iter().map(report).collect::<Result<Vec<_>, Error>>()?;
    let private = has_secrets(build);
    let log = files.log.as_deref().map(log_file).transpose()?;
    if let Some((path, file)) = log.as_ref().filter(|_| private) {
        make_private(path, file)?;
    }
    let needs_context = !files.reports.is_empty() || environment.ci.is_some();
    Ok(ReportOutputs {
        log,
        reports,
        summary: environment.summary.as_deref().map(summary).transpose()?,
        context: needs_context.then(|| Arc::new(report_context(build, plan, shown_manifest(build)))),
        next_steps,
        private,
        measure: None,
    })
}

fn has_secrets(build: &Build) -> bool {
    let mut mounts = build.containers.iter().flat_map(|container| &container.mounts);
    mounts.any(|mount| matches!(mount.kind, MountKind::Secret(_)))
}

/// Makes the log file readable by its owner alone: secrets are masked in it, but a step may print one in an encoding that
/// is not masked.
fn make_private(path: &Path, file: &File) -> Result<(), Error> {
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let made = if is_file { file.set_permissions(Permissions::from_mode(0o600)) } else { Ok(()) };
    made.map_err(|error| {
        Error::new(Exit::Usage, format!("cannot make the log file {} private: {error}", path.display()))
    })
}

/// Returns the manifest's path as annotations of a CI system need it: relative to the top of the repository if the CI
/// system says where that is, else to the current directory.
fn shown_manifest(build: &Build) -> String {
    let top = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().find_map(std::env::var_os).map(PathBuf::from);
    let directories = top.into_iter().chain(std::env::current_dir());
    let mut relative =
        directories.filter_map(|directory| build.manifest.strip_prefix(directory).ok().map(Path::to_owned));
    relative.next().as_deref().unwrap_or(&build.manifest).display().to_string()
}

fn log_file(path: &Path) -> Result<(PathBuf, File), Error> {
    let opened = NamedFile::find(path).and_then(|file| file.create());
    Ok((path.to_owned(), opened.map_err(|error| unwritable("log file", path, &error))?))
}

fn summary(path: &Path) -> Result<NamedFile, Error> {
    NamedFile::find(path).map_err(|error| unwritable("summary", path, &error))
}

fn unwritable(kind: &str, path: &Path, error: &io::Error) -> Error {
    let (why, hint) = reason_and_hint(directory_of(path), error);
    Error::new(Exit::Usage, format!("cannot write the {kind} {}: {why}", path.display())).with_hint(hint)
}

fn reason_and_hint(directory: &Path, error: &io::Error) -> (String, Option<String>) {
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::NotADirectory => (format!("{directory} is not a directory"), None),
        io::ErrorKind::NotFound => (
            format!("the directory {directory} does not exist"),
            Some(format!("create it with `mkdir -p {directory}`")),
        ),
        _ => (error.to_string(), None),
    }
}

/// Returns the first error of the reporters. A reader that closes standard output early is no error.
///
/// # Errors
/// With [`Exit::Host`], if the display or a file could not be written.
pub fn written(shown: Shown) -> Result<(), CommandError> {
    let failed = |output: String, error: io::Error| {
        Err(Error::new(Exit::Host, format!("cannot write {output}: {error}")).into())
    };
    if let Some((path, error)) = shown.outputs.into_iter().next() {
        return failed(path.display().to_string(), error);
    }
    match shown.display {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed("to standard output".to_owned(), error),
        _ => Ok(()),
    }
}
