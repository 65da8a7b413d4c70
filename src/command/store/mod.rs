//! `runner store`: what is kept between builds, looked at and cleared away.

mod caches;
mod diff;
mod export;
mod gc;
mod inspect;
mod ls;
mod naming;
mod shown;
mod verify;

pub use diff::told;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::site::of_store;
use super::{Stop, print, settings_with_warning};
use crate::cli::{Cli, StoreCommand};
use crate::error::{Error, Exit};
use crate::escape;
use crate::settings::Partial;
use crate::store::Store;

use shown::Known;

/// Carries out one of its commands. Where there is no store, none is made.
pub fn store(cli: &Cli, command: &StoreCommand) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), ..Partial::default() };
    let path = settings_with_warning(flags, Path::new("build.yaml"))?.store;
    let place = Place { store: Store::open_if_any(&path).map_err(of_store)?, path };
    match command {
        StoreCommand::Ls { json, caches: true } => caches::ls(&place, *json),
        StoreCommand::Ls { json, caches: false } => ls::ls(&place, *json),
        StoreCommand::Inspect { layer, json } => inspect::inspect(&place, layer, *json),
        StoreCommand::Diff { a, b, json } => diff::diff(&place, [a, b], *json),
        StoreCommand::Export { layer, file } => export::export(&place, layer, file),
        StoreCommand::Verify { json } => verify::verify(&place, *json),
        StoreCommand::Gc(args) if args.caches => caches::gc(&place, args),
        StoreCommand::Gc(args) => gc::gc(&place, args),
    }
}

/// Where the store is, or would be.
struct Place {
    path: PathBuf,
    store: Option<Store>,
}

impl Place {
    /// The store and what is in it, for who looks for a layer.
    ///
    /// # Errors
    /// With [`Exit::Usage`] where there is no store.
    fn known(&self) -> Result<(&Store, Known), Error> {
        let none = || Error::new(Exit::Usage, format!("there is no store at {}", self.path.display()));
        let hint = || Some("choose another with `--store FOLDER`; `runner apply` makes one".to_owned());
        let store = self.store.as_ref().ok_or_else(|| none().with_hint(hint()))?;
        Ok((store, Known::read(store)?))
    }
}

fn print_json(value: &Value) -> Result<(), Stop> {
    print(escape::json(&format!("{value:#}\n")).as_bytes())
}
