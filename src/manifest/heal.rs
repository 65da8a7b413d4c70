//! A tree that does not fit the types → as much of a manifest as does fit, and a problem for each part that does not.
//!
//! serde stops at the first mistake. So each mistake is taken out of the tree and it is tried again; by container, step,
//! mount and device, so that the time does not grow with the square of the manifest.

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::gaps::UnknownPaths;
use super::habits::habit;
use super::prepare::empty_element;
use super::quotes::fix_of_map;
use super::{Manifest, Named};
use crate::diagnostic::{Path, Place, Problem, Segment, nearest};

/// More mistakes in one container, step, mount or device are not told one by one.
const MAX_TRIES: usize = 50;

/// Reads what can be read of `tree`.
pub(super) fn heal(tree: Value, gaps: &mut UnknownPaths) -> (Manifest, Vec<Problem>) {
    let mut healer = Healer { problems: Vec::new(), gaps };
    let Value::Mapping(mut top) = tree else {
        if !healer.gaps.covers(&Path::top()) {
            let found = match tree {
                Value::Sequence(_) => "sequence",
                Value::String(_) => "string",
                _ => "number",
            };
            let told = format!("invalid type: {found}, expected a map with version, containers and steps");
            healer.problems.push(wrong_type(Path::top(), &told));
            healer.gaps.add(Path::top());
        }
        return (Manifest::default(), healer.problems);
    };
    let vars = top.remove("vars");
    let mounts = top.remove("mounts");
    let devices = top.remove("devices");
    let containers = top.remove("containers");
    let steps = top.remove("steps");
    let mut manifest: Manifest = healer.piece(Value::Mapping(top), &Path::top());
    manifest.vars = healer.named("vars", vars);
    manifest.mounts = healer.named("mounts", mounts);
    manifest.devices = healer.named("devices", devices);
    manifest.containers = healer.named("containers", containers);
    manifest.steps = match steps {
        None => None,
        Some(Value::Sequence(steps)) => {
            let path = Path::top().then("steps");
            Some(steps.into_iter().enumerate().map(|(n, step)| healer.piece(step, &path.then(n))).collect())
        }
        Some(other) => healer.piece(other, &Path::top().then("steps")),
    };
    (manifest, healer.problems)
}

struct Healer<'g> {
    problems: Vec<Problem>,
    gaps: &'g mut UnknownPaths,
}

impl Healer<'_> {
    fn named<T: DeserializeOwned + Default>(&mut self, key: &str, value: Option<Value>) -> Option<Named<T>> {
        let path = Path::top().then(key);
        match value? {
            Value::Mapping(entries) => {
                let entries = entries.into_iter().filter_map(|(name, value)| {
                    let name = name.as_str()?.to_owned();
                    let piece = self.piece(value, &path.then(name.as_str()));
                    Some((name, piece))
                });
                Some(Named(entries.collect()))
            }
            other => Some(self.piece(other, &path)),
        }
    }

    /// Reads one part, at `path`, without what does not fit.
    fn piece<T: DeserializeOwned + Default>(&mut self, mut value: Value, path: &Path) -> T {
        for _ in 0..MAX_TRIES {
            let error = match serde_path_to_error::deserialize(&value) {
                Ok(piece) => return piece,
                Err(error) => error,
            };
            let inside: Vec<Segment> = error.path().iter().filter_map(segment).collect();
            let told = error.into_inner().to_string();
            let whole: Path = path.segments().iter().chain(&inside).cloned().collect();
            if !self.gaps.covers(&whole) {
                self.gaps.add(whole.clone());
                let problem = match unknown_field(&told) {
                    Some((key, known)) => self.unknown_key(&value, &inside, whole.clone(), key, &known),
                    None => self.quotes(&value, &inside, wrong_type(whole.clone(), &told)),
                };
                self.problems.push(problem);
            }
            if !take_away(&mut value, &inside, &whole) {
                break;
            }
        }
        self.gaps.add(path.clone());
        T::default()
    }

    /// With the quotes that the value was to have, if it is a map only for want of them.
    fn quotes(&self, part: &Value, inside: &[Segment], problem: Problem) -> Problem {
        let key = match inside.last() {
            Some(Segment::Key(key)) => Some(key.as_str()),
            _ => None,
        };
        match node(part, inside).and_then(|found| fix_of_map(key, found)) {
            Some(help) if problem.message.ends_with("must be a string") => problem.help(help),
            _ => problem,
        }
    }

    /// Of a key that no map of this kind has. What it was most likely meant to be is then not missing as well.
    fn unknown_key(&mut self, part: &Value, inside: &[Segment], path: Path, key: &str, known: &[&str]) -> Problem {
        let around = path.parent().unwrap_or_default();
        let problem = Problem::new(Place::key(path), format!("unknown key `{key}`")).label("not known here");
        if key == "<<" {
            self.gaps.add(around);
            return problem.help("merge keys are not taken: write the keys out, or use an alias for the whole value");
        }
        if let Some(help) = habit(key, known) {
            // A container that has an `image` has what stands for its root.
            if matches!(key, "image" | "build" | "from") {
                self.gaps.add(around.then("rootfs"));
            } else if matches!(key, "command" | "entrypoint" | "script") {
                self.gaps.add(around.then("run"));
            }
            return problem.help(help);
        }
        let Some(near) = nearest(key, known.iter().copied()) else {
            return problem.help(format!("the keys here are {}", known.join(", ")));
        };
        let map = inside.split_last().and_then(|(_, parents)| node(part, parents));
        if map.is_some_and(|map| map.get(near).is_none()) {
            self.gaps.add(around.then(near));
        }
        problem.help(format!("did you mean `{near}`?"))
    }
}

fn segment(segment: &serde_path_to_error::Segment) -> Option<Segment> {
    match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    }
}

/// Takes the node at `inside` out of `value`; whether that changed something.
fn take_away(value: &mut Value, inside: &[Segment], whole: &Path) -> bool {
    let Some((last, parents)) = inside.split_last() else {
        // The part itself: an empty map has no key that could be wrong.
        let changed = !matches!(value, Value::Mapping(map) if map.is_empty());
        *value = Value::Mapping(Mapping::new());
        return changed;
    };
    let Some(node) = node_mut(value, parents) else { return false };
    match (last, node) {
        (Segment::Key(key), Value::Mapping(map)) => map.remove(key.as_str()).is_some(),
        (Segment::Index(index), Value::Sequence(list)) => {
            let Some(item) = list.get_mut(*index) else { return false };
            let empty = empty_element(whole);
            if *item == empty {
                // Nothing that stands for an element fits here: the list goes.
                return take_away(value, parents, whole);
            }
            *item = empty;
            true
        }
        _ => false,
    }
}

fn node<'v>(value: &'v Value, segments: &[Segment]) -> Option<&'v Value> {
    segments.iter().try_fold(value, |node, segment| match segment {
        Segment::Key(key) => node.get(key.as_str()),
        Segment::Index(index) => node.get(*index),
    })
}

fn node_mut<'v>(value: &'v mut Value, segments: &[Segment]) -> Option<&'v mut Value> {
    segments.iter().try_fold(value, |node, segment| match segment {
        Segment::Key(key) => node.get_mut(key.as_str()),
        Segment::Index(index) => node.get_mut(*index),
    })
}

/// The key and the known keys, if serde told of an unknown one.
fn unknown_field(told: &str) -> Option<(&str, Vec<&str>)> {
    let (key, known) = told.strip_prefix("unknown field `")?.split_once('`')?;
    Some((key, known.split('`').skip(1).step_by(2).collect()))
}

/// serde's words for a value that does not fit, in ours.
fn wrong_type(path: Path, told: &str) -> Problem {
    let parts = |lead| told.strip_prefix(lead)?.rsplit_once(", expected ");
    let (found, expected, in_range) = match (parts("invalid type: "), parts("invalid value: ")) {
        (Some((found, expected)), _) => (found, expected, true),
        (None, Some((found, expected))) => (found, expected, false),
        (None, None) => return Problem::new(Place::value(path), told),
    };
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other => other,
    };
    let kind = found.split(['`', '"']).next().unwrap_or(found).trim();
    let found = match kind {
        "integer" => "a whole number",
        "floating point" => "a number with a point",
        "string" => "a string",
        "boolean" => "a boolean",
        "sequence" => "a list",
        "map" => "a map",
        other => other,
    };
    let subject = match path.segments().last() {
        Some(Segment::Key(key)) => format!("`{key}`"),
        Some(Segment::Index(_)) => "this element".to_owned(),
        None => "the manifest".to_owned(),
    };
    let problem = Problem::new(Place::value(path), format!("{subject} must be {expected}"));
    let problem = problem.label(if in_range { format!("this is {found}") } else { "out of range".to_owned() });
    match (kind, expected) {
        ("string", "a list") if subject == "`exec`" => {
            problem.help("write a list, such as [make, install], or `run` for a command of the shell")
        }
        ("integer" | "floating point" | "boolean", "a string") => problem.help("put it in quotes"),
        ("string", "true or false") => problem.help("write true or false, without quotes"),
        ("string", "a list") => problem.help("write a list: [ … ]"),
        ("integer", expected) if expected.starts_with("an octal") => problem.help("put it in quotes, with a leading 0"),
        _ => problem,
    }
}
