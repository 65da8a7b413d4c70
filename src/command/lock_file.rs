//! The section of the lock file that belongs to a build, and the differences between a section and the build.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use super::planted_links;
use crate::cache::CacheChecker;
use crate::cli::{ManifestArgs, SetArgs};
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::lock::{self, Difference, LockError, LockedRootfs, LockedSnapshot, Section, SectionId};
use crate::model::{Action, Build, Container, ImagePlace, Role, Rootfs, Step, StepId};
use crate::named_paths::WritableBinds;
use crate::plan::Plan;
use crate::settings::Settings;

/// The lock file of a build, and the section of it that is the build's.
pub struct LockFile {
    /// The path of the file.
    pub path: PathBuf,
    /// The section.
    pub section: SectionId,
}

impl LockFile {
    /// Returns the lock file for a manifest.
    ///
    /// # Errors
    /// With [`Exit::Usage`], if it lies behind a symbolic link that a step of an earlier build may have made.
    pub fn of(settings: &Settings, build: &Build, args: &ManifestArgs) -> Result<Self, Error> {
        Self::with_sets(settings, build, &args.sets)
    }

    /// Returns the lock file for a manifest with these variables.
    ///
    /// # Errors
    /// Those of [`LockFile::of`].
    pub fn with_sets(settings: &Settings, build: &Build, sets: &SetArgs) -> Result<Self, Error> {
        let path = settings.lock_file.clone().unwrap_or_else(|| build.directory.join("runner.lock"));
        planted_links::refuse(&WritableBinds::of(build), "use the lock file", &path)?;
        let section = SectionId::new(&path, &build.manifest, sets.values.iter().cloned().collect());
        Ok(Self { path, section })
    }

    /// Reads the section, if the build has an image of a registry or a URL and the lock has the section: it says where tags lead.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn pins(&self, build: &Build) -> Result<Option<Section>, CommandError> {
        let is_named = |container: &Container| match &container.rootfs {
            Rootfs::Image(source) => matches!(source.place, ImagePlace::Registry(_)),
            Rootfs::Url(_) => true,
            _ => false,
        };
        if !build.containers.iter().any(is_named) {
            return Ok(None);
        }
        match self.read() {
            Err(LockError::NoSection { .. } | LockError::Missing { .. }) => Ok(None),
            section => Ok(Some(section.map_err(unreadable)?)),
        }
    }

    /// Reads the section.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn read(&self) -> Result<Section, LockError> {
        lock::read(&self.path, &self.section)
    }
}

/// Returns the files that runner writes for a build: the outputs of its snapshots and exports, and the lock file.
pub fn written_files(build: &Build, lock: &Path) -> Vec<PathBuf> {
    let output = |step: &Step| step.action.output().map(Path::to_owned);
    build.steps.iter().filter_map(output).chain([lock.to_owned()]).collect()
}

/// Returns the differences that are known before anything is built: those of the rootfs sources, and the snapshots of the
/// plan that are not locked.
pub fn differences_before_build(
    lock: &Section,
    sources: &[LockedRootfs],
    build: &Build,
    plan: &Plan,
) -> Vec<Difference> {
    let mut differences = lock.rootfs_differences(sources);
    for step in plan.order().iter().map(|id| build.step(*id)) {
        let is_own = step.role != Role::TestedState;
        if is_own && matches!(step.action, Action::Snapshot(_)) && lock.digest_of(&step.name).is_none() {
            differences.push(Difference::NotLocked { what: format!("snapshot {}", step.name) });
        }
    }
    differences
}

/// Returns the containers and snapshots that the section names and the manifest does not.
pub fn unknown_to_manifest(lock: &Section, build: &Build) -> Vec<Difference> {
    let is_snapshot =
        |name: &str| build.steps.iter().any(|step| step.name == name && matches!(step.action, Action::Snapshot(_)));
    lock.left_over(|name| build.containers.iter().any(|container| container.name == name), is_snapshot)
}

/// Returns the reasons why a snapshot, whose layer is `found`, differs from the locked one. `others` are the other snapshots that differ, `sources`
/// the present digests of the rootfs sources.
pub fn causes(
    checker: &CacheChecker<'_>,
    build: &Build,
    lock: &Section,
    (snapshot, found): (StepId, &Digest),
    locked: &LockedSnapshot,
    sources: &[LockedRootfs],
    others: &HashSet<StepId>,
) -> Vec<String> {
    let base = match checker.below_snapshot(snapshot) {
        Some(base) => others.contains(&base).then(|| format!("snapshot {}", build.step(base).name)),
        None => {
            let name = &build.container(build.step(snapshot).container).name;
            let differs = |found: &LockedRootfs| found.container == *name && !lock.rootfs.contains(found);
            sources.iter().any(differs).then(|| format!("the rootfs of {name}"))
        }
    };
    let base = base.map(|base| format!("it is built on {base}, which differs"));
    base.into_iter().chain(checker.causes(snapshot, locked, found)).chain(lock.other_runner()).collect()
}

/// Returns all differences as one error. `command` is the command that writes the lock again.
pub fn mismatch(differences: &[Difference], command: &str) -> Error {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let message = format!("the lock does not match:\n  {}", lines.join("\n  "));
    let fix = format!("if the change is intended, write the lock again with `{command}`; if not, undo the change");
    Error::new(Exit::Mismatch, message).with_hint(Some(fix))
}

/// Returns the error of a lock file that cannot be read.
pub fn unreadable(error: LockError) -> CommandError {
    lock_error(error.exit(), error)
}

/// Returns the error of a lock file as the error of a command with this exit code.
pub fn lock_error(exit: Exit, error: LockError) -> CommandError {
    let hint = error.hint();
    Error::new(exit, error).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::compare;

    #[test]
    fn every_difference_from_a_lock_names_its_subject_and_its_causes() {
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
