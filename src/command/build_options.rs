//! A build as the options of `runner apply` and `runner test` request it.

use super::build_run::{self, BuildRequest};
use super::command_error::CommandError;
use super::effective_settings::settings;
use super::lock_file::{self, LockFile};
use super::manifest_file::ManifestFile;
use super::plan_run::result_of;
use super::report_outputs::OutputFiles;
use super::{caller_input, next_steps};
use crate::cli::{ApplyArgs, Cli};
use crate::error::Error;
use crate::model::{Build, StepId};
use crate::settings::Partial;

/// Builds the steps that `select` returns, given the names of the command line.
pub fn build_with_options(
    cli: &Cli,
    args: &ApplyArgs,
    select: impl FnOnce(&Build, &[String]) -> Result<Vec<StepId>, Error>,
) -> Result<(), CommandError> {
    let flags = Partial {
        store: cli.store.clone(),
        jobs: args.jobs,
        runtime: args.runtime.runtime.clone(),
        progress: args.progress,
        keep_failed: args.no_keep_failed.then_some(false),
        lock_file: args.lock_file.path.clone(),
        ..Partial::default()
    };
    let settings = settings(flags, &args.manifest.manifest)?;
    let manifest = ManifestFile::load(&args.manifest.manifest, &args.manifest.sets)?;
    let lock_file = LockFile::of(&settings, &manifest.build, &args.manifest)?;
    let locked = match args.locked {
        true => Some(lock_file.read().map_err(lock_file::unreadable)?),
        false => None,
    };
    let targets = select(&manifest.build, &args.targets)?;
    let keyboard = match args.shell_on_failure {
        true => Some(caller_input::keyboard("without a terminal, open a shell after the build: `runner shell STEP`")?),
        false => None,
    };
    let request = BuildRequest {
        targets,
        keep_going: args.keep_going,
        forget_failed: true,
        keep_failed: settings.keep_failed,
        keyboard,
        no_cache: args.no_cache,
        pulls: args.pull,
        pins: lock_file.pins(&manifest.build)?,
        locked,
        sources: false,
        lock_file: Some(lock_file.path),
        bundles: args.runtime.bundle_dir.clone(),
        files: OutputFiles { log: args.log_file.clone(), reports: args.reports.clone() },
        next_steps: Some(next_steps::after_apply(cli, args, &manifest.build)),
    };
    result_of(&build_run::build(&settings, &manifest, &request)?.summary)
}
