//! `runner verify`: builds again in an empty store, and compares the layers and exports with the lock or with the store.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::analysis::{Analysis, StoreView};
use super::command_error::{CommandError, check_error, store_error};
use super::console::print_result;
use super::effective_settings::settings;
use super::environment::{BuildEnvironment, containers_of};
use super::lock_file::{self, LockFile};
use super::manifest_file::ManifestFile;
use super::plan_run::{CheckedPlan, Unsaved, result_of};
use super::report_outputs::{self, OutputFiles};
use super::{absent_secrets, target};
use crate::cache::{self, CacheChecker, CacheStatus};
use crate::cli::{Cli, VerifyArgs};
use crate::diagnostic::escaped;
use crate::difference::between_images;
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::execute::{Context, Options, SessionPool, Summary};
use crate::lock::{LockError, Section};
use crate::model::{Action, Build, ContainerId, StepId};
use crate::mount::ImageFormat;
use crate::pull::{self, Pins};
use crate::report::{OutputEnvironment, difference_line};
use crate::settings::{Partial, Settings};
use crate::store::Store;

/// The number of differing files that are listed for a snapshot.
const MAX_FILES: usize = 100;

/// Builds the requested steps again, and prints each snapshot that differs; ends with [`Exit::Mismatch`] if one does.
pub fn verify(cli: &Cli, args: &VerifyArgs) -> Result<(), CommandError> {
    let (jobs, progress, lock_file) = (args.jobs, args.progress, args.lock_file.path.clone());
    let flags = Partial { store: cli.store.clone(), jobs, progress, lock_file, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let manifest = ManifestFile::load(&args.manifest.manifest, &args.manifest.sets)?;
    let build = &manifest.build;
    let targets = match args.targets.as_slice() {
        [] => build.building_steps(),
        names => target::steps(build, names)?,
    };
    let analysis = Analysis::new(build, &targets);
    let lock_file = LockFile::of(&settings, build, &args.manifest)?;
    let lock = match lock_file.read() {
        Ok(lock) => Some(lock),
        Err(LockError::Missing { .. } | LockError::NoSection { .. }) => None,
        Err(error) => return Err(lock_file::unreadable(error)),
    };
    let (expected, exports) = expected(&settings, &analysis, lock.as_ref())?;
    // Every container runs, because nothing is taken from the store.
    let running: HashSet<ContainerId> = containers_of(build, analysis.plan.order().iter().copied()).collect();
    absent_secrets::refuse(&manifest, |container| running.contains(&container))?;
    let own_files = lock.as_ref().map(|_| lock_file::written_files(build, &lock_file.path)).unwrap_or_default();
    let rebuild = without_outputs(build.clone());
    let analysis = Analysis::new(&rebuild, &targets);
    let verification =
        Verification { settings: &settings, analysis: &analysis, expected, exports, lock: lock.as_ref(), own_files };
    let (summary, results) = BuildEnvironment::within(&settings, |environment| verification.run(environment))?;
    result_of(&summary)?;
    print_result(&settings, &results.text)?;
    if results.all_same { Ok(()) } else { Err(Exit::Mismatch.into()) }
}

/// Removes the outputs and the names in registries, so that nothing outside the store is written.
fn without_outputs(mut build: Build) -> Build {
    for step in &mut build.steps {
        match &mut step.action {
            Action::Snapshot(snapshot) => snapshot.output = None,
            Action::Export(export) => (export.output, export.push) = (None, None),
            Action::Run(_) | Action::Exec(_) | Action::Copy(_) => {}
        }
    }
    build
}

/// The digests with which a second build is compared.
type Expected = BTreeMap<StepId, Digest>;

/// Returns the expected digest of each planned snapshot: the locked one, else the one in the store; and those of the exports in
/// the store.
///
/// # Errors
/// With [`Exit::Usage`], if a snapshot has neither, or, without a lock, an export is not in the store.
fn expected(
    settings: &Settings,
    analysis: &Analysis<'_>,
    lock: Option<&Section>,
) -> Result<(Expected, Expected), CommandError> {
    let store = StoreView::open(settings)?;
    let images =
        Arc::new(pull::known(analysis.build, store.store.as_ref(), Pins { lock, pulls: false, learns: false }));
    let checker = analysis.read_only_checker(settings, &store, cache::Options { images, ..Default::default() })?;
    let forecast = analysis.forecast(&checker)?;
    // If the digests of inputs cannot be stored, the build reads the inputs again.
    let _ = checker.close();
    let (mut expected, mut unknown, mut exports) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for (index, segment) in analysis.segments.all().iter().enumerate() {
        let recorded = match forecast.status(index) {
            CacheStatus::Fresh(recorded) => recorded.exports.as_slice(),
            CacheStatus::Stale { .. } => &[],
        };
        for (n, export) in segment.exports(analysis.build).enumerate() {
            match recorded.get(n) {
                Some(recorded) => drop(exports.insert(export, recorded.digest)),
                // A lock has no exports: they follow from the snapshots.
                None if lock.is_some() => {}
                None => unknown.push(format!("`{}`", analysis.build.step(export).name)),
            }
        }
        let Some(snapshot) = analysis.own_snapshot(segment) else { continue };
        let name = &analysis.build.step(snapshot).name;
        let locked = lock.and_then(|lock| lock.digest_of(name)?.parse().ok());
        let stored = || match forecast.status(index) {
            CacheStatus::Fresh(recorded) => recorded.layer.as_ref().map(|layer| layer.digest),
            CacheStatus::Stale { .. } => None,
        };
        match locked.or_else(stored) {
            Some(digest) => drop(expected.insert(snapshot, digest)),
            None => unknown.push(format!("`{name}`")),
        }
    }
    if unknown.is_empty() {
        return Ok((expected, exports));
    }
    let message = format!("cannot compare {}: no digest in the lock or in the store", unknown.join(", "));
    Err(Error::new(Exit::Usage, message).with_hint(Some("build it first with `runner apply`".into())).into())
}

/// The second build, and the digests that it is compared with.
struct Verification<'v> {
    settings: &'v Settings,
    analysis: &'v Analysis<'v>,
    expected: Expected,
    exports: Expected,
    lock: Option<&'v Section>,
    /// The files that runner writes for the first build.
    own_files: Vec<PathBuf>,
}

/// The result of the comparison.
struct Results {
    text: String,
    all_same: bool,
}

impl Verification<'_> {
    /// Builds in a store inside the scratch directory of the first store, which is removed however this process ends.
    fn run(&self, environment: &BuildEnvironment) -> Result<(Summary, Results), CommandError> {
        let Self { settings, analysis, .. } = *self;
        let paths = environment.open_paths(analysis.build, analysis.plan.order(), None)?;
        let pins = Pins { lock: self.lock, pulls: false, learns: false };
        let images = environment.images(settings, analysis.build, &paths, (analysis.plan.order(), None), pins)?;
        let outer = environment.context(analysis.build, &paths, &images);
        let directory = outer.lease.scratch_dir("verify").map_err(store_error)?;
        let store = Store::open(&directory).map_err(store_error)?;
        let lease = store.lease().map_err(store_error)?;
        let build_id = store.new_build(SystemTime::now()).map_err(store_error)?;
        let context = Context { store: &store, lease: &lease, build_id: &build_id, ..outer };
        let options = cache::Options { own_files: self.own_files.clone(), ..Default::default() };
        let checked = CheckedPlan::new(context, analysis, options);
        checked.refuse_other_files()?;
        let output = OutputEnvironment::of_stdout();
        let outputs = report_outputs::open(&OutputFiles::default(), &output, analysis.build, &analysis.plan, None)?;
        let run = checked.show(settings.jobs, output.mode(settings.progress), io::stdout(), outputs)?;
        environment.warn(&run.events);
        let sessions = SessionPool::new(context);
        let summary = run.run(&sessions, Options::of(settings.jobs));
        let results = self.results(&run.checker, &summary, [outer.store, &store]);
        drop(sessions);
        // A closed standard output is reported when the results are printed.
        let _ = run.close(Unsaved::Ignore);
        let results = results?;
        lease.close().map_err(store_error)?;
        Ok((summary, results))
    }

    /// Compares each snapshot. The first store has the expected layers, the second one those of the second build.
    fn results(
        &self,
        checker: &CacheChecker<'_>,
        summary: &Summary,
        [expected, built]: [&Store; 2],
    ) -> Result<Results, CommandError> {
        let build = self.analysis.build;
        let mut text = String::new();
        let mut others = HashSet::new();
        let sources = if self.lock.is_some() { checker.sources().map_err(check_error)? } else { Vec::new() };
        for (step, found) in &summary.layers {
            let name = &build.step(*step).name;
            let Some(expected_image) = self.expected.get(step) else { continue };
            if expected_image == found {
                text.push_str(&format!("{name}: the same, {found}\n"));
                continue;
            }
            text.push_str(&format!("{name}: expected {expected_image}, built {found}\n"));
            if let Some((lock, locked)) = self.lock.and_then(|lock| Some((lock, lock.snapshot(name)?))) {
                let causes = lock_file::causes(checker, build, lock, (*step, found), locked, &sources, &others);
                text.push_str(&cause_lines(&causes));
            }
            others.insert(*step);
            text.push_str(&file_lines(expected.layer_path(expected_image), built.layer_path(found)));
        }
        let mut all_same = others.is_empty();
        for (step, found) in &summary.exports {
            let name = &build.step(*step).name;
            match self.exports.get(step) {
                Some(export) if export == found => text.push_str(&format!("{name}: the same, {found}\n")),
                Some(export) => {
                    all_same = false;
                    text.push_str(&format!("{name}: expected {export}, built {found}\n"));
                    text.push_str(&export_lines(expected.export_path(export), built.export_path(found)));
                }
                None => text.push_str(&format!("{name}: not compared, the store has no result of it\n")),
            }
        }
        Ok(Results { text, all_same })
    }
}

/// Returns a line for each file that differs between two exported directories; none for other exports.
fn export_lines(expected: PathBuf, found: PathBuf) -> String {
    let is_image =
        |path: &PathBuf| File::open(path).and_then(|file| ImageFormat::of(&file)).is_ok_and(|format| format.is_some());
    if is_image(&expected) && is_image(&found) { file_lines(expected, found) } else { String::new() }
}

/// Returns a line for each cause. A cause may quote the lock, which may contain any text.
fn cause_lines(causes: &[String]) -> String {
    causes.iter().map(|cause| format!("  cause: {}\n", escaped(cause))).collect()
}

/// Returns a line for each file that differs, up to [`MAX_FILES`].
fn file_lines(expected_image: PathBuf, found: PathBuf) -> String {
    if !expected_image.exists() {
        return "  the expected image is not in the store, so its files cannot be compared\n".to_owned();
    }
    match between_images(&expected_image, &found) {
        Ok(differences) => {
            let lines =
                differences.iter().take(MAX_FILES).map(|difference| format!("  {}", difference_line(difference)));
            let mut text: String = lines.collect();
            if differences.len() > MAX_FILES {
                text.push_str(&format!("  and {} more\n", differences.len() - MAX_FILES));
            }
            if differences.is_empty() {
                text.push_str("  no file differs: the two images store the same files in different ways\n");
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
    fn a_cause_that_quotes_control_characters_stays_on_one_line_without_them() {
        let causes = ["step a changed", "runner 1\n::error::b\u{1b}[2J wrote the lock"].map(str::to_owned);
        let text = "  cause: step a changed\n  cause: runner 1\\n::error::b\\u{1b}[2J wrote the lock\n";
        assert_eq!(cause_lines(&causes), text);
    }
}
