//! `runner doctor`: the capabilities that this host has and lacks.

use std::path::Path;

use super::command_error::CommandError;
use super::console::{columns, print};
use super::effective_settings::settings_with_warning;
use crate::cli::Cli;
use crate::doctor;
use crate::error::Exit;
use crate::settings::Partial;

/// Prints all checks; ends with [`Exit::Host`] if a build is not possible here.
pub fn doctor(cli: &Cli) -> Result<(), CommandError> {
    let flags = Partial { store: cli.store.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, Path::new("build.yaml"))?;
    let checks = doctor::checks(&settings.store, &settings.runtime);
    print(doctor::text(&checks, columns()).as_bytes())?;
    match doctor::exit(&checks) {
        Exit::Done => Ok(()),
        exit => Err(exit.into()),
    }
}
