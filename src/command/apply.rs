//! `runner apply`: builds.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::absent_secrets::Source;
use super::lock::{self, Place};
use super::run::keyboard;
use super::show::{self, Files};
use super::site::{LongReads, Site, of_store};
use super::{Stop, absent_secrets, in_background, loaded_with_text, next_steps, settings, shell, tell};
use crate::build::{Action, Build, Network, StepId};
use crate::cli::{ApplyArgs, Cli, targets};
use crate::error::{Error, Exit, told_with_hint};
use crate::event::{BuildStatus, Events};
use crate::execute::{self, Context, Options, Rooms, Stay, Summary};
use crate::freshness::{self, Judge, JudgeError};
use crate::load::Loaded;
use crate::lock::{Difference, Inputs, LockedRootfs, Section};
use crate::named_paths::{NamedPaths, RESOLV_CONF, unordered_binds};
use crate::plan::{Plan, Segments};
use crate::report::{self, NextSteps, OutputEnvironment};
use crate::settings::{Partial, Settings};
use crate::warning::Warning;

/// What is wished of a build.
#[derive(Debug, Default)]
pub struct Wish {
    /// These steps and what they need; without any, all.
    pub targets: Vec<StepId>,
    /// After a failure, go on with what does not depend on it.
    pub keep_going: bool,
    /// Remove the sessions of steps that failed in the build before.
    pub forget_failed: bool,
    /// Keep the sessions of steps that fail, for a shell.
    pub keep_failed: bool,
    /// The terminal for a shell in each step that fails.
    pub keyboard: Option<OwnedFd>,
    /// Take nothing from the store.
    pub no_cache: bool,
    /// Hold it to this.
    pub locked: Option<Section>,
    /// Tell what the rootfs sources hold and what the snapshots are made from, also where there is nothing to hold them to.
    pub sources: bool,
    /// The lock file, whose layers the store keeps.
    pub lock_file: Option<PathBuf>,
    /// Keep the OCI bundles there.
    pub bundles: Option<PathBuf>,
    /// Written beside the display.
    pub files: Files,
    /// The commands to go on with after a failure.
    pub next_steps: Option<NextSteps>,
}

/// What came of it.
#[derive(Debug)]
pub struct Built {
    /// How it ended.
    pub summary: Summary,
    /// What the rootfs sources held, where that was asked for.
    pub sources: Vec<LockedRootfs>,
    /// The inputs of the snapshots, where they were asked for and can be known.
    pub inputs: BTreeMap<StepId, Inputs>,
}

/// Runs the plan of a manifest.
pub fn apply(cli: &Cli, args: &ApplyArgs) -> Result<(), Stop> {
    let flags = Partial {
        store: cli.store.clone(),
        jobs: args.jobs,
        runtime: args.runtime.runtime.clone(),
        progress: args.progress,
        keep_failed: args.no_keep_failed.then_some(false),
        lock_file: args.lock_file.path.clone(),
    };
    let settings = settings(flags, &args.manifest.manifest)?;
    let Loaded { build, text } = loaded_with_text(&args.manifest.manifest, &args.manifest.sets)?;
    let source = Source { path: &args.manifest.manifest, text: &text };
    let place = Place::of(&settings, &build, &args.manifest)?;
    let locked = match args.locked {
        true => Some(place.read().map_err(lock::unreadable)?),
        false => None,
    };
    let targets = targets(&build, &args.targets)?;
    let bundles = args.runtime.bundle_dir.clone();
    let files = Files { log: args.log_file.clone(), reports: args.reports.clone() };
    let (keep_going, no_cache) = (args.keep_going, args.no_cache);
    let next_steps = Some(next_steps::after_apply(cli, args, &build));
    let keyboard = match args.shell_on_failure {
        true => Some(keyboard("without one, `runner shell STEP` opens a shell afterwards")?),
        false => None,
    };
    let wish = Wish {
        targets,
        keep_going,
        forget_failed: true,
        keep_failed: settings.keep_failed,
        keyboard,
        no_cache,
        locked,
        sources: false,
        lock_file: Some(place.path),
        bundles,
        files,
        next_steps,
    };
    exit(&build_all(&settings, source, &build, &wish)?.summary)
}

/// Builds, shown as the settings say.
pub fn build_all(settings: &Settings, source: Source<'_>, build: &Build, wish: &Wish) -> Result<Built, Stop> {
    let plan = Plan::new(build, &wish.targets);
    let surroundings = OutputEnvironment::of_stdout();
    let beside = show::beside(&wish.files, &surroundings, build, &plan, wish.next_steps.clone())?;
    let mut site = Site::open(settings)?;
    let segments = Segments::new(build, &plan);
    let opened = site.keep_bundles(wish.bundles.as_deref(), build);
    let opened = opened.and_then(|()| site.open_paths(build, plan.order(), None));
    let paths = match opened {
        Ok(paths) => paths,
        Err(error) => {
            site.close()?;
            return Err(error.into());
        }
    };
    let context = Context { locked: wish.locked.as_ref(), ..site.context(build, &paths) };
    // What a lock names is kept, whether this build is held to it or not: it may have been written on another machine.
    if let Some(lock_file) = wish.lock_file.as_ref()
        && let Err(error) = context.store.know_lock_file(lock_file)
    {
        site.close()?;
        return Err(of_store(error).into());
    }
    let runtime = context.workspace.runtime().clone();
    let stop = context.interrupt.flag();
    let long_reads = LongReads::default();
    let options = freshness::Options {
        no_cache: wish.no_cache,
        layers_only: false,
        stop,
        runtime,
        long_read: long_reads.reporter(),
        log: absolute(wish.files.log.iter()).pop(),
        reports: absolute(wish.files.reports.iter().map(|(path, _)| path)),
        own_files: wish.lock_file.as_ref().map_or_else(Vec::new, |lock| lock::own_files(build, lock)),
        unreadable: None,
        opened: Arc::clone(paths.opened()),
    };
    let judge = Judge::new(build, &segments, Some(context.store), options);
    if let Err(stop) = absent_secrets::refuse_planned(source, build, &plan, &judge) {
        let interrupted = context.interrupt.is_set();
        site.close()?;
        return Err(if interrupted { Exit::Interrupted.into() } else { stop });
    }
    // A build looks at what it needs; a lock is of all of them.
    let wanted = wish.sources || wish.locked.is_some();
    let sources = match if wanted { judge.sources() } else { Ok(Vec::new()) } {
        Ok(sources) => sources,
        Err(error) => {
            let interrupted = context.interrupt.is_set();
            site.close()?;
            if interrupted {
                return Err(Exit::Interrupted.into());
            }
            return Err(lock::failed(error));
        }
    };
    if let Some(lock) = &wish.locked {
        let mut differences = differences(lock, &sources, build, &plan);
        // With targets, it is another part of the manifest that the lock names more of.
        if wish.targets.is_empty() {
            differences.extend(lock::left_over(lock, build));
        }
        if !differences.is_empty() {
            site.close()?;
            let command = wish.next_steps.as_ref().map_or("runner lock", |next_steps| next_steps.lock.as_str());
            return Err(lock::mismatch(&differences, command).into());
        }
    }
    let (events, receiver) = Events::channel();
    let events = events.masking(context.workspace.secrets());
    long_reads.are_events(&events);
    let mode = surroundings.mode(settings.progress);
    let reporter = in_background(move || report::run(receiver, mode, io::stdout(), beside))?;
    site.warn(&events);
    for warning in Warning::of_unordered(build, &unordered_binds(build, &plan)) {
        events.warn(None, &warning);
    }
    let containers = without_resolv_conf(build, &plan, &paths);
    if !containers.is_empty() {
        events.warn(None, &Warning::NoResolvConf { containers });
    }
    let rooms = Rooms::new(context);
    if wish.forget_failed
        && let Err(error) = context.store.forget_failed(&build.project)
    {
        events.warn(None, &Warning::FailedStays { why: told_with_hint(&error, error.hint()) });
    }
    let stay = if wish.keyboard.is_some() { Stay::Failed } else { Stay::None };
    let (keep_going, keep_failed) = (wish.keep_going, wish.keep_failed);
    let options = Options { keep_going, keep_failed, stay, ..Options::of(settings.jobs) };
    let summary = execute::apply(context, &plan, &judge, options, &rooms, &events);
    let inputs = if wish.sources && summary.status == BuildStatus::Done {
        inputs(&judge, &summary)
    } else {
        Ok(BTreeMap::new())
    };
    if let Err(error) = judge.close()
        && !context.store.is_read_only()
    {
        events.warn(None, &Warning::NotLearnt { why: told_with_hint(&error, error.hint()) });
    }
    drop(events);
    // A reporter that panicked has said so.
    let shown = reporter.join().map_or(Ok(()), show::told);
    if let Some(keyboard) = wish.keyboard.as_ref().filter(|_| !context.interrupt.is_set()) {
        shell::in_failed(context, &rooms, &summary.failed, keyboard.as_fd());
    }
    let closed = rooms.close_all();
    drop(rooms);
    site.close()?;
    closed.map_err(|error| Error::new(Exit::Host, error))?;
    match shown {
        // How the build itself ended is what the exit code tells.
        Err(Stop::Error(error)) if exit(&summary).is_err() => {
            tell(error.exit(), &error.render());
        }
        told => told?,
    }
    let inputs = inputs.map_err(lock::failed)?;
    Ok(Built { summary, sources, inputs })
}

/// Returns the inputs of the snapshots that were built or found.
fn inputs(judge: &Judge<'_>, summary: &Summary) -> Result<BTreeMap<StepId, Inputs>, JudgeError> {
    let mut all = BTreeMap::new();
    for (step, _) in &summary.layers {
        all.extend(judge.lock_inputs(*step)?.map(|inputs| (*step, inputs)));
    }
    Ok(all)
}

/// Paths from the root on; without those that are none.
fn absolute<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    paths.filter_map(|path| std::path::absolute(path).ok()).collect()
}

/// The containers with the host's network, where the host has no resolv.conf.
fn without_resolv_conf(build: &Build, plan: &Plan, paths: &NamedPaths) -> Vec<String> {
    if paths.is_named(Path::new(RESOLV_CONF)) {
        return Vec::new();
    }
    let containers = plan.order().iter().map(|id| build.container(build.step(*id).container));
    let mut names: Vec<String> = containers
        .filter(|container| container.network == Network::Host)
        .map(|container| container.name.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// What can be told to differ from a lock before anything is built.
fn differences(lock: &Section, sources: &[LockedRootfs], build: &Build, plan: &Plan) -> Vec<Difference> {
    let mut differences = lock.rootfs_differences(sources);
    for step in plan.order().iter().map(|id| build.step(*id)) {
        if matches!(step.action, Action::Snapshot(_)) && lock.digest_of(&step.name).is_none() {
            differences.push(Difference::NotLocked { what: format!("snapshot {}", step.name) });
        }
    }
    differences
}

/// What the end of a run ends the program with.
pub fn exit(summary: &Summary) -> Result<(), Stop> {
    match summary.status {
        _ if summary.panicked => Err(Exit::Internal.into()),
        BuildStatus::Done => Ok(()),
        BuildStatus::Interrupted => Err(Exit::Interrupted.into()),
        BuildStatus::Failed if summary.mismatched => Err(Exit::Mismatch.into()),
        BuildStatus::Failed if summary.step_failed => Err(Exit::StepFailed.into()),
        BuildStatus::Failed if summary.wrong_input => Err(Exit::Usage.into()),
        BuildStatus::Failed => Err(Exit::Host.into()),
    }
}
