//! Parses a text as a [`Manifest`]; if it is broken, reports every problem that can be found without its meaning.

use std::collections::BTreeMap;

use super::recover::recover;
use super::substitute::substitute;
use super::unknown_paths::UnknownPaths;
use super::{Manifest, yaml};
use crate::diagnostic::{Problem, YamlPlaces};

/// The largest manifest: 4 MiB.
pub const MAX_BYTES: usize = 4 << 20;

/// The problems of a broken manifest.
#[derive(Debug)]
pub struct Broken {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
    /// The parts that could be read, and the unknown ones; `None` if the text is not YAML.
    pub rest: Option<Box<(Manifest, UnknownPaths)>>,
}

/// Reads a manifest. `sets` overrides its variables.
pub fn parse(text: &str, sets: &BTreeMap<String, String>) -> Result<Manifest, Broken> {
    if text.len() > MAX_BYTES {
        return Err(Broken { problems: vec![too_large()], rest: None });
    }
    let not_yaml = |problem: Box<Problem>| Broken { problems: vec![*problem], rest: None };
    let mut document = yaml::read(text).map_err(not_yaml)?;
    let mut unknown_paths = UnknownPaths::none();
    let mut problems = substitute(&mut document.value, sets, &mut unknown_paths);
    if problems.is_empty() && !document.has_duplicate_keys {
        if let Ok(manifest) = serde_yaml::from_value(document.value) {
            return Ok(manifest);
        }
        // The attempt consumed the tree. Only a broken manifest is read a second time.
        document = yaml::read(text).map_err(not_yaml)?;
        problems = substitute(&mut document.value, sets, &mut unknown_paths);
    }
    if document.has_duplicate_keys {
        problems.extend(duplicate_keys(text));
    }
    let (manifest, more) = recover(document.value, &mut unknown_paths);
    problems.extend(more);
    Err(Broken { problems, rest: Some(Box::new((manifest, unknown_paths))) })
}

/// Returns the problem of a manifest larger than [`MAX_BYTES`].
pub fn too_large() -> Problem {
    Problem::new(crate::diagnostic::Place::Nowhere, format!("the manifest is larger than {} MiB", MAX_BYTES >> 20))
        .help("a manifest is a few kilobytes: is this the right file?")
}

fn duplicate_keys(text: &str) -> Vec<Problem> {
    let places = YamlPlaces::read(text);
    let problems: Vec<_> = places
        .duplicate_keys()
        .iter()
        .map(|duplicate_keys| {
            let key = text[duplicate_keys.second.clone()].trim_matches(['"', '\'']);
            Problem::new(duplicate_keys.second.clone(), format!("the key `{key}` is written twice"))
                .label("again here")
                .related(duplicate_keys.first.clone(), "first written here")
                .help("keep one of them")
        })
        .collect();
    if problems.is_empty() {
        // Keys that are not text can be equal with different spellings (1 and 0x1).
        return vec![Problem::new(0..0, "a key is written twice in one map")];
    }
    problems
}
