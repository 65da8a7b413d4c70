//! `runner lock`: writes down what a build is held to, and tells whether that still fits.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::absent_secrets::Source;
use super::apply::{Wish, build_all, exit};
use super::next_steps::lock_command;
use super::plan::tell_empty_store;
use super::show::not_planted;
use super::site::{LongReads, runtime};
use super::{Stop, counted, loaded, loaded_with_text, print, print_beside, settings, settings_with_warning};
use crate::build::{Action, Build, Step, StepId};
use crate::cli::{Cli, LockArgs, ManifestArgs};
use crate::error::{Error, Exit, told};
use crate::freshness::{self, Judge, JudgeError, Verdict, forecast};
use crate::load::Loaded;
use crate::lock::{self, Difference, LockError, LockedRootfs, LockedSnapshot, Section, SectionId};
use crate::named_paths::WritableBinds;
use crate::plan::{Plan, Segments};
use crate::settings::{Partial, Settings};
use crate::store::{Existing, Store};

/// The section of a lock file that is of a build.
pub struct Place {
    /// The lock file.
    pub path: PathBuf,
    /// Which of its sections.
    pub id: SectionId,
}

impl Place {
    /// Returns that of a manifest.
    ///
    /// # Errors
    /// With [`Exit::Usage`], where a link of an earlier step leads elsewhere.
    pub fn of(settings: &Settings, build: &Build, args: &ManifestArgs) -> Result<Self, Error> {
        let path = settings.lock_file.clone().unwrap_or_else(|| build.folder.join("runner.lock"));
        not_planted(&WritableBinds::of(build), "use the lock file", &path)?;
        let id = SectionId::new(&path, &build.manifest, args.sets.values.iter().cloned().collect());
        Ok(Self { path, id })
    }

    /// Reads it.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn read(&self) -> Result<Section, LockError> {
        lock::read(&self.path, &self.id)
    }
}

/// The files that runner writes for a build: outputs, and the lock.
pub fn own_files(build: &Build, lock: &Path) -> Vec<PathBuf> {
    let output = |step: &Step| match &step.action {
        Action::Snapshot(snapshot) => snapshot.output.clone(),
        Action::Run(_) | Action::Exec(_) => None,
    };
    build.steps.iter().filter_map(output).chain([lock.to_owned()]).collect()
}

/// Writes the lock of a manifest, or with `--check` compares it.
pub fn lock(cli: &Cli, args: &LockArgs) -> Result<(), Stop> {
    if args.check {
        return check(cli, args);
    }
    let lock_file = args.lock_file.path.clone();
    let flags = Partial { store: cli.store.clone(), progress: args.progress, lock_file, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let Loaded { build, text } = loaded_with_text(&args.manifest.manifest, &args.manifest.sets)?;
    let source = Source { path: &args.manifest.manifest, text: &text };
    let Place { path, id } = Place::of(&settings, &build, &args.manifest)?;
    let file = lock::find(&path).map_err(|error| stop(Exit::Usage, error))?;
    let wish = Wish { sources: true, lock_file: Some(path.clone()), ..Wish::default() };
    let mut built = build_all(&settings, source, &build, &wish)?;
    exit(&built.summary)?;
    let snapshots = built.summary.layers.iter().map(|(step, digest)| LockedSnapshot {
        step: build.step(*step).name.clone(),
        digest: digest.to_string(),
        inputs: built.inputs.remove(step),
    });
    let section = Section::new(id, built.sources, snapshots.collect());
    lock::write(&file, &section).map_err(|error| stop(Exit::Host, error))?;
    if let Some(store) = Store::open_existing(&settings.store).map_err(|error| failed(error.into()))?.store() {
        store.know_lock_file(&path).map_err(|error| failed(error.into()))?;
    }
    let (sources, snapshots) = (section.rootfs.len(), section.snapshot.len());
    let snapshots = counted(snapshots, "snapshot");
    print_beside(&settings, &format!("{}: {sources} rootfs, {snapshots}\n", path.display()))
}

fn check(cli: &Cli, args: &LockArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), lock_file: args.lock_file.path.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let place = Place::of(&settings, &build, &args.manifest)?;
    let lock = place.read().map_err(unreadable)?;
    let plan = Plan::new(&build, &[]);
    let segments = Segments::new(&build, &plan);
    let (store, unreadable) = match Store::open_existing(&settings.store).map_err(|error| failed(error.into()))? {
        Existing::Store(store) => (Some(store), None),
        Existing::None => (None, None),
        Existing::Unreadable(error) => (None, Some(error)),
    };
    if store.is_none() && unreadable.is_none() {
        tell_empty_store(&settings);
    }
    let options = freshness::Options {
        runtime: runtime(&settings.runtime)?,
        long_read: LongReads::default().reporter(),
        own_files: own_files(&build, &place.path),
        ..Default::default()
    };
    let judge = Judge::new(&build, &segments, store.as_ref(), options);
    let sources = judge.sources().map_err(failed)?;
    let mut differences = lock.rootfs_differences(&sources);
    let forecast = forecast(&judge, &plan).map_err(failed)?;
    let (mut others, mut unknown) = (HashSet::new(), Vec::new());
    for (index, segment) in segments.all().iter().enumerate() {
        let Some(snapshot) = segment.snapshot else { continue };
        let step = build.step(snapshot).name.clone();
        match forecast.verdict(index) {
            Verdict::Fresh(recorded) => {
                let Some(layer) = &recorded.layer else { continue };
                let causes =
                    |locked: &LockedSnapshot| causes(&judge, &build, &lock, snapshot, locked, &sources, &others);
                if let Some(difference) = lock.snapshot_difference(&step, &layer.digest.to_string(), causes) {
                    differences.push(difference);
                    others.insert(snapshot);
                }
            }
            // Its result is not known here: its inputs are compared.
            Verdict::Stale { .. } => {
                let what = format!("snapshot {step}");
                match lock.snapshot(&step) {
                    None => differences.push(Difference::NotLocked { what }),
                    Some(locked) => {
                        let mut causes = judge.other_inputs(snapshot, locked).map_err(failed)?;
                        if causes.is_empty() {
                            unknown.push(step);
                        } else {
                            causes.extend(lock.other_runner());
                            differences.push(Difference::OtherInputs { what, causes });
                            others.insert(snapshot);
                        }
                    }
                }
            }
        }
    }
    // What cannot be written is learnt again.
    let _ = judge.close();
    differences.extend(left_over(&lock, &build));
    if !differences.is_empty() {
        return Err(mismatch(&differences, &lock_command(cli, &args.manifest, &args.lock_file)).into());
    }
    if let Some(error) = unreadable.filter(|_| !unknown.is_empty()) {
        let message = format!("cannot compare {} with {}: {}", unknown.join(", "), place.path.display(), told(&error));
        return Err(Error::new(Exit::Host, message).with_hint(error.hint()).into());
    }
    let mut text = format!("{}: nothing differs\n", place.path.display());
    if !unknown.is_empty() {
        text.push_str(&format!("not built here, so not compared: {}\n", unknown.join(", ")));
    }
    print(text.as_bytes())
}

/// Why a snapshot is not as it is locked; `others` are the snapshots that are not either, `sources` what the rootfs sources hold.
pub fn causes(
    judge: &Judge<'_>,
    build: &Build,
    lock: &Section,
    snapshot: StepId,
    locked: &LockedSnapshot,
    sources: &[LockedRootfs],
    others: &HashSet<StepId>,
) -> Vec<String> {
    let below = match judge.below_snapshot(snapshot) {
        Some(below) => others.contains(&below).then(|| format!("snapshot {}", build.step(below).name)),
        None => {
            let name = &build.container(build.step(snapshot).container).name;
            let is_other = |found: &LockedRootfs| found.container == *name && !lock.rootfs.contains(found);
            sources.iter().any(is_other).then(|| format!("the rootfs of {name}"))
        }
    };
    let below = below.map(|what| format!("{what}, which it is built on, is another one"));
    below.into_iter().chain(judge.causes(snapshot, locked)).chain(lock.other_runner()).collect()
}

/// What the lock names and the manifest does not.
pub fn left_over(lock: &Section, build: &Build) -> Vec<Difference> {
    let is_snapshot =
        |name: &str| build.steps.iter().any(|step| step.name == name && matches!(step.action, Action::Snapshot(_)));
    lock.left_over(|name| build.containers.iter().any(|container| container.name == name), is_snapshot)
}

/// All that differs, as one error; `command` writes the lock anew.
pub fn mismatch(differences: &[Difference], command: &str) -> Error {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let message = format!("the lock does not match:\n  {}", lines.join("\n  "));
    let fix = format!("if that is meant, write the lock anew: `{command}`; if not, undo it");
    Error::new(Exit::Mismatch, message).with_hint(Some(fix))
}

/// A lock that there is none to read of.
pub fn unreadable(error: LockError) -> Stop {
    stop(error.exit(), error)
}

fn stop(exit: Exit, error: LockError) -> Stop {
    let hint = error.hint();
    Error::new(exit, error).with_hint(hint).into()
}

/// A judge's error, for the user.
pub fn failed(error: JudgeError) -> Stop {
    let exit = if error.is_of_input() { Exit::Usage } else { Exit::Host };
    let hint = error.hint();
    Error::new(exit, error).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::messages::compare;

    #[test]
    fn every_difference_from_a_lock_says_of_what_and_how() {
        let [rootfs, image] = ["the rootfs of container base", "snapshot image"].map(|what| || what.to_owned());
        let [old, new] = ["old", "new"].map(|text| Digest::of_bytes(text.as_bytes()).to_string());
        let differences = [
            Difference::Other { what: rootfs(), locked: old.clone(), found: new.clone(), causes: None },
            Difference::NotLocked { what: image() },
            Difference::Gone { what: image() },
            Difference::OtherInputs {
                what: image(),
                causes: vec!["step make changed".into(), "the content of /src changed: a (content)".into()],
            },
            Difference::Other {
                what: image(),
                locked: old.clone(),
                found: new.clone(),
                causes: Some(vec!["step make changed".into(), "step test is new".into()]),
            },
            Difference::Other { what: image(), locked: old, found: new, causes: Some(Vec::new()) },
        ];
        compare("lock-differences", [mismatch(&differences, "runner lock sdk.yaml").render()]);
    }
}
