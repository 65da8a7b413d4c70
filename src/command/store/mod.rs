//! `runner store`: shows the results that are stored between builds, and removes the unused ones.

mod caches;
mod diff;
mod export;
mod export_form;
mod gc;
mod inspect;
mod location;
mod ls;
mod shown;
mod verify;

use std::path::Path;

use super::command_error::{CommandError, store_error};
use super::effective_settings::settings_with_warning;
use crate::cli::{Cli, StoreCommand};
use crate::settings::Partial;
use crate::store::Store;

use location::StoreLocation;

/// Runs a command of `runner store`. If there is no store, none is created.
pub fn store(cli: &Cli, command: &StoreCommand) -> Result<(), CommandError> {
    let flags = Partial { store: cli.store.clone(), ..Partial::default() };
    let path = settings_with_warning(flags, Path::new("build.yaml"))?.store;
    let location = StoreLocation { store: Store::open_if_any(&path).map_err(store_error)?, path };
    match command {
        StoreCommand::Ls { json, caches: true } => caches::ls(&location, *json),
        StoreCommand::Ls { json, caches: false } => ls::ls(&location, *json),
        StoreCommand::Inspect { layer, json } => inspect::inspect(&location, layer, *json),
        StoreCommand::Diff { a, b, json } => diff::diff(&location, [a, b], *json),
        StoreCommand::Export(args) => match args.format {
            Some(format) => export_form::export(&location, args, format),
            None => export::export(&location, &args.layer, &args.file),
        },
        StoreCommand::Verify { json } => verify::verify(&location, *json),
        StoreCommand::Gc(args) if args.caches => caches::gc(&location, args),
        StoreCommand::Gc(args) => gc::gc(&location, args),
    }
}
