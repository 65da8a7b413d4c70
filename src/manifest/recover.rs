//! Recovery from type errors: reads the parts of a tree that fit the types, with a problem for each value that does
//! not.
//!
//! serde stops at the first mistake. So each mistake is removed from the tree, and reading starts again; by container,
//! step, mount and device, so that the time does not grow with the square of the manifest.

use serde::de::DeserializeOwned;
use serde_yaml::{Mapping, Value};

use super::foreign_keys::replacement;
use super::quotes::fix_of_map;
use super::substitute::empty_element;
use super::unknown_paths::UnknownPaths;
use super::{Manifest, Named};
use crate::diagnostic::{Path, Place, Problem, Segment, nearest};

/// The number of mistakes in one container, step, mount or device that are reported one by one.
const MAX_TRIES: usize = 50;

/// The keys whose texts are words of the manifest, and these.
const WORDS: &[(&str, &str)] = &[
    ("cache", "`ignore`"),
    ("checkpoint", "`off`, `auto` or a time such as `30s`"),
    ("compression", "`zstd`, `gzip`, `xz`, `lz4` or `none`"),
    ("mode", "`layer` or `full`"),
    ("network", "`none` or `host`"),
    ("seccomp", "`default`, `unconfined` or the path of a profile"),
    ("sharing", "`shared` or `locked`"),
];

/// Reads the parts of `tree` that fit.
pub(super) fn recover(tree: Value, unknown_paths: &mut UnknownPaths) -> (Manifest, Vec<Problem>) {
    let mut recovery = Recovery { problems: Vec::new(), unknown_paths };
    let Value::Mapping(mut top) = tree else {
        if !recovery.unknown_paths.covers(&Path::top()) {
            let found = match tree {
                Value::Sequence(_) => "sequence",
                Value::String(_) => "string",
                _ => "number",
            };
            let message = format!("invalid type: {found}, expected a map with version, containers and steps");
            recovery.problems.push(wrong_type(Path::top(), &message));
            recovery.unknown_paths.add(Path::top());
        }
        return (Manifest::default(), recovery.problems);
    };
    let vars = top.remove("vars");
    let mounts = top.remove("mounts");
    let devices = top.remove("devices");
    let containers = top.remove("containers");
    let steps = top.remove("steps");
    let mut manifest: Manifest = recovery.part_of(Value::Mapping(top), &Path::top());
    manifest.vars = recovery.named("vars", vars);
    manifest.mounts = recovery.named("mounts", mounts);
    manifest.devices = recovery.named("devices", devices);
    manifest.containers = recovery.named("containers", containers);
    manifest.steps = match steps {
        None => None,
        Some(Value::Sequence(steps)) => {
            let path = Path::top().then("steps");
            Some(steps.into_iter().enumerate().map(|(n, step)| recovery.part_of(step, &path.then(n))).collect())
        }
        Some(other) => recovery.part_of(other, &Path::top().then("steps")),
    };
    (manifest, recovery.problems)
}

struct Recovery<'g> {
    problems: Vec<Problem>,
    unknown_paths: &'g mut UnknownPaths,
}

impl Recovery<'_> {
    fn named<T: DeserializeOwned + Default>(&mut self, key: &str, value: Option<Value>) -> Option<Named<T>> {
        let path = Path::top().then(key);
        match value? {
            Value::Mapping(entries) => {
                let entries = entries.into_iter().filter_map(|(name, value)| {
                    let name = name.as_str()?.to_owned();
                    let part_of = self.part_of(value, &path.then(name.as_str()));
                    Some((name, part_of))
                });
                Some(Named(entries.collect()))
            }
            other => Some(self.part_of(other, &path)),
        }
    }

    /// Reads one value, at `path`, without the values that do not fit.
    fn part_of<T: DeserializeOwned + Default>(&mut self, mut value: Value, path: &Path) -> T {
        for _ in 0..MAX_TRIES {
            let error = match serde_path_to_error::deserialize(&value) {
                Ok(part_of) => return part_of,
                Err(error) => error,
            };
            let inside: Vec<Segment> = error.path().iter().filter_map(segment).collect();
            let message = error.into_inner().to_string();
            let whole: Path = path.segments().iter().chain(&inside).cloned().collect();
            if !self.unknown_paths.covers(&whole) {
                self.unknown_paths.add(whole.clone());
                let problem = match unknown_field(&message) {
                    Some((key, known)) => self.unknown_key(&value, &inside, whole.clone(), key, &known),
                    None => self.quotes(&value, &inside, wrong_type(whole.clone(), &message)),
                };
                self.problems.push(problem);
            }
            if !remove_node(&mut value, &inside, &whole) {
                break;
            }
        }
        self.unknown_paths.add(path.clone());
        T::default()
    }

    /// Adds the quotes to write to a problem, if the value is a map only because they are missing.
    fn quotes(&self, value: &Value, inside: &[Segment], problem: Problem) -> Problem {
        let key = match inside.last() {
            Some(Segment::Key(key)) => Some(key.as_str()),
            _ => None,
        };
        match node(value, inside).and_then(|found| fix_of_map(key, found)) {
            Some(help) if problem.message.ends_with("must be a string") => problem.help(help),
            _ => problem,
        }
    }

    /// Returns the problem of an unknown key. The key that was most likely meant is then not reported as missing.
    fn unknown_key(&mut self, value: &Value, inside: &[Segment], path: Path, key: &str, known: &[&str]) -> Problem {
        let around = path.parent().unwrap_or_default();
        let problem = Problem::new(Place::key(path), format!("unknown key `{key}`")).label("not known here");
        if key == "<<" {
            self.unknown_paths.add(around);
            return problem
                .help("merge keys are not supported: write the keys out, or use an alias for the whole value");
        }
        if let Some(help) = replacement(key, known) {
            // A container with an `image` names its root, so `rootfs` is not missing.
            if matches!(key, "image" | "build" | "from") {
                self.unknown_paths.add(around.then("rootfs"));
            } else if matches!(key, "command" | "entrypoint" | "script") {
                self.unknown_paths.add(around.then("run"));
            }
            return problem.help(help);
        }
        let Some(near) = nearest(key, known.iter().copied()) else {
            return problem.help(format!("the keys here are {}", known.join(", ")));
        };
        let map = inside.split_last().and_then(|(_, parents)| node(value, parents));
        if map.is_some_and(|map| map.get(near).is_none()) {
            self.unknown_paths.add(around.then(near));
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

/// Removes the node at `inside` from `value`. Returns whether that changed anything.
fn remove_node(value: &mut Value, inside: &[Segment], whole: &Path) -> bool {
    let Some((last, parents)) = inside.split_last() else {
        // The whole value is wrong: an empty map replaces it.
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
                // The placeholder of an element does not fit either: the whole list is removed.
                return remove_node(value, parents, whole);
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

/// Returns the key and the known keys, if serde reports an unknown key.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (key, known) = message.strip_prefix("unknown field `")?.split_once('`')?;
    Some((key, known.split('`').skip(1).step_by(2).collect()))
}

/// Returns the problem of a value that does not fit, in runner's words instead of serde's.
fn wrong_type(path: Path, message: &str) -> Problem {
    let parts = |lead| message.strip_prefix(lead)?.rsplit_once(", expected ");
    let (found, expected, in_range) = match (parts("invalid type: "), parts("invalid value: ")) {
        (Some((found, expected)), _) => (found, expected, true),
        (None, Some((found, expected))) => (found, expected, false),
        (None, None) => return Problem::new(Place::value(path), message),
    };
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a string" => words(&path).unwrap_or(expected),
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

/// Returns the words that are possible at a path, if these are its values.
fn words(path: &Path) -> Option<&'static str> {
    let Some(Segment::Key(last)) = path.segments().last() else { return None };
    WORDS.iter().find(|(key, _)| key == last).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::WORDS;

    #[test]
    fn every_key_of_the_schema_with_words_is_listed_with_them() {
        let schema = crate::manifest::schema();
        let mut with_words = Vec::new();
        for map in ["Container", "Mount", "Snapshot"] {
            for (key, property) in schema["$defs"][map]["properties"].as_object().unwrap() {
                let Some(words) = property["anyOf"][0]["enum"].as_array() else { continue };
                with_words.push((key.as_str(), words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>()));
            }
        }
        // A `type` can be any filesystem of the kernel too.
        with_words.retain(|(key, _)| *key != "type");
        with_words.sort_unstable();
        assert_eq!(
            with_words.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            WORDS.iter().map(|(key, _)| *key).collect::<Vec<_>>()
        );
        for ((key, words), (_, text)) in with_words.iter().zip(WORDS) {
            assert!(words.iter().all(|word| text.contains(&format!("`{word}`"))), "{key}: {text}");
        }
    }
}
