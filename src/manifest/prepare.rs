//! What is done to the whole tree before it gets types: variables are put in; what no manifest can hold is taken out.

use std::collections::{BTreeMap, HashMap};

use serde_yaml::Value;

use super::gaps::UnknownPaths;
use crate::diagnostic::{At, Path, Place, Problem, Segment, Trail, nearest};

/// Stands for an element of a list that was taken away, so that those after it keep their places.
pub(super) const TAKEN_AWAY: &str = "\0";

/// Puts variables into all text but that under `vars`, and takes out nulls, tags and keys that are not text, each of
/// which gives a problem. `sets` goes before what `vars` says.
pub(super) fn prepare(tree: &mut Value, sets: &BTreeMap<String, String>, gaps: &mut UnknownPaths) -> Vec<Problem> {
    let mut walk = Walk { variables: variables(tree), problems: Vec::new(), gaps };
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
        walk.gaps.add(Path::top());
        return walk.problems;
    }
    if !walk.value(tree, &Trail::TOP, true) {
        walk.gaps.add(Path::top());
    }
    walk.problems
}

/// The declared variables; `None` for one whose value is no text.
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
    gaps: &'g mut UnknownPaths,
}

impl Walk<'_> {
    /// Whether the value can stay.
    fn value(&mut self, value: &mut Value, trail: &Trail<'_>, substitute: bool) -> bool {
        match value {
            Value::String(text) => !substitute || !text.contains("${{") || self.text(text, trail),
            Value::Bool(_) | Value::Number(_) => true,
            Value::Null => {
                let help = "write a value, or take the key away";
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
                        self.gaps.add(trail.path());
                        *item = empty_element(&trail.path());
                    }
                }
                true
            }
            Value::Mapping(entries) => {
                let mut gone = Vec::new();
                for (key, value) in entries.iter_mut() {
                    let Value::String(name) = key else {
                        self.key_problem(key, trail);
                        gone.push(key.clone());
                        continue;
                    };
                    let substitute = substitute && !(trail.is_top() && name == "vars");
                    let trail = trail.key(name);
                    if !self.value(value, &trail, substitute) {
                        self.gaps.add(trail.path());
                        gone.push(key.clone());
                    }
                }
                for key in gone {
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
        self.gaps.add(path);
    }

    /// Puts variables into a text; whether it can stay.
    fn text(&mut self, text: &mut String, trail: &Trail<'_>) -> bool {
        let mut out = String::with_capacity(text.len());
        let mut known = true;
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
                // What is wrong with it is told where it is declared.
                Some(None) => known = false,
                None => {
                    self.unknown_variable(name, trail);
                    known = false;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        *text = out;
        known
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

/// What is put where an element of a list was taken away.
pub(super) fn empty_element(path: &Path) -> Value {
    match path.segments() {
        [Segment::Key(list), Segment::Index(_)] if list == "steps" => Value::Mapping(serde_yaml::Mapping::new()),
        _ => Value::String(TAKEN_AWAY.to_owned()),
    }
}
