//! `runner verify`: builds afresh in an empty store, and compares what comes out with the lock or with the store.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::absent_secrets::Source;
use super::apply::exit;
use super::lock::{self, Place, failed};
use super::show::{self, Files};
use super::site::{LongReads, Site, of_store, runtime};
use super::store::told;
use super::{Stop, absent_secrets, in_background, loaded_with_text, print_beside, settings};
use crate::build::{Action, Build, ContainerId, StepId};
use crate::cli::{Cli, VerifyArgs, targets};
use crate::diagnostic::escaped;
use crate::difference::between_images;
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::execute::{self, Context, Options, Rooms, Summary};
use crate::freshness::{self, Judge, Verdict, forecast};
use crate::load::Loaded;
use crate::lock::{LockError, Section};
use crate::plan::{Plan, Segments};
use crate::report::{self, OutputEnvironment};
use crate::settings::{Partial, Settings};
use crate::store::Store;

/// As many files of one snapshot are told.
const MOST_TOLD: usize = 100;

/// Builds what is asked for again, and tells each snapshot that is another; ends with [`Exit::Mismatch`] then.
pub fn verify(cli: &Cli, args: &VerifyArgs) -> Result<(), Stop> {
    let (jobs, progress, lock_file) = (args.jobs, args.progress, args.lock_file.path.clone());
    let flags = Partial { store: cli.store.clone(), jobs, progress, lock_file, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let Loaded { build, text } = loaded_with_text(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let place = Place::of(&settings, &build, &args.manifest)?;
    let lock = match place.read() {
        Ok(lock) => Some(lock),
        Err(LockError::Missing { .. } | LockError::NoSection { .. }) => None,
        Err(error) => return Err(lock::unreadable(error)),
    };
    let expected = expected(&settings, &build, &plan, lock.as_ref())?;
    // It takes nothing from the store.
    let run: HashSet<ContainerId> = plan.order().iter().map(|step| build.step(*step).container).collect();
    let source = Source { path: &args.manifest.manifest, text: &text };
    absent_secrets::refuse(source, &build, |container| run.contains(&container))?;
    let site = Site::open(&settings)?;
    let locked = lock.as_ref().map(|lock| (lock, lock::own_files(&build, &place.path)));
    let compared = compare(&site, &settings, without_outputs(build), &plan, &expected, locked);
    site.close()?;
    let Compared { summary, text, same } = compared?;
    exit(&summary)?;
    print_beside(&settings, &text)?;
    if same { Ok(()) } else { Err(Exit::Mismatch.into()) }
}

/// Nothing outside the store is written.
fn without_outputs(mut build: Build) -> Build {
    for step in &mut build.steps {
        if let Action::Snapshot(snapshot) = &mut step.action {
            snapshot.output = None;
        }
    }
    build
}

/// The digest that each planned snapshot is to have: as it is locked, else as the store has it.
fn expected(
    settings: &Settings,
    build: &Build,
    plan: &Plan,
    lock: Option<&Section>,
) -> Result<BTreeMap<StepId, Digest>, Stop> {
    let segments = Segments::new(build, plan);
    let store = Store::open_existing(&settings.store).map_err(of_store)?.store();
    let options = freshness::Options {
        runtime: runtime(&settings.runtime)?,
        long_read: LongReads::default().reporter(),
        ..Default::default()
    };
    let judge = Judge::new(build, &segments, store.as_ref(), options);
    let forecast = forecast(&judge, plan).map_err(failed)?;
    // What cannot be written is learnt again.
    let _ = judge.close();
    let (mut expected, mut unknown) = (BTreeMap::new(), Vec::new());
    for (index, segment) in segments.all().iter().enumerate() {
        let Some(snapshot) = segment.snapshot else { continue };
        let name = &build.step(snapshot).name;
        let locked = lock.and_then(|lock| lock.digest_of(name)?.parse().ok());
        let stored = || match forecast.verdict(index) {
            Verdict::Fresh(recorded) => recorded.layer.as_ref().map(|layer| layer.digest),
            Verdict::Stale { .. } => None,
        };
        match locked.or_else(stored) {
            Some(digest) => drop(expected.insert(snapshot, digest)),
            None => unknown.push(format!("`{name}`")),
        }
    }
    if unknown.is_empty() {
        return Ok(expected);
    }
    let message =
        format!("there is nothing to compare {} with: neither a lock nor the store has it", unknown.join(", "));
    Err(Error::new(Exit::Usage, message).with_hint(Some("build it first with `runner apply`".into())).into())
}

struct Compared {
    summary: Summary,
    text: String,
    same: bool,
}

/// Builds in a store inside the scratch of this one, which goes with it however this process ends.
fn compare(
    site: &Site,
    settings: &Settings,
    build: Build,
    plan: &Plan,
    expected: &BTreeMap<StepId, Digest>,
    lock: Option<(&Section, Vec<PathBuf>)>,
) -> Result<Compared, Stop> {
    let (lock, own_files) = lock.unzip();
    let paths = site.open_paths(&build, plan.order(), None)?;
    let outer = site.context(&build, &paths);
    let folder = outer.lease.scratch_dir("verify").map_err(of_store)?;
    let store = Store::open(&folder).map_err(of_store)?;
    let lease = store.lease().map_err(of_store)?;
    let build_id = store.new_build(SystemTime::now()).map_err(of_store)?;
    let context = Context { store: &store, lease: &lease, build_id: &build_id, ..outer };
    let segments = Segments::new(&build, plan);
    let (stop, runtime) = (context.interrupt.flag(), context.workspace.runtime().clone());
    let long_reads = LongReads::default();
    let judged_by = freshness::Options {
        stop,
        runtime,
        long_read: long_reads.reporter(),
        own_files: own_files.unwrap_or_default(),
        opened: Arc::clone(paths.opened()),
        ..Default::default()
    };
    let judge = Judge::new(&build, &segments, Some(&store), judged_by);
    let (events, receiver) = Events::channel();
    let events = events.masking(context.workspace.secrets());
    long_reads.are_events(&events);
    let surroundings = OutputEnvironment::of_stdout();
    let beside = show::beside(&Files::default(), &surroundings, &build, plan, None)?;
    let mode = surroundings.mode(settings.progress);
    let reporter = in_background(move || report::run(receiver, mode, io::stdout(), beside))?;
    site.warn(&events);
    let rooms = Rooms::new(context);
    let options = Options::of(settings.jobs);
    let summary = execute::apply(context, plan, &judge, options, &rooms, &events);
    let result = results(&judge, &build, &summary, expected, lock, [outer.store, &store]);
    // The reporter ends when nobody can report anything any more.
    drop((rooms, events, judge));
    // A standard output that is gone is found out when the result is printed.
    let _ = reporter.join();
    let (text, same) = result?;
    lease.close().map_err(of_store)?;
    Ok(Compared { summary, text, same })
}

/// Each snapshot, whether it is the expected one, and if not, why and in which files; and whether all are. The first store
/// has the expected layers, the second one those that were built.
fn results(
    judge: &Judge<'_>,
    build: &Build,
    summary: &Summary,
    expected: &BTreeMap<StepId, Digest>,
    lock: Option<&Section>,
    [before, now]: [&Store; 2],
) -> Result<(String, bool), Stop> {
    let mut text = String::new();
    let mut others = HashSet::new();
    let sources = if lock.is_some() { judge.sources().map_err(failed)? } else { Vec::new() };
    for (step, found) in &summary.layers {
        let name = &build.step(*step).name;
        let Some(wanted) = expected.get(step) else { continue };
        if wanted == found {
            text.push_str(&format!("{name}: the same, {found}\n"));
            continue;
        }
        text.push_str(&format!("{name}: expected {wanted}, built {found}\n"));
        if let Some((lock, locked)) = lock.and_then(|lock| Some((lock, lock.snapshot(name)?))) {
            let causes = lock::causes(judge, build, lock, *step, locked, &sources, &others);
            text.push_str(&caused(&causes));
        }
        others.insert(*step);
        text.push_str(&files(before.layer_path(wanted), now.layer_path(found)));
    }
    Ok((text, others.is_empty()))
}

/// Causes, each on its line, whatever the lock says that they quote.
fn caused(causes: &[String]) -> String {
    causes.iter().map(|cause| format!("  cause: {}\n", escaped(cause))).collect()
}

/// The files that differ, the first difference first.
fn files(wanted: PathBuf, found: PathBuf) -> String {
    if !wanted.exists() {
        return "  the image that was expected is not in the store, so its files cannot be compared\n".to_owned();
    }
    match between_images(&wanted, &found) {
        Ok(differences) => {
            let mut text: String =
                differences.iter().take(MOST_TOLD).map(|difference| format!("  {}", told(difference))).collect();
            if differences.len() > MOST_TOLD {
                text.push_str(&format!("  and {} more\n", differences.len() - MOST_TOLD));
            }
            if differences.is_empty() {
                text.push_str("  no file differs: the images were written in another way\n");
            }
            text
        }
        Err(error) => format!("  {}\n", Error::new(Exit::Host, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_quotes_the_lock_is_one_line_on_which_nothing_acts() {
        let causes = ["step a changed", "runner 1\n::error::b\u{1b}[2J wrote the lock"].map(str::to_owned);
        let text = "  cause: step a changed\n  cause: runner 1\\n::error::b\\u{1b}[2J wrote the lock\n";
        assert_eq!(caused(&causes), text);
    }
}
