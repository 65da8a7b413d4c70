//! `runner validate`: the check of a manifest.

use super::absent_secrets;
use super::analysis::Analysis;
use super::command_error::CommandError;
use super::console::{counted, print, warn};
use super::effective_settings::settings;
use super::manifest_file::ManifestFile;
use crate::cli::{Cli, ManifestArgs};
use crate::error::error_chain_with_hint;
use crate::named_paths::{Confinement, binds_that_show_store};
use crate::settings::{EMBEDDED, Partial};
use crate::warning::Warning;

/// Checks the manifest, warns of everything that would disturb a build on this host, and prints the numbers of containers
/// and steps.
pub fn validate(cli: &Cli, args: &ManifestArgs) -> Result<(), CommandError> {
    let settings = settings(Partial { store: cli.store.clone(), ..Partial::default() }, &args.manifest)?;
    let ManifestFile { path, build, .. } = ManifestFile::load(&args.manifest, &args.sets)?;
    let store = std::path::absolute(&settings.store).unwrap_or_else(|_| settings.store.clone());
    // If the binds cannot be looked at now, a build reports them.
    let external = (settings.runtime != EMBEDDED).then_some(settings.runtime.as_str());
    for (source, refused) in binds_that_show_store(&build, &store, &Confinement::of(external)).unwrap_or_default() {
        warn(&match refused {
            Some(error) => Warning::BuildRefused { why: error_chain_with_hint(&error, error.hint()) },
            None => Warning::StoreInBind { source, store: store.clone() },
        });
    }
    absent_secrets::warn_of(&build);
    Analysis::new(&build, &[]).order_warnings().iter().for_each(|warning| warn(warning));
    let (containers, steps) = (counted(build.containers.len(), "container"), counted(build.steps.len(), "step"));
    print(format!("{}: {containers}, {steps}: nothing wrong\n", path.display()).as_bytes())
}
