//! The warnings about a manifest, with their places in it, for `runner validate`.

use std::collections::BTreeMap;
use std::path::Path;

use super::absent_secrets;
use super::manifest_file::ManifestFile;
use crate::diagnostic::{self, Place, Problem};
use crate::error::error_chain_with_hint;
use crate::manifest::{self, Manifest, MountDef, Reference};
use crate::model::Build;
use crate::named_paths::{Confinement, binds_that_show_store, unordered_binds};
use crate::plan::{Plan, Unordered};
use crate::warning::{MissingOrder, Warning};

/// Returns a problem for each fact that would disturb a build on this host with that store.
pub fn warnings(
    file: &ManifestFile,
    sets: &BTreeMap<String, String>,
    store: &Path,
    confinement: &Confinement,
) -> Vec<Problem> {
    let build = &file.build;
    // If the binds cannot be looked at now, a build reports them.
    let shown = binds_that_show_store(build, store, confinement).unwrap_or_default();
    // The model does not know where in the text its mounts are.
    let manifest = if shown.is_empty() { None } else { manifest::parse(&file.text, sets).ok() };
    let mut warnings = Vec::new();
    for (source, refused) in shown {
        let place = manifest.as_ref().and_then(|manifest| bind_source(manifest, &build.directory, &source));
        let warning = match refused {
            Some(error) => Warning::BuildRefused { why: error_chain_with_hint(&error, error.hint()) },
            None => Warning::StoreInBind { source, store: store.to_owned() },
        };
        let problem = Problem::new(place.unwrap_or(Place::Nowhere), warning.to_string());
        warnings.push(problem.label("contains the store"));
    }
    for (warning, absent) in absent_secrets::warnings(build) {
        warnings.push(Problem::new(absent.place.clone(), warning.to_string()).label(absent.label.clone()));
    }
    let unordered = unordered_binds(build, &Plan::new(build, &[]));
    warnings.extend(unordered.iter().map(|unordered| without_order(build, unordered)));
    warnings
}

/// Returns the warning of a missing order, at the step that should wait.
fn without_order(build: &Build, unordered: &Unordered) -> Problem {
    let order = MissingOrder::of(build, unordered);
    let label = format!("does not wait for {}", order.needs.join(", "));
    let step = diagnostic::Path::top().then("steps").then(unordered.first.0).then("name");
    let warning = Warning::NoOrder { source: unordered.source.clone(), order };
    Problem::new(Place::value(step), warning.to_string()).label(label)
}

/// Returns the place of the first bind with that source.
fn bind_source(manifest: &Manifest, directory: &Path, source: &Path) -> Option<Place> {
    let is_it = |mount: &MountDef| {
        // As the check of the manifest makes a host path of it.
        let path = |written: &String| directory.join(written).components().collect::<std::path::PathBuf>();
        mount.r#type.as_deref() == Some("bind") && mount.source.as_ref().map(path).as_deref() == Some(source)
    };
    let top = diagnostic::Path::top();
    let named = manifest.mounts.iter().flat_map(|mounts| mounts.iter());
    let mut named = named.map(|(name, mount)| (top.then("mounts").then(name), mount));
    let containers = manifest.containers.iter().flat_map(|containers| containers.iter());
    let mut in_place = containers.flat_map(|(name, container)| {
        let list = top.then("containers").then(name).then("mounts");
        let mounts = container.mounts.iter().flatten().enumerate();
        mounts.filter_map(move |(index, mount)| match mount {
            Reference::Here(mount) => Some((list.then(index), &**mount)),
            Reference::Name(_) => None,
        })
    });
    let found = named.find(|(_, mount)| is_it(mount)).or_else(|| in_place.find(|(_, mount)| is_it(mount)));
    found.map(|(at, _)| Place::value(at.then("source")))
}
