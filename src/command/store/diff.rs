//! `runner store diff`: the files that differ between two layers or images.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::location::StoreLocation;
use crate::command::command_error::CommandError;
use crate::command::command_error::store_error;
use crate::command::console::print;
use crate::command::console::print_json;
use crate::command::naming::named;
use crate::difference::{Aspect, Difference, DifferenceError, DifferenceKind, between_images};
use crate::error::{Error, Exit};
use crate::report::difference_line;
use crate::store::LayerPin;

/// One of the two images: its file and, if the store has it, the lock that protects it from removal.
struct Image {
    path: PathBuf,
    _lock: Option<LayerPin>,
}

/// Prints each file that differs.
pub fn diff(location: &StoreLocation, names: [&str; 2], as_json: bool) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        let hint = "run it with sudo, or in a container with --privileged".to_owned();
        return Err(Error::new(Exit::Host, "cannot mount the images: that needs root").with_hint(Some(hint)).into());
    }
    let [first, second] = [image(location, names[0])?, image(location, names[1])?];
    let differences = between_images(&first.path, &second.path).map_err(of_difference)?;
    if as_json {
        return print_json(&json!({ "differences": differences.iter().map(as_value).collect::<Vec<_>>() }));
    }
    let mut text: String = differences.iter().map(difference_line).collect();
    text.push_str(&match differences.len() {
        0 => "nothing differs\n".to_owned(),
        1 => "1 file differs\n".to_owned(),
        many => format!("{many} files differ\n"),
    });
    print(text.as_bytes())
}

/// Returns the image of this name. A name with a slash, or one that no layer has, may be a file.
fn image(location: &StoreLocation, name: &str) -> Result<Image, Error> {
    let path = Path::new(name);
    if name.contains('/') && path.is_file() {
        return Ok(Image { path: path.to_owned(), _lock: None });
    }
    let found = location.facts().and_then(|(store, facts)| Ok((store, named(&facts.inventory, name)?)));
    let (store, digest) = match found {
        Err(_) if path.is_file() => return Ok(Image { path: path.to_owned(), _lock: None }),
        Err(error) if error.exit() == Exit::Usage => {
            let hint = error.hint().map(str::to_owned);
            return Err(Error::new(Exit::Usage, format!("{error}, and `{name}` is not a file")).with_hint(hint));
        }
        found => found?,
    };
    let pin = store.pin_layer(&digest).map_err(store_error)?;
    let pin =
        pin.ok_or_else(|| Error::new(Exit::Host, format!("the layer {digest} has just been removed from the store")))?;
    Ok(Image { path: pin.path().to_owned(), _lock: Some(pin) })
}

fn of_difference(error: DifferenceError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, error).with_hint(hint)
}

fn as_value(difference: &Difference) -> Value {
    let path = Path::new("/").join(&difference.path).display().to_string();
    match &difference.how {
        DifferenceKind::Added(kind) => json!({ "path": path, "how": "added", "type": kind.to_string() }),
        DifferenceKind::Removed(kind) => json!({ "path": path, "how": "removed", "type": kind.to_string() }),
        DifferenceKind::Changed(aspects) => {
            let aspects: Vec<Value> =
                aspects.iter().map(|aspect| json!({ "aspect": name(aspect), "text": aspect.to_string() })).collect();
            json!({ "path": path, "how": "changed", "aspects": aspects })
        }
    }
}

fn name(aspect: &Aspect) -> &'static str {
    match aspect {
        Aspect::Type(..) => "type",
        Aspect::Content { .. } | Aspect::Target(..) | Aspect::Device(..) => "content",
        Aspect::Replaces(_) => "replaces",
        Aspect::Mode(..) => "mode",
        Aspect::Owner(..) => "owner",
        Aspect::Time(..) => "time",
        Aspect::Links(..) => "links",
        Aspect::Attributes(_) => "attributes",
    }
}
