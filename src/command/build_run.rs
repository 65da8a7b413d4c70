//! A build from its request to its result, in an environment that is closed at the end, also after an early error.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::analysis::Analysis;
use super::command_error::{CommandError, check_error, store_error};
use super::console::print_to_stderr;
use super::environment::BuildEnvironment;
use super::image_content::content;
use super::manifest_file::ManifestFile;
use super::plan_run::{CheckedPlan, PlanRun, Unsaved, result_of, unless_interrupted};
use super::report_outputs::OutputFiles;
use super::{absent_secrets, interactive_shell, lock_file, report_outputs};
use crate::cache::{self, CacheCheckError, CacheChecker};
use crate::error::{Error, Exit, error_chain_with_hint};
use crate::event::{BuildStatus, Events};
use crate::execute::{Context, KeepOpen, Options, SessionPool, Summary};
use crate::lock::{LockedInputs, LockedRootfs, Section};
use crate::model::{Build, Network, StepId};
use crate::named_paths::{NamedPaths, RESOLV_CONF};
use crate::pull::Pins;
use crate::report::{MeasureImage, NextSteps, OutputEnvironment};
use crate::settings::Settings;
use crate::warning::Warning;

/// The request of a build.
#[derive(Debug, Default)]
pub struct BuildRequest {
    /// The steps to build with everything that they need; without any, all steps.
    pub targets: Vec<StepId>,
    /// After a failure, continues with the steps that do not depend on it.
    pub keep_going: bool,
    /// Removes the sessions of steps that failed in the previous build.
    pub forget_failed: bool,
    /// Stores the sessions of steps that fail, for `runner shell`.
    pub keep_failed: bool,
    /// The terminal for a shell in each step that fails.
    pub keyboard: Option<OwnedFd>,
    /// Takes nothing from the store.
    pub no_cache: bool,
    /// The section of the lock that the build must match.
    pub locked: Option<Section>,
    /// Asks the registries again where the tags of images lead.
    pub pulls: bool,
    /// The lock that says where the tags of images lead.
    pub pins: Option<Section>,
    /// Returns the digests of the rootfs sources and the inputs of the snapshots, for a lock.
    pub sources: bool,
    /// The lock file. A collection of the store spares the layers that the file names.
    pub lock_file: Option<PathBuf>,
    /// The directory for the OCI bundles.
    pub bundles: Option<PathBuf>,
    /// The files to write in addition to the display.
    pub files: OutputFiles,
    /// The commands that a failure suggests.
    pub next_steps: Option<NextSteps>,
}

/// The result of a build.
#[derive(Debug)]
pub struct BuildResult {
    /// The end of the run.
    pub summary: Summary,
    /// The digests of the rootfs sources, if they were requested or locked.
    pub sources: Vec<LockedRootfs>,
    /// The inputs of the snapshots, if they were requested and are known.
    pub inputs: BTreeMap<StepId, LockedInputs>,
}

/// Builds, with the display that the settings choose.
///
/// # Errors
/// If the build cannot start, or cannot be closed or shown. A step that fails is no error: see [`result_of`].
pub fn build(
    settings: &Settings,
    manifest: &ManifestFile,
    request: &BuildRequest,
) -> Result<BuildResult, CommandError> {
    let build = &manifest.build;
    let analysis = Analysis::new(build, &request.targets);
    let output = OutputEnvironment::of_stdout();
    let mut outputs = report_outputs::open(&request.files, &output, build, &analysis.plan, request.next_steps.clone())?;
    BuildEnvironment::within(settings, |environment| {
        environment.store_bundles(request.bundles.as_deref(), build)?;
        let paths = environment.open_paths(build, analysis.plan.order(), None)?;
        let pins = Pins { lock: request.pins.as_ref(), pulls: request.pulls, learns: request.sources };
        let images = environment.images(settings, build, &paths, (analysis.plan.order(), None), pins)?;
        let context = Context { locked: request.locked.as_ref(), ..environment.context(build, &paths, &images) };
        // Whether or not this build must match the lock: the lock may have been written on another machine.
        if let Some(lock_file) = &request.lock_file {
            context.store.know_lock_file(lock_file).map_err(store_error)?;
        }
        let checked = CheckedPlan::new(context, &analysis, check_options(build, request));
        absent_secrets::refuse_planned(manifest, &analysis, &checked.checker)
            .map_err(|error| unless_interrupted(context, error))?;
        checked.refuse_other_files()?;
        let sources = sources(&checked.checker, request)
            .map_err(|error| unless_interrupted(context, check_error(error).into()))?;
        refuse_mismatch(request, &sources, &analysis)?;
        let store = context.store.clone();
        // A report without these sizes is still a report.
        let measure = move |digest: &str| content(&store, &digest.parse().ok()?).ok().flatten();
        outputs.measure = Some(MeasureImage::by(measure));
        let run = checked.show(settings.jobs, output.mode(settings.progress), io::stdout(), outputs)?;
        environment.warn(&run.events);
        warn_of_plan(&analysis, &paths, &run.events);
        let (summary, inputs) = run_and_close(context, run, settings, request)?;
        Ok(BuildResult { summary, sources, inputs })
    })
}

fn check_options(build: &Build, request: &BuildRequest) -> cache::Options {
    cache::Options {
        no_cache: request.no_cache,
        log: absolute(request.files.log.iter()).pop(),
        reports: absolute(request.files.reports.iter().map(|(path, _)| path)),
        own_files: request.lock_file.as_ref().map_or_else(Vec::new, |lock| lock_file::written_files(build, lock)),
        ..Default::default()
    }
}

/// Returns the absolute paths of those that have one.
fn absolute<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    paths.filter_map(|path| std::path::absolute(path).ok()).collect()
}

/// Returns the digests of all rootfs sources if a lock needs them: a lock is of all of them, a build only of those that it
/// uses.
fn sources(checker: &CacheChecker<'_>, request: &BuildRequest) -> Result<Vec<LockedRootfs>, CacheCheckError> {
    if request.sources || request.locked.is_some() { checker.sources() } else { Ok(Vec::new()) }
}

/// Refuses a build that differs from its lock already.
///
/// # Errors
/// With [`Exit::Mismatch`] and every difference.
fn refuse_mismatch(request: &BuildRequest, sources: &[LockedRootfs], analysis: &Analysis<'_>) -> Result<(), Error> {
    let Some(lock) = &request.locked else { return Ok(()) };
    let Analysis { build, plan, .. } = analysis;
    let mut differences = lock_file::differences_before_build(lock, sources, build, plan);
    // With targets, only a part of the manifest is planned, and the lock names more than the plan has.
    if request.targets.is_empty() {
        differences.extend(lock_file::unknown_to_manifest(lock, build));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let command = request.next_steps.as_ref().map_or("runner lock", |next_steps| next_steps.lock.as_str());
    Err(lock_file::mismatch(&differences, command))
}

/// Warns of a missing order between containers, and of containers that share the host's network without its resolv.conf.
fn warn_of_plan(analysis: &Analysis<'_>, paths: &NamedPaths, events: &Events) {
    for warning in analysis.order_warnings() {
        events.warn(None, &warning);
    }
    let containers = without_resolv_conf(analysis, paths);
    if !containers.is_empty() {
        events.warn(None, &Warning::NoResolvConf { containers });
    }
}

/// Returns the containers with the host's network, if the host has no resolv.conf.
fn without_resolv_conf(analysis: &Analysis<'_>, paths: &NamedPaths) -> Vec<String> {
    if paths.is_named(Path::new(RESOLV_CONF)) {
        return Vec::new();
    }
    let Analysis { build, plan, .. } = analysis;
    let containers = plan.order().iter().map(|id| build.settings(*id));
    let mut names: Vec<String> = containers
        .filter(|container| container.network == Network::Host)
        .map(|container| container.name.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Runs the plan, closes its display, opens the requested shells in failed steps, and closes the sessions.
fn run_and_close<'c>(
    context: Context<'c>,
    run: PlanRun<'_, 'c>,
    settings: &Settings,
    request: &BuildRequest,
) -> Result<(Summary, BTreeMap<StepId, LockedInputs>), CommandError> {
    let sessions = SessionPool::new(context);
    if request.forget_failed
        && let Err(error) = context.store.forget_failed(&context.build.project)
    {
        run.events.warn(None, &Warning::FailedStays { why: error_chain_with_hint(&error, error.hint()) });
    }
    let keep_open = if request.keyboard.is_some() { KeepOpen::Failed } else { KeepOpen::None };
    let (keep_going, keep_failed) = (request.keep_going, request.keep_failed);
    let summary = run.run(&sessions, Options { keep_going, keep_failed, keep_open, ..Options::of(settings.jobs) });
    let inputs = if request.sources && summary.status == BuildStatus::Done {
        inputs(&run.checker, &summary)
    } else {
        Ok(BTreeMap::new())
    };
    let unsaved = if context.store.is_read_only() { Unsaved::Ignore } else { Unsaved::Warn };
    let shown = run.close(unsaved).map_or(Ok(()), report_outputs::written);
    if let Some(keyboard) = request.keyboard.as_ref().filter(|_| !context.interrupt.is_set()) {
        interactive_shell::open_in_failed_steps(context, &sessions, &summary.failed, keyboard.as_fd());
    }
    sessions.close_all().map_err(|error| Error::new(Exit::Host, error))?;
    match shown {
        // The exit code says how the build ended.
        Err(CommandError::Error(error)) if result_of(&summary).is_err() => print_to_stderr(&error.render()),
        shown => shown?,
    }
    Ok((summary, inputs.map_err(check_error)?))
}

/// Returns the inputs of the snapshots that were built or found in the store.
fn inputs(checker: &CacheChecker<'_>, summary: &Summary) -> Result<BTreeMap<StepId, LockedInputs>, CacheCheckError> {
    let mut all = BTreeMap::new();
    for (step, _) in &summary.layers {
        all.extend(checker.lock_inputs(*step)?.map(|inputs| (*step, inputs)));
    }
    Ok(all)
}
