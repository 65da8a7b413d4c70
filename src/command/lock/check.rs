//! `runner lock --check`: compares the lock with the manifest, its inputs and the snapshots in the store. Nothing runs.

use std::collections::HashSet;
use std::sync::Arc;

use crate::cache::{self, CacheChecker, CacheStatus};
use crate::cli::{Cli, LockArgs};
use crate::command::analysis::{Analysis, StoreView};
use crate::command::command_error::{CommandError, check_error};
use crate::command::console::print;
use crate::command::effective_settings::settings_with_warning;
use crate::command::lock_file::{self, LockFile};
use crate::command::manifest_file::ManifestFile;
use crate::command::next_steps::lock_command;
use crate::digest::Digest;
use crate::error::{Error, Exit, error_chain};
use crate::lock::{Difference, LockedRootfs, LockedSnapshot, Section};
use crate::model::StepId;
use crate::pull::{self, Pins};
use crate::settings::Partial;

/// Compares, and ends with [`Exit::Mismatch`] if something differs.
pub fn check(cli: &Cli, args: &LockArgs) -> Result<(), CommandError> {
    let flags = Partial { store: cli.store.clone(), lock_file: args.lock_file.path.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, &args.manifest.manifest)?;
    let manifest = ManifestFile::load(&args.manifest.manifest, &args.manifest.sets)?;
    let lock_file = LockFile::of(&settings, &manifest.build, &args.manifest)?;
    let lock = lock_file.read().map_err(lock_file::unreadable)?;
    let analysis = Analysis::new(&manifest.build, &manifest.build.building_steps());
    let store = StoreView::open(&settings)?;
    store.notice_if_missing(&settings);
    let own_files = lock_file::written_files(&manifest.build, &lock_file.path);
    let images =
        pull::known(&manifest.build, store.store.as_ref(), Pins { lock: Some(&lock), pulls: false, learns: false });
    let options = cache::Options { own_files, images: Arc::new(images), ..Default::default() };
    let checker = analysis.read_only_checker(&settings, &store, options)?;
    let (mut differences, unknown) = Comparison::of(&analysis, &checker, &lock)?;
    // A user who may not write to the store reads the inputs again the next time.
    let _ = checker.close();
    differences.extend(lock_file::unknown_to_manifest(&lock, &manifest.build));
    if !differences.is_empty() {
        let command = lock_command(cli, &args.manifest, &args.lock_file);
        return Err(lock_file::mismatch(&differences, &command).into());
    }
    let (path, unknown) = (lock_file.path.display(), unknown.join(", "));
    if let Some(error) = store.unreadable.filter(|_| !unknown.is_empty()) {
        let message = format!("cannot compare {unknown} with {path}: {}", error_chain(&error));
        return Err(Error::new(Exit::Host, message).with_hint(error.hint()).into());
    }
    let mut text = format!("{path}: nothing differs\n");
    if !unknown.is_empty() {
        text.push_str(&format!("not built here, so not compared: {unknown}\n"));
    }
    print(text.as_bytes())
}

/// The comparison of a lock with the rootfs sources and with each snapshot of a plan.
struct Comparison<'a> {
    analysis: &'a Analysis<'a>,
    checker: &'a CacheChecker<'a>,
    lock: &'a Section,
    sources: Vec<LockedRootfs>,
    differences: Vec<Difference>,
    /// The snapshots that differ.
    others: HashSet<StepId>,
    /// The snapshots that are not built here and whose inputs do not differ.
    unknown: Vec<String>,
}

impl<'a> Comparison<'a> {
    /// Compares. Returns the differences, and the snapshots whose digests are unknown here.
    fn of(
        analysis: &'a Analysis<'a>,
        checker: &'a CacheChecker<'a>,
        lock: &'a Section,
    ) -> Result<(Vec<Difference>, Vec<String>), CommandError> {
        let sources = checker.sources().map_err(check_error)?;
        let differences = lock.rootfs_differences(&sources);
        let (others, unknown) = (HashSet::new(), Vec::new());
        let mut comparison = Self { analysis, checker, lock, sources, differences, others, unknown };
        let forecast = analysis.forecast(checker)?;
        for (index, segment) in analysis.segments.all().iter().enumerate() {
            let Some(snapshot) = analysis.own_snapshot(segment) else { continue };
            match forecast.status(index) {
                CacheStatus::Fresh(recorded) => {
                    if let Some(layer) = &recorded.layer {
                        comparison.compare_digest(snapshot, &layer.digest);
                    }
                }
                CacheStatus::Stale { .. } => comparison.compare_inputs(snapshot)?,
            }
        }
        Ok((comparison.differences, comparison.unknown))
    }

    /// Compares a snapshot whose layer is in the store.
    fn compare_digest(&mut self, snapshot: StepId, digest: &Digest) {
        let Self { analysis, checker, lock, sources, others, .. } = &*self;
        let causes = |locked: &LockedSnapshot| {
            lock_file::causes(checker, analysis.build, lock, (snapshot, digest), locked, sources, others)
        };
        let step = &analysis.build.step(snapshot).name;
        if let Some(difference) = lock.snapshot_difference(step, &digest.to_string(), causes) {
            self.differences.push(difference);
            self.others.insert(snapshot);
        }
    }

    /// Compares a snapshot whose layer is unknown here, by its inputs.
    fn compare_inputs(&mut self, snapshot: StepId) -> Result<(), CommandError> {
        let step = self.analysis.build.step(snapshot).name.clone();
        let what = format!("snapshot {step}");
        let Some(locked) = self.lock.snapshot(&step) else {
            self.differences.push(Difference::NotLocked { what });
            return Ok(());
        };
        let mut causes = self.checker.other_inputs(snapshot, locked).map_err(check_error)?;
        if causes.is_empty() {
            self.unknown.push(step);
        } else {
            causes.extend(self.lock.other_runner());
            self.differences.push(Difference::OtherInputs { what, causes });
            self.others.insert(snapshot);
        }
        Ok(())
    }
}
