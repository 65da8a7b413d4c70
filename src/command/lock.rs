//! `runner lock`: writes down what a build is held to, and tells whether that still fits.

use super::absent_secrets::Source;
use super::apply::{Wish, build_all, exit};
use super::site::{LongReads, runtime};
use super::{Stop, loaded, loaded_with_text, print, print_beside, settings, settings_with_warning};
use crate::build::{Action, Build, StepId};
use crate::cli::{Cli, LockArgs};
use crate::error::{Error, Exit, told};
use crate::freshness::{self, Judge, JudgeError, Verdict, forecast};
use crate::load::Loaded;
use crate::lock::{Difference, FIX, Lock, LockError, LockedSnapshot};
use crate::plan::{Plan, Segments};
use crate::settings::Partial;
use crate::store::{Existing, Store};

/// Writes the lock of a manifest, or with `--check` compares it.
pub fn lock(cli: &Cli, args: &LockArgs) -> Result<(), Stop> {
    if args.check {
        return check(cli, args);
    }
    let flags = Partial { store: cli.store.clone(), progress: args.progress, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let Loaded { build, text } = loaded_with_text(&args.manifest.manifest, &args.manifest.sets)?;
    let source = Source { path: &args.manifest.manifest, text: &text };
    let file = Lock::find(&Lock::path(&build)).map_err(|error| stop(Exit::Usage, error))?;
    let built = build_all(&settings, source, &build, &Wish { sources: true, ..Wish::default() })?;
    exit(&built.summary)?;
    let name = |step: StepId| build.step(step).name.clone();
    let snapshots = built.summary.layers.iter();
    let snapshots = snapshots.map(|(step, digest)| LockedSnapshot { step: name(*step), digest: digest.to_string() });
    let lock = Lock::new(built.sources, snapshots.collect());
    let path = file.path();
    lock.write(&file).map_err(|error| stop(Exit::Host, error))?;
    if let Some(store) = Store::open_existing(&settings.store).map_err(|error| failed(error.into()))?.store() {
        store.know_lock_file(path).map_err(|error| failed(error.into()))?;
    }
    let (sources, snapshots) = (lock.rootfs.len(), lock.snapshot.len());
    print_beside(&settings, &format!("{}: {sources} rootfs, {snapshots} snapshots\n", path.display()))
}

fn check(cli: &Cli, args: &LockArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let path = Lock::path(&build);
    let lock = Lock::read(&path).map_err(|error| stop(Exit::Mismatch, error))?;
    let plan = Plan::new(&build, &[]);
    let segments = Segments::new(&build, &plan);
    let (store, unreadable) = match Store::open_existing(&settings.store).map_err(|error| failed(error.into()))? {
        Existing::Store(store) => (Some(store), None),
        Existing::None => (None, None),
        Existing::Unreadable(error) => (None, Some(error)),
    };
    let options = freshness::Options {
        runtime: runtime(&settings.runtime)?,
        long_read: LongReads::default().reporter(),
        ..Default::default()
    };
    let judge = Judge::new(&build, &segments, store.as_ref(), options);
    let mut differences = lock.rootfs_differences(&judge.sources().map_err(failed)?);
    let forecast = forecast(&judge, &plan).map_err(failed)?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (index, segment) in segments.all().iter().enumerate() {
        let Some(snapshot) = segment.snapshot else { continue };
        let step = build.step(snapshot).name.clone();
        match forecast.verdict(index) {
            Verdict::Fresh(recorded) => known
                .extend(recorded.layer.as_ref().map(|layer| LockedSnapshot { step, digest: layer.digest.to_string() })),
            // What it gives is not known here, but the lock must name it.
            Verdict::Stale { .. } if lock.digest_of(&step).is_some() => unknown.push(step),
            Verdict::Stale { .. } => {
                differences.push(Difference { what: format!("snapshot {step}"), locked: None, found: None })
            }
        }
    }
    // What cannot be written is learnt again.
    let _ = judge.close();
    differences.extend(lock.snapshot_differences(&known));
    differences.extend(left_over(&lock, &build));
    if !differences.is_empty() {
        return Err(mismatch(&differences).into());
    }
    if let Some(error) = unreadable.filter(|_| !unknown.is_empty()) {
        let message = format!("cannot compare {} with runner.lock: {}", unknown.join(", "), told(&error));
        return Err(Error::new(Exit::Host, message).with_hint(error.hint()).into());
    }
    let mut text = format!("{}: nothing differs\n", path.display());
    if !unknown.is_empty() {
        text.push_str(&format!("not built here, so not compared: {}\n", unknown.join(", ")));
    }
    print(text.as_bytes())
}

/// What the lock names and the manifest does not.
pub fn left_over(lock: &Lock, build: &Build) -> Vec<Difference> {
    let is_snapshot =
        |name: &str| build.steps.iter().any(|step| step.name == name && matches!(step.action, Action::Snapshot(_)));
    lock.left_over(|name| build.containers.iter().any(|container| container.name == name), is_snapshot)
}

/// All that differs, as one error.
pub fn mismatch(differences: &[Difference]) -> Error {
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let message = format!("runner.lock does not match:\n  {}", lines.join("\n  "));
    Error::new(Exit::Mismatch, message).with_hint(Some(FIX.to_owned()))
}

pub fn stop(exit: Exit, error: LockError) -> Stop {
    let hint = error.hint();
    Error::new(exit, error).with_hint(hint).into()
}

/// A judge's error, for the user.
pub fn failed(error: JudgeError) -> Stop {
    let hint = error.hint();
    Error::new(Exit::Host, error).with_hint(hint).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::messages::compare;

    #[test]
    fn every_difference_from_a_lock_says_of_what_and_how() {
        let rootfs = || "the rootfs of container base".to_owned();
        let [old, new] = ["old", "new"].map(|text| Digest::of_bytes(text.as_bytes()).to_string());
        let differences = [
            Difference { what: rootfs(), locked: Some(old.clone()), found: Some(new) },
            Difference { what: "snapshot image".into(), locked: None, found: None },
            Difference { what: "snapshot image".into(), locked: Some(old), found: None },
        ];
        compare("lock-differences", [mismatch(&differences).render()]);
    }
}
