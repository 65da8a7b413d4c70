//! The inputs of a snapshot, as a lock holds them: enough to name the one that differs, and short enough to be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Hasher;
use crate::key::Fields;

/// As many hexadecimal digits of a digest tell two steps apart.
const DIGITS: usize = 16;

/// The inputs of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// The snapshot or the rootfs that its steps start from.
    pub on: String,
    /// The tools that run the steps and write the image, with their versions.
    pub tools: String,
    /// A digest of all settings of the container, the snapshot and the build.
    pub settings: String,
    /// Digests of its steps, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, String>,
    /// Digests of what is in the read-only binds, by their targets, without the files that runner itself writes there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binds: BTreeMap<String, String>,
}

impl Inputs {
    /// The inputs that the fields of a key say; `steps` are the names of the steps, in order. What is in the binds is for the
    /// caller to say.
    pub fn of(fields: &Fields, steps: &[&str], on: String) -> Self {
        let mut tools: BTreeMap<&str, String> = BTreeMap::new();
        let (mut settings, mut of_steps) = (Short::default(), BTreeMap::<&str, Short>::new());
        for (name, value) in fields.iter() {
            match name.split_once('/') {
                Some(("below" | "content", _)) => {}
                Some(("step", rest)) => {
                    let (n, field) = rest.split_once('/').unwrap_or((rest, ""));
                    let step = n.parse().ok().and_then(|n: usize| steps.get(n)).copied().unwrap_or(n);
                    of_steps.entry(step).or_default().take(field, value);
                }
                None if name == "format" => drop(tools.insert(name, format!("key format {value}"))),
                None if name == "user_attributes" => drop(tools.insert(name, "no user.* attributes in memory".into())),
                None if matches!(name, "runtime" | "writer") => drop(tools.insert(name, value.to_owned())),
                _ => settings.take(name, value),
            }
        }
        // The most important ones first.
        let order = ["runtime", "writer", "format", "user_attributes"];
        let tools: Vec<String> = order.iter().filter_map(|name| tools.remove(name)).collect();
        Self {
            on,
            tools: tools.join(", "),
            settings: settings.text(),
            steps: of_steps.into_iter().map(|(name, short)| (name.to_owned(), short.text())).collect(),
            binds: BTreeMap::new(),
        }
    }

    /// The same, with digests of what is in the binds.
    #[must_use]
    pub fn with_binds(self, binds: BTreeMap<String, String>) -> Self {
        Self { binds, ..self }
    }

    /// Says that the steps start from another root by name, if they do.
    pub fn base_change(&self, now: &Self) -> Option<String> {
        (self.on != now.on).then(|| format!("it is built on {}, and was built on {}", now.on, self.on))
    }

    /// The targets of the binds whose content is another one now, with both digests. One that is new or gone is a setting.
    pub fn changed_binds<'i>(&'i self, now: &'i Self) -> impl Iterator<Item = (&'i str, &'i str, &'i str)> {
        let both = now.binds.iter().filter_map(|(target, now)| Some((target.as_str(), self.binds.get(target)?, now)));
        both.filter(|(_, was, now)| was != now).map(|(target, was, now)| (target, was.as_str(), now.as_str()))
    }

    /// Which of these inputs are others now, in words, but for what is in the binds.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes: Vec<String> = self.base_change(now).into_iter().collect();
        if self.tools != now.tools {
            changes.push(format!("the tools are others: {} → {}", self.tools, now.tools));
        }
        for (name, digest) in &now.steps {
            match self.steps.get(name) {
                None => changes.push(format!("step {name} is new")),
                Some(locked) if locked != digest => changes.push(format!("step {name} changed")),
                Some(_) => {}
            }
        }
        let gone = self.steps.keys().filter(|name| !now.steps.contains_key(*name));
        changes.extend(gone.map(|name| format!("step {name} is gone")));
        if self.settings != now.settings {
            changes.push("settings of its container, of the snapshot or of the build changed".to_owned());
        }
        changes
    }
}

/// The beginning of a digest of names and values.
#[derive(Default)]
struct Short(Hasher);

impl Short {
    fn take(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            self.0.update(&(text.len() as u64).to_le_bytes());
            self.0.update(text.as_bytes());
        }
    }

    fn text(self) -> String {
        let mut text = self.0.finish().hex();
        text.truncate(DIGITS);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Action, Build, Scratch};
    use crate::key::fields;
    use crate::plan::fixture::build;
    use crate::plan::{Plan, Segments};

    fn of(build: &Build, inputs: &crate::key::Inputs) -> Inputs {
        let segments = Segments::new(build, &Plan::new(build, &[]));
        Inputs::of(&fields(build, segments.get(0), inputs), &["a", "b"], "the rootfs of c0".into())
    }

    #[test]
    fn each_kind_of_input_changes_its_own_part() {
        let steps = build(&[("a", 0, &[]), ("b", 0, &[0])]);
        let host = crate::key::Inputs { runtime: "embedded".into(), writer: "squashfs 1".into(), ..Default::default() };
        let was = of(&steps, &host);
        assert_eq!(was.tools, format!("embedded, key format {}", crate::key::FORMAT));
        assert_eq!(was.steps.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(was.settings.len() == DIGITS && was.steps.values().all(|digest| digest.len() == DIGITS));
        let changed = |change: &dyn Fn(&mut Build, &mut crate::key::Inputs)| {
            let (mut build, mut inputs) = (steps.clone(), host.clone());
            change(&mut build, &mut inputs);
            was.changes(&of(&build, &inputs)).join("; ")
        };
        assert_eq!(changed(&|_, _| {}), "");
        assert_eq!(changed(&|build, _| build.steps[1].action = Action::Run("false".into())), "step b changed");
        let told = changed(&|build, _| build.containers[0].hostname = "other".into());
        assert_eq!(told, "settings of its container, of the snapshot or of the build changed");
        assert!(
            changed(&|_, inputs| inputs.runtime = "runc 1.1.5".into()).starts_with("the tools are others: embedded")
        );
        let told = changed(&|build, inputs| {
            build.containers[0].scratch = Scratch::Tmpfs(1);
            inputs.lacks_user_attributes = true;
        });
        assert!(told.ends_with("no user.* attributes in memory"), "{told}");
    }
}
