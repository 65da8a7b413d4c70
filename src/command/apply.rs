//! `runner apply`: builds.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use super::outline::outline;
use super::site::Site;
use super::{Stop, loaded, settings, tell};
use crate::build::Build;
use crate::cli::{ApplyArgs, Cli, targets};
use crate::error::{Error, Exit};
use crate::event::{BuildStatus, Events};
use crate::execute::{self, Options, Rooms, Summary};
use crate::plan::Plan;
use crate::report::{self, Beside, Shown, Surroundings};
use crate::settings::Partial;

/// Runs the plan of a manifest.
pub fn apply(cli: &Cli, args: &ApplyArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), jobs: args.jobs, progress: args.progress, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    for (path, _) in &args.reports {
        report_folder(path)?;
    }
    let surroundings = Surroundings::of_stdout();
    let outlined = !args.reports.is_empty() || surroundings.ci.is_some();
    let shown = manifest_in_repository(&args.manifest.manifest, &build);
    let beside = Beside {
        log: args.log_file.as_deref().map(log_file).transpose()?,
        reports: args.reports.clone(),
        summary: surroundings.summary.clone(),
        outline: outlined.then(|| Arc::new(outline(&build, &plan, shown))),
    };
    let site = Site::open(&settings)?;
    let (events, receiver) = Events::channel();
    let mode = surroundings.mode(settings.progress);
    let reporter = thread::spawn(move || report::run(receiver, mode, io::stdout(), beside));
    site.warn(&events);
    let context = site.context(&build);
    let rooms = Rooms::new(context);
    let options = Options { jobs: settings.jobs.get(), keep_going: args.keep_going };
    let summary = execute::apply(context, &plan, options, &rooms, &events);
    drop((rooms, events));
    site.close()?;
    let shown = reporter.join();
    // A reporter that panicked has said so.
    match (exit(&summary), shown.map_or(Ok(()), told)) {
        (Ok(()), told) => told,
        // The build's own end is what the exit code tells.
        (ended, Err(Stop::Error(error))) => {
            tell(error.exit(), &error.render());
            ended
        }
        (ended, _) => ended,
    }
}

/// The manifest's path as annotations need it: from the repository's top where a CI system says where that is.
fn manifest_in_repository(path: &Path, build: &Build) -> String {
    let top = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter().find_map(std::env::var_os);
    let inside = top.as_ref().and_then(|top| build.manifest.strip_prefix(top).ok());
    inside.unwrap_or(path).display().to_string()
}

/// The file for the events. Opened before anything runs, so that a path that cannot be is told at once.
fn log_file(path: &Path) -> Result<(PathBuf, File), Stop> {
    let failed = |error| Error::new(Exit::Usage, format!("cannot write {}: {error}", path.display()));
    Ok((path.to_owned(), File::create(path).map_err(failed)?))
}

/// Refuses a report for which there is no folder, before anything runs.
fn report_folder(path: &Path) -> Result<(), Stop> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let problem = match folder.metadata() {
        Ok(metadata) if !metadata.is_dir() => format!("{} is no folder", folder.display()),
        Ok(_) if path.is_dir() => "it is a folder".to_owned(),
        Ok(_) => return Ok(()),
        Err(error) => format!("{}: {error}", folder.display()),
    };
    Err(Error::new(Exit::Usage, format!("cannot write the report {}: {problem}", path.display())).into())
}

/// Whether all was told; a reader that has read enough is no error.
fn told(shown: Shown) -> Result<(), Stop> {
    let failed = |what: String, error: io::Error| Err(Error::new(Exit::Host, format!("write {what}: {error}")).into());
    if let Some((path, error)) = shown.beside.into_iter().next() {
        return failed(path.display().to_string(), error);
    }
    match shown.display {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed("to standard output".to_owned(), error),
        _ => Ok(()),
    }
}

/// What the end of a run ends the program with.
pub fn exit(summary: &Summary) -> Result<(), Stop> {
    match summary.status {
        BuildStatus::Done => Ok(()),
        BuildStatus::Interrupted => Err(Exit::Interrupted.into()),
        BuildStatus::Failed if summary.step_failed => Err(Exit::StepFailed.into()),
        BuildStatus::Failed => Err(Exit::Host.into()),
    }
}
