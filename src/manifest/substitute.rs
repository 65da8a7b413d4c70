//! Substitution of variables in the whole tree, before it gets types; values that no manifest can have are removed.

use std::collections::{BTreeMap, HashMap};

use serde_yaml::Value;

use super::unknown_paths::UnknownPaths;
use crate::diagnostic::{At, Path, Place, Problem, Segment, Trail, nearest};

/// The placeholder of a removed element of a list, so that the elements after it keep their indices.
pub(super) const REMOVED: &str = "\0";

/// Substitutes variables in all text except that under `vars`, and removes nulls, tags and keys that are not text,
/// each with a problem. `sets` overrides the values of `vars`.
pub(super) fn substitute(
    tree: &mut Value,
    sets: &BTreeMap<String, String>,
    unknown_paths: &mut UnknownPaths,
) -> Vec<Problem> {
    let mut walk = Walk { variables: variables(tree), problems: Vec::new(), unknown_paths };
    for (name, value) in sets {
        if let Some(variable) = walk.variables.get_mut(name) {
            *variable = Some(value.clone());
            continue;
        }
        let near = nearest(name, walk.variables.keys().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `--set {near}={value}`?"),
            None => format!("declare it in the manifest: `vars: {{ {name}: … }}`"),
        };
        walk.problems
            .push(Problem::new(Place::Nowhere, format!("cannot set `{name}`: no such variable in `vars`")).help(help));
    }
    if let Value::Null = tree {
        walk.problems.push(
            Problem::new(0..0, "the manifest is empty").help("begin with `version: 1`, `containers:` and `steps:`"),
        );
        walk.unknown_paths.add(Path::top());
        return walk.problems;
    }
    if !walk.value(tree, &Trail::TOP, true) {
        walk.unknown_paths.add(Path::top());
    }
    walk.problems
}

/// Returns the declared variables; `None` for a variable whose value is not text.
fn variables(tree: &Value) -> HashMap<String, Option<String>> {
    let Some(Value::Mapping(vars)) = tree.get("vars") else { return HashMap::new() };
    let entries = vars.iter().filter_map(|(name, value)| {
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Bool(yes) => Some(yes.to_string()),
            Value::Number(number) if !number.is_f64() => Some(number.to_string()),
            _ => None,
        };
        Some((name.as_str()?.to_owned(), text))
    });
    entries.collect()
}

struct Walk<'g> {
    variables: HashMap<String, Option<String>>,
    problems: Vec<Problem>,
    unknown_paths: &'g mut UnknownPaths,
}

impl Walk<'_> {
    /// Checks a value. Returns whether it can stay.
    fn value(&mut self, value: &mut Value, trail: &Trail<'_>, substitute: bool) -> bool {
        match value {
            Value::String(text) => !substitute || !text.contains("${{") || self.text(text, trail),
            Value::Bool(_) | Value::Number(_) => true,
            Value::Null => {
                let help = "write a value, or remove the key";
                let problem = Problem::new(Place::value(trail.path()), "a value is missing").label("nothing is here");
                self.problems.push(problem.help(help));
                false
            }
            Value::Tagged(tagged) => {
                let message = format!("the tag `{}` has no meaning in a manifest", tagged.tag);
                let problem = Problem::new(Place::value(trail.path()), message).label("this has a tag");
                self.problems.push(problem.help("write the value without it"));
                false
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let trail = trail.index(index);
                    if !self.value(item, &trail, substitute) {
                        self.unknown_paths.add(trail.path());
                        *item = empty_element(&trail.path());
                    }
                }
                true
            }
            Value::Mapping(entries) => {
                let mut removed = Vec::new();
                for (key, value) in entries.iter_mut() {
                    let Value::String(name) = key else {
                        self.key_problem(key, trail);
                        removed.push(key.clone());
                        continue;
                    };
                    let substitute = substitute && !(trail.is_top() && name == "vars");
                    let trail = trail.key(name);
                    if !self.value(value, &trail, substitute) {
                        self.unknown_paths.add(trail.path());
                        removed.push(key.clone());
                    }
                }
                for key in removed {
                    entries.remove(&key);
                }
                true
            }
        }
    }

    fn key_problem(&mut self, key: &Value, trail: &Trail<'_>) {
        let written = match key {
            Value::Bool(yes) => yes.to_string(),
            Value::Number(number) => number.to_string(),
            Value::Null => "null".to_owned(),
            Value::String(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => String::new(),
        };
        let path = trail.path().then(written.as_str());
        let problem = if written.is_empty() {
            Problem::new(Place::value(trail.path()), "a key is not text").label("in this map")
        } else {
            Problem::new(Place::key(path.clone()), format!("the key `{written}` is not text"))
                .label("YAML does not read this as a string")
                .help(format!("put it in quotes: \"{written}\""))
        };
        self.problems.push(problem);
        self.unknown_paths.add(path);
    }

    /// Substitutes variables in a text. Returns whether the text can stay.
    fn text(&mut self, text: &mut String, trail: &Trail<'_>) -> bool {
        let mut out = String::with_capacity(text.len());
        let mut is_known = true;
        let mut rest = text.as_str();
        while let Some((before, from)) = rest.split_once("${{") {
            out.push_str(before);
            let Some((inside, after)) = from.split_once("}}") else {
                let problem = Problem::new(Place::word(trail.path(), "${{"), "a `${{` is never closed");
                self.problems.push(problem.label("this one").help("write `${{ name }}`"));
                return false;
            };
            let name = inside.trim();
            match self.variables.get(name) {
                Some(Some(value)) => out.push_str(value),
                // The problem of the variable is reported at its declaration.
                Some(None) => is_known = false,
                None => {
                    self.unknown_variable(name, trail);
                    is_known = false;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        *text = out;
        is_known
    }

    fn unknown_variable(&mut self, name: &str, trail: &Trail<'_>) {
        let place = Place::Node(trail.path(), At::Variable(name.to_owned()));
        if name.is_empty() {
            let problem = Problem::new(place, "a `${{ }}` names no variable").label("a name is missing");
            self.problems.push(problem.help("write `${{ name }}`"));
            return;
        }
        let problem = Problem::new(place, format!("unknown variable `{name}`")).label("not in `vars`");
        let help = match nearest(name, self.variables.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `${{{{ {near} }}}}`?"),
            None => format!("declare it: `vars: {{ {name}: … }}`"),
        };
        self.problems.push(problem.help(help));
    }
}

/// Returns the placeholder of a removed element of a list.
pub(super) fn empty_element(path: &Path) -> Value {
    match path.segments() {
        [Segment::Key(list), Segment::Index(_)] if list == "steps" => Value::Mapping(serde_yaml::Mapping::new()),
        _ => Value::String(REMOVED.to_owned()),
    }
}
