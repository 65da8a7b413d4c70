//! Text → [`Manifest`], and if it does not fit, every problem that can be told without knowing what it means.

use std::collections::BTreeMap;

use super::gaps::UnknownPaths;
use super::heal::heal;
use super::prepare::prepare;
use super::{Manifest, yaml};
use crate::diagnostic::{Problem, YamlPlaces};

/// A larger manifest is refused: 4 MiB.
pub const LARGEST: usize = 4 << 20;

/// Why a text is no manifest.
#[derive(Debug)]
pub struct Broken {
    /// At least one.
    pub problems: Vec<Problem>,
    /// What could be read all the same, and what is missing of it; `None` if the text is not YAML.
    pub rest: Option<Box<(Manifest, UnknownPaths)>>,
}

/// Reads a manifest. `sets` overrides its variables.
pub fn parse(text: &str, sets: &BTreeMap<String, String>) -> Result<Manifest, Broken> {
    if text.len() > LARGEST {
        return Err(Broken { problems: vec![too_large()], rest: None });
    }
    let not_yaml = |problem: Box<Problem>| Broken { problems: vec![*problem], rest: None };
    let mut document = yaml::read(text).map_err(not_yaml)?;
    let mut gaps = UnknownPaths::none();
    let mut problems = prepare(&mut document.value, sets, &mut gaps);
    if problems.is_empty() && !document.doubled {
        if let Ok(manifest) = serde_yaml::from_value(document.value) {
            return Ok(manifest);
        }
        // The tree went into the attempt. Only a broken manifest pays for a second one.
        document = yaml::read(text).map_err(not_yaml)?;
        problems = prepare(&mut document.value, sets, &mut gaps);
    }
    if document.doubled {
        problems.extend(doubled(text));
    }
    let (manifest, more) = heal(document.value, &mut gaps);
    problems.extend(more);
    Err(Broken { problems, rest: Some(Box::new((manifest, gaps))) })
}

/// The problem of a manifest over [`LARGEST`].
pub fn too_large() -> Problem {
    Problem::new(crate::diagnostic::Place::Nowhere, format!("the manifest is larger than {} MiB", LARGEST >> 20))
        .help("a manifest is a few kilobytes: is this the right file?")
}

fn doubled(text: &str) -> Vec<Problem> {
    let places = YamlPlaces::read(text);
    let problems: Vec<_> = places
        .doubled()
        .iter()
        .map(|doubled| {
            let key = text[doubled.second.clone()].trim_matches(['"', '\'']);
            Problem::new(doubled.second.clone(), format!("the key `{key}` is written twice"))
                .label("again here")
                .related(doubled.first.clone(), "first written here")
                .help("keep one of them")
        })
        .collect();
    if problems.is_empty() {
        // Keys that are not text can be equal without looking equal (1 and 0x1).
        return vec![Problem::new(0..0, "a key is written twice in one map")];
    }
    problems
}
