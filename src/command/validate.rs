//! `runner validate`: the check of a manifest.

use super::command_error::CommandError;
use super::console::{counted, print, print_to_stderr, style};
use super::effective_settings::settings;
use super::manifest_file::ManifestFile;
use super::manifest_warnings::warnings;
use crate::cli::{Cli, ManifestArgs};
use crate::diagnostic::render_warnings;
use crate::model::Role;
use crate::named_paths::Confinement;
use crate::settings::{EMBEDDED, Partial};

/// Checks the manifest, warns of everything that would disturb a build on this host, and prints the numbers of containers,
/// steps and warnings.
pub fn validate(cli: &Cli, args: &ManifestArgs) -> Result<(), CommandError> {
    let settings = settings(Partial { store: cli.store.clone(), ..Partial::default() }, &args.manifest)?;
    let file = ManifestFile::load(&args.manifest, &args.sets)?;
    let store = std::path::absolute(&settings.store).unwrap_or_else(|_| settings.store.clone());
    let external = (settings.runtime != EMBEDDED).then_some(settings.runtime.as_str());
    let warnings = warnings(&file, &args.sets.to_map(), &store, &Confinement::of(external));
    let path = file.path.display().to_string();
    print_to_stderr(&render_warnings(&warnings, &path, &file.text, style()));
    let steps = file.build.steps.iter().filter(|step| step.role != Role::TestedState).count();
    let (containers, steps) = (counted(file.build.own_containers().count(), "container"), counted(steps, "step"));
    let found = if warnings.is_empty() { "nothing wrong".to_owned() } else { counted(warnings.len(), "warning") };
    print(format!("{path}: {containers}, {steps}: {found}\n").as_bytes())
}
