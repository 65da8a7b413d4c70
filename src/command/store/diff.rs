//! `runner store diff`: which files differ between two layers or images, and how.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::site::of_store;
use super::naming::named;
use super::{Place, print_json};
use crate::command::{Stop, print};
use crate::difference::{Aspect, Difference, DifferenceError, How, between_images};
use crate::error::{Error, Exit};
use crate::report::sanitize;
use crate::store::Held;

/// One of the two: its file, which is held if it is the store's.
struct Image {
    path: PathBuf,
    _held: Option<Held>,
}

/// Tells each file that differs.
pub fn diff(place: &Place, names: [&str; 2], as_json: bool) -> Result<(), Stop> {
    if !rustix::process::geteuid().is_root() {
        let hint = "run it with sudo, or in a container with --privileged".to_owned();
        return Err(Error::new(Exit::Host, "cannot mount the images: that needs root").with_hint(Some(hint)).into());
    }
    let [first, second] = [image(place, names[0])?, image(place, names[1])?];
    let differences = between_images(&first.path, &second.path).map_err(of_difference)?;
    if as_json {
        return print_json(&json!({ "differences": differences.iter().map(as_value).collect::<Vec<_>>() }));
    }
    let mut text: String = differences.iter().map(told).collect();
    text.push_str(&match differences.len() {
        0 => "nothing differs\n".to_owned(),
        1 => "1 file differs\n".to_owned(),
        many => format!("{many} files differ\n"),
    });
    print(text.as_bytes())
}

/// A word with a slash in it, or that names no layer, may be a file.
fn image(place: &Place, name: &str) -> Result<Image, Error> {
    let path = Path::new(name);
    if name.contains('/') && path.is_file() {
        return Ok(Image { path: path.to_owned(), _held: None });
    }
    let found = place.known().and_then(|(store, known)| Ok((store, named(&known.inventory, name)?)));
    let (store, digest) = match found {
        Err(_) if path.is_file() => return Ok(Image { path: path.to_owned(), _held: None }),
        Err(error) if error.exit() == Exit::Usage => {
            let hint = error.hint().map(str::to_owned);
            return Err(Error::new(Exit::Usage, format!("{error}, and `{name}` is no file")).with_hint(hint));
        }
        found => found?,
    };
    let held = store.hold_layer(&digest).map_err(of_store)?;
    let held =
        held.ok_or_else(|| Error::new(Exit::Host, format!("the layer {digest} has just been removed from the store")))?;
    Ok(Image { path: held.path().to_owned(), _held: Some(held) })
}

fn of_difference(error: DifferenceError) -> Error {
    let hint = error.hint();
    Error::new(Exit::Host, error).with_hint(hint)
}

/// `+` added, `-` removed, `~` changed.
pub fn told(difference: &Difference) -> String {
    let path = shown(&difference.path);
    match &difference.how {
        How::Added(kind) => format!("+ {path}  {kind}\n"),
        How::Removed(kind) => format!("- {path}  {kind}\n"),
        How::Changed(aspects) => {
            let aspects: Vec<String> =
                aspects.iter().map(|aspect| sanitize(&aspect.to_string()).into_owned()).collect();
            format!("~ {path}  {}\n", aspects.join("; "))
        }
    }
}

/// From the root on, and on one line whatever is in its name.
fn shown(path: &Path) -> String {
    let text = Path::new("/").join(path).display().to_string();
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn as_value(difference: &Difference) -> Value {
    let path = Path::new("/").join(&difference.path).display().to_string();
    match &difference.how {
        How::Added(kind) => json!({ "path": path, "how": "added", "type": kind.to_string() }),
        How::Removed(kind) => json!({ "path": path, "how": "removed", "type": kind.to_string() }),
        How::Changed(aspects) => {
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
