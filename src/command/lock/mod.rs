//! `runner lock`: writes the lock of a manifest, or compares the lock with the manifest.

mod check;

use super::build_run::{self, BuildRequest};
use super::command_error::{CommandError, store_error};
use super::console::{counted, print_result};
use super::effective_settings::settings;
use super::lock_file::{LockFile, lock_error};
use super::manifest_file::ManifestFile;
use super::plan_run::result_of;
use crate::cli::{Cli, LockArgs};
use crate::digest::Digest;
use crate::error::{Error, Exit, error_chain};
use crate::image::{self, InstalledError};
use crate::lock::{self, LockedPackages, LockedSnapshot, Section};
use crate::settings::Partial;
use crate::store::Store;

/// Builds the manifest and writes its lock; with `--check`, compares the two.
pub fn lock(cli: &Cli, args: &LockArgs) -> Result<(), CommandError> {
    if args.check {
        return check::check(cli, args);
    }
    let lock_file = args.lock_file.path.clone();
    let flags = Partial { store: cli.store.clone(), progress: args.progress, lock_file, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let manifest = ManifestFile::load(&args.manifest.manifest, &args.manifest.sets)?;
    let LockFile { path, section } = LockFile::of(&settings, &manifest.build, &args.manifest)?;
    let file = lock::find(&path).map_err(|error| lock_error(Exit::Usage, error))?;
    let targets = manifest.build.building_steps();
    let lock_file = Some(path.clone());
    let request = BuildRequest { targets, sources: true, pulls: true, lock_file, ..BuildRequest::default() };
    let mut result = build_run::build(&settings, &manifest, &request)?;
    result_of(&result.summary)?;
    let store = Store::open_existing(&settings.store).map_err(store_error)?.store();
    let mut snapshots = Vec::new();
    for (step, digest) in &result.summary.layers {
        let name = manifest.build.step(*step).name.clone();
        let packages = match &store {
            Some(store) if manifest.build.makes_debian_root(*step) => packages(store, &name, digest)?,
            _ => LockedPackages::default(),
        };
        let inputs = result.inputs.remove(step);
        snapshots.push(LockedSnapshot { step: name, digest: digest.to_string(), packages, inputs });
    }
    let section = Section::new(section, result.sources, snapshots);
    lock::write(&file, &section).map_err(|error| lock_error(Exit::Host, error))?;
    if let Some(store) = store {
        store.know_lock_file(&path).map_err(store_error)?;
    }
    let (sources, snapshots) = (section.rootfs.len(), section.snapshot.len());
    let snapshots = counted(snapshots, "snapshot");
    print_result(&settings, &format!("{}: {sources} rootfs, {snapshots}\n", path.display()))
}

/// Returns the packages of a Debian root, whose layer is in the store.
fn packages(store: &Store, step: &str, layer: &Digest) -> Result<LockedPackages, Error> {
    let failed = |error: InstalledError| {
        let exit = if error.is_of_input() { Exit::Usage } else { Exit::Host };
        Error::new(exit, format!("cannot lock the packages of {step}: {}", error_chain(&error))).with_hint(error.hint())
    };
    // Until the pin is dropped, no collection removes the layer.
    let Some(pin) = store.pin_layer(layer).map_err(store_error)? else {
        let message = format!("cannot lock the packages of {step}: the layer {layer} is not in the store any more");
        return Err(Error::new(Exit::Host, message).with_hint(Some("run the command again".into())));
    };
    Ok(LockedPackages::of(&image::installed(pin.path()).map_err(failed)?))
}
