//! Finds the thing that a name on the command line of `runner diff` refers to.

use std::path::{Path, PathBuf};

use super::stored::{self, StoredRoot};
use crate::command::naming::named;
use crate::error::{Error, Exit};
use crate::model::{Action, Build, Step};
use crate::store::{Inventory, Store};

/// An image to compare.
#[derive(Debug)]
pub enum Operand {
    /// A directory of the host.
    Directory(PathBuf),
    /// An image file.
    Image(PathBuf),
    /// A result in the store, and its name.
    Stored(String, Box<StoredRoot>),
}

/// Returns whether a name is a path and can be nothing else: names of steps and layers may have slashes too, but no file has
/// these names.
pub fn is_path(name: &str) -> bool {
    name.contains('/') && Path::new(name).exists()
}

/// Returns the image of a name: a path with a slash, a snapshot step of the manifest, a layer of the store, or another path.
///
/// # Errors
/// With [`Exit::Usage`], if it is none of these.
pub fn find(
    name: &str,
    build: Option<&Build>,
    store: Option<&Store>,
    inventory: &Inventory,
    place: &Path,
) -> Result<Operand, Error> {
    if is_path(name) {
        return Ok(of_path(name));
    }
    if let Some(build) = build
        && let Some((step, back)) = step_and_age(name)
        && let Some(step) = snapshot_step(build, step)
    {
        let container = &build.container(step.container).name;
        let results = |store| stored::results(store, inventory, &build.name, container, &step.name);
        let mut results = store.map(results).unwrap_or_default();
        if back < results.len() {
            return Ok(Operand::Stored(name.to_owned(), Box::new(results.swap_remove(back))));
        }
        let count = match results.len() {
            0 => "no result".to_owned(),
            1 => "one result".to_owned(),
            many => format!("{many} different results"),
        };
        let message = format!("cannot find `{name}`: the store has {count} of the snapshot `{}`", step.name);
        return Err(Error::new(Exit::Usage, message).with_hint(Some("build it with `runner apply`".to_owned())));
    }
    let Some(store) = store else {
        if Path::new(name).exists() {
            return Ok(of_path(name));
        }
        let message = format!(
            "cannot find `{name}`: it is not a file or directory, and there is no store at {}",
            place.display()
        );
        let hint = "name an image or a directory, or choose another store with `--store`; `runner apply` creates one";
        return Err(Error::new(Exit::Usage, message).with_hint(Some(hint.to_owned())));
    };
    match named(inventory, name) {
        Ok(digest) => {
            let root = StoredRoot::of_layer(store, inventory, digest);
            Ok(Operand::Stored(name.to_owned(), Box::new(root)))
        }
        Err(_) if Path::new(name).exists() => Ok(of_path(name)),
        Err(error) => {
            let hint = error.hint().map(str::to_owned);
            Err(Error::new(error.exit(), format!("{error}, and `{name}` is not a file or directory")).with_hint(hint))
        }
    }
}

fn of_path(name: &str) -> Operand {
    let path = PathBuf::from(name);
    if path.is_dir() { Operand::Directory(path) } else { Operand::Image(path) }
}

/// Returns the snapshot step of this name.
pub fn snapshot_step<'b>(build: &'b Build, name: &str) -> Option<&'b Step> {
    build.steps.iter().find(|step| step.name == name && matches!(step.action, Action::Snapshot(_)))
}

/// Splits `STEP~N` into the step and the number of results to go back: 1 for `STEP~`, 0 without a `~`.
fn step_and_age(name: &str) -> Option<(&str, usize)> {
    match name.split_once('~') {
        None => Some((name, 0)),
        Some((step, "")) => Some((step, 1)),
        Some((step, age)) => Some((step, age.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_goes_back_by_results() {
        for (name, found) in [
            ("sdk", Some(("sdk", 0))),
            ("sdk~", Some(("sdk", 1))),
            ("sdk~0", Some(("sdk", 0))),
            ("sdk~12", Some(("sdk", 12))),
            ("sdk~x", None),
            ("sdk~~", None),
            ("sdk~-1", None),
        ] {
            assert_eq!(step_and_age(name), found);
        }
    }
}
