//! `runner diff`: what differs between two images, for a reviewer.

mod operand;
mod roots;
mod sources;
mod stored;

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;

use super::command_error::{CommandError, store_error};
use super::console::print;
use super::effective_settings::settings_with_warning;
use super::manifest_file::ManifestFile;
use crate::cli::{Cli, DiffArgs, DiffFormat};
use crate::error::{Error, Exit};
use crate::image::{self, ImageDifference, Images, Side};
use crate::model::{Action, Build, Step};
use crate::report::image_difference;
use crate::settings::{Partial, Settings};
use crate::store::{Inventory, Store};

use operand::Operand;
use roots::Roots;
use stored::StoredRoot;

/// The manifest of a command line that names none.
const MANIFEST: &str = "build.yaml";

/// The version of the JSON document.
const VERSION: u32 = 1;

/// Prints what differs between two images.
pub fn diff(cli: &Cli, args: &DiffArgs) -> Result<(), CommandError> {
    let path = args.manifest.as_deref().unwrap_or(Path::new(MANIFEST));
    let settings = settings_with_warning(Partial { store: cli.store.clone(), ..Partial::default() }, path)?;
    let known = Known::new(args, path, &settings)?;
    let images = match (&args.old, &args.new) {
        (Some(old), Some(new)) => vec![known.pair(None, [known.operand(old)?, known.operand(new)?])?],
        (Some(name), None) => {
            let results = known.results_of(name)?;
            vec![known.last_two(name, results)?.ok_or_else(|| single_result(name))?]
        }
        (None, _) => known.all_steps()?,
    };
    let images = Images { version: VERSION, different: images.iter().any(|image| image.different), images };
    let text = match args.format {
        DiffFormat::Text => image_difference::text(&images),
        DiffFormat::Markdown => image_difference::markdown(&images),
        DiffFormat::Json => image_difference::json(&images),
    };
    print(text.as_bytes())?;
    if args.exit_code && images.different { Err(CommandError::Code(ExitCode::from(1))) } else { Ok(()) }
}

/// The things that names on the command line may refer to.
struct Known<'a> {
    settings: &'a Settings,
    store: Option<Store>,
    inventory: Inventory,
    /// None where there is none, or it cannot be read.
    manifest: Option<ManifestFile>,
    /// The reason why the manifest in this directory cannot be read, which matters only to names that are no paths.
    unreadable: Cell<Option<CommandError>>,
}

impl<'a> Known<'a> {
    /// Reads the store and the manifest, unless two paths are compared.
    fn new(args: &DiffArgs, path: &Path, settings: &'a Settings) -> Result<Self, CommandError> {
        let are_paths = [&args.old, &args.new].into_iter().all(|name| name.as_deref().is_some_and(operand::is_path));
        if are_paths && args.manifest.is_none() {
            let (store, inventory) = (None, Inventory::default());
            return Ok(Self { settings, store, inventory, manifest: None, unreadable: Cell::default() });
        }
        let store = Store::open_if_any(&settings.store).map_err(store_error)?;
        let inventory = store.as_ref().map_or(Ok(Inventory::default()), Store::inventory).map_err(store_error)?;
        let is_needed = args.manifest.is_some() || args.new.is_none();
        let (manifest, unreadable) = match (is_needed || path.exists()).then(|| ManifestFile::load(path, &args.sets)) {
            Some(Err(error)) if is_needed => return Err(error),
            Some(Err(error)) => (None, Some(error)),
            Some(Ok(manifest)) => (Some(manifest), None),
            None => (None, None),
        };
        Ok(Self { settings, store, inventory, manifest, unreadable: Cell::new(unreadable) })
    }

    fn build(&self) -> Option<&Build> {
        self.manifest.as_ref().map(|manifest| &manifest.build)
    }

    fn operand(&self, name: &str) -> Result<Operand, CommandError> {
        let found = operand::find(name, self.build(), self.store.as_ref(), &self.inventory, &self.settings.store);
        match (found, self.unreadable.take()) {
            (Err(_) | Ok(Operand::Stored(..)), Some(error)) => Err(error),
            (found, unreadable) => {
                self.unreadable.set(unreadable);
                Ok(found?)
            }
        }
    }

    /// Returns the results of a snapshot step, the last one first.
    fn results_of(&self, name: &str) -> Result<Vec<StoredRoot>, Error> {
        let Some(build) = self.build() else { return Ok(Vec::new()) };
        let Some(step) = operand::snapshot_step(build, name) else {
            let hint = format!("name the image to compare it with: `runner diff {name} OTHER`");
            let message =
                format!("`{name}` is not a snapshot step of the manifest, so it has no result before the last one");
            return Err(Error::new(Exit::Usage, message).with_hint(Some(hint)));
        };
        Ok(self.results(build, step))
    }

    fn results(&self, build: &Build, step: &Step) -> Vec<StoredRoot> {
        let container = &build.container(step.container).name;
        let Some(store) = &self.store else { return Vec::new() };
        stored::results(store, &self.inventory, &build.name, container, &step.name)
    }

    /// Compares the last result of a step with the one before; none where there are no two.
    fn last_two(&self, name: &str, results: Vec<StoredRoot>) -> Result<Option<ImageDifference>, CommandError> {
        let mut results = results.into_iter();
        let (Some(new), Some(old)) = (results.next(), results.next()) else { return Ok(None) };
        let operands = [old, new].map(|root| Operand::Stored(name.to_owned(), Box::new(root)));
        self.pair(Some(name.to_owned()), operands).map(Some)
    }

    /// Compares the last results of all snapshots that have an output; of all snapshots, if none has one.
    fn all_steps(&self) -> Result<Vec<ImageDifference>, CommandError> {
        let Some(build) = self.build() else { return Ok(Vec::new()) };
        let snapshots = |with_output: bool| {
            build.steps.iter().filter(move |step| match &step.action {
                Action::Snapshot(snapshot) => !with_output || snapshot.output.is_some(),
                _ => false,
            })
        };
        let mut steps: Vec<&Step> = snapshots(true).collect();
        if steps.is_empty() {
            steps = snapshots(false).collect();
        }
        let mut images = Vec::new();
        for step in steps {
            let results = self.results(build, step);
            let Some(last) = results.first() else { continue };
            let side = last.side(&step.name);
            images.push(match self.last_two(&step.name, results)? {
                Some(difference) => difference,
                None => ImageDifference::without_old(&step.name, side),
            });
        }
        if images.is_empty() {
            let message =
                format!("the store at {} has no result of a snapshot of this manifest", self.settings.store.display());
            let hint = "build it with `runner apply`, or name another store with `--store`".to_owned();
            return Err(Error::new(Exit::Usage, message).with_hint(Some(hint)).into());
        }
        Ok(images)
    }

    /// Compares two images.
    fn pair(&self, step: Option<String>, operands: [Operand; 2]) -> Result<ImageDifference, CommandError> {
        let roots = Roots::open(operands, self.store.as_ref(), self.settings, self.build())?;
        let compared = image::between(step, roots.roots, roots.warnings);
        let closed = roots.mounts.close();
        let difference = compared.map_err(|error| {
            let hint = error.hint();
            Error::new(Exit::Host, error).with_hint(hint)
        })?;
        closed?;
        Ok(difference)
    }
}

fn single_result(name: &str) -> Error {
    let message = format!("the store has no two results of the snapshot `{name}`, so there is nothing to compare");
    let hint = format!(
        "build it with `runner apply`, before and after a change; or name both images: `runner diff OLD {name}`"
    );
    Error::new(Exit::Usage, message).with_hint(Some(hint))
}

impl ImageDifference {
    /// Returns the description of a step that was built once.
    fn without_old(step: &str, new: Side) -> Self {
        Self {
            step: Some(step.to_owned()),
            old: None,
            new,
            different: false,
            warnings: vec![
                "the store has one result of this snapshot, so there is nothing to compare it with".to_owned(),
            ],
            packages: image::PackageChanges::default(),
            privileges: image::Privileges::default(),
            sizes: image::Sizes::default(),
            files: image::FileChanges::default(),
        }
    }
}
