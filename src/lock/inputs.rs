//! The inputs of a snapshot in a lock: enough to name the one that differs, and short enough to be read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cache::key::{KeyFields, Reason, is_below};
use crate::digest::Hasher;

/// The number of hexadecimal digits of a digest that distinguish two steps.
const DIGITS: usize = 16;

/// The length from which a value of a setting is stored as a digest.
const MAX_VALUE: usize = 100;

/// The beginning of such a digest.
const DIGEST: &str = "sha256:";

/// The inputs of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedInputs {
    /// The snapshot or the rootfs that its steps start from.
    pub on: String,
    /// The tools that run the steps and write the image, with their versions.
    pub tools: String,
    /// A digest of all settings of the container, the snapshot and the build.
    pub settings: String,
    /// Digests of its steps, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, String>,
    /// Digests of the content of the read-only binds, by their targets, without the files that runner itself writes
    /// there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binds: BTreeMap<String, String>,
    /// The settings by name, long values as digests; none in a lock that an earlier runner wrote.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_settings: BTreeMap<String, String>,
}

impl LockedInputs {
    /// Makes inputs from the fields of a key; `steps` are the names of the steps, in order. The caller adds the binds.
    pub fn of(fields: &KeyFields, steps: &[&str], on: String) -> Self {
        let mut tools: BTreeMap<&str, String> = BTreeMap::new();
        let (mut settings, mut of_steps) = (ShortDigest::default(), BTreeMap::<&str, ShortDigest>::new());
        let mut named_settings = BTreeMap::new();
        for (name, value) in fields.iter().filter(|(name, _)| !is_below(name)) {
            match name.split_once('/') {
                Some(("content", _)) => {}
                Some(("step", rest)) => {
                    let (n, field) = rest.split_once('/').unwrap_or((rest, ""));
                    let step = n.parse().ok().and_then(|n: usize| steps.get(n)).copied().unwrap_or(n);
                    match field.split_once('/') {
                        Some(("content", _)) => {}
                        // It depends on the host, as the nodes of containers do.
                        Some(("node", _)) => {
                            settings.take(name, value);
                            named_settings.insert(field.to_owned(), short_value(value));
                        }
                        _ => of_steps.entry(step).or_default().take(field, value),
                    }
                }
                None if name == "format" => drop(tools.insert(name, format!("key format {value}"))),
                None if name == "user_attributes" => drop(tools.insert(name, "no user.* attributes in memory".into())),
                None if matches!(name, "runtime" | "writer") => drop(tools.insert(name, value.to_owned())),
                _ => {
                    settings.take(name, value);
                    named_settings.insert(name.to_owned(), short_value(value));
                }
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
            named_settings,
        }
    }

    /// Returns the inputs with digests of the binds' content.
    #[must_use]
    pub fn with_binds(self, binds: BTreeMap<String, String>) -> Self {
        Self { binds, ..self }
    }

    /// Returns the inputs without the binds that have these targets.
    #[must_use]
    pub fn without_binds(mut self, targets: &[String]) -> Self {
        self.binds.retain(|target, _| !targets.contains(target));
        self
    }

    /// Whether they differ on every host: tools and device nodes depend on the host, and the default seccomp profile on
    /// the runner. Differences in these alone may give the same bytes.
    pub fn differs_on_any_host(&self, now: &Self) -> bool {
        let is_of_host = |(name, was, now): &(&str, Option<&str>, Option<&str>)| {
            let is_default = |value: &Option<&str>| value.is_some_and(|value| value.starts_with("default "));
            name.starts_with("node/") || *name == "seccomp" && is_default(was) && is_default(now)
        };
        let named = self.changed_settings(now);
        let are_of_host = !named.is_empty() && named.iter().all(is_of_host);
        let settings_differ = self.settings != now.settings && !are_of_host;
        settings_differ || self.on != now.on || self.steps != now.steps || self.changed_binds(now).next().is_some()
    }

    /// Returns the settings that differ, with both values; none where the lock does not name the settings.
    fn changed_settings<'i>(&'i self, now: &'i Self) -> Vec<(&'i str, Option<&'i str>, Option<&'i str>)> {
        if self.named_settings.is_empty() {
            return Vec::new();
        }
        let value = |inputs: &'i Self, name: &str| inputs.named_settings.get(name).map(String::as_str);
        let names: BTreeSet<&String> = self.named_settings.keys().chain(now.named_settings.keys()).collect();
        let both = names.into_iter().map(|name| (name.as_str(), value(self, name), value(now, name)));
        both.filter(|(_, was, now)| was != now).collect()
    }

    /// Returns a description where the steps start from a root with another name.
    pub fn base_change(&self, now: &Self) -> Option<String> {
        (self.on != now.on).then(|| format!("it is built on {}, and was built on {}", now.on, self.on))
    }

    /// Returns the targets of the binds whose content differs, with both digests. An added or removed bind is a change
    /// of a setting.
    pub fn changed_binds<'i>(&'i self, now: &'i Self) -> impl Iterator<Item = (&'i str, &'i str, &'i str)> {
        let both = now.binds.iter().filter_map(|(target, now)| Some((target.as_str(), self.binds.get(target)?, now)));
        both.filter(|(_, was, now)| was != now).map(|(target, was, now)| (target, was.as_str(), now.as_str()))
    }

    /// Returns the inputs that differ, in words, except the content of the binds.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let mut changes: Vec<String> = self.base_change(now).into_iter().collect();
        if self.tools != now.tools {
            changes.push(format!("the tools changed: {} → {}", self.tools, now.tools));
        }
        for (name, digest) in &now.steps {
            match self.steps.get(name) {
                None => changes.push(format!("step {name} was added")),
                Some(locked) if locked != digest => changes.push(format!("step {name} changed")),
                Some(_) => {}
            }
        }
        let removed = self.steps.keys().filter(|name| !now.steps.contains_key(*name));
        changes.extend(removed.map(|name| format!("step {name} was removed")));
        if self.settings != now.settings {
            let named = self.changed_settings(now);
            if named.is_empty() {
                changes.push("settings of its container, of the snapshot or of the build changed".to_owned());
            }
            changes.extend(named.into_iter().map(|(name, was, now)| setting_change(name, was, now)));
        }
        changes
    }
}

/// Returns the value of a setting as a lock stores it.
fn short_value(value: &str) -> String {
    if value.chars().count() <= MAX_VALUE {
        return value.to_owned();
    }
    let mut short = ShortDigest::default();
    short.take("", value);
    format!("{DIGEST}{}", short.text())
}

/// Returns a change of a setting in the words of a plan, without digests, which mean nothing to a reader.
fn setting_change(name: &str, was: Option<&str>, now: Option<&str>) -> String {
    if [was, now].into_iter().flatten().any(|value| value.starts_with(DIGEST)) {
        return format!("{name} changed");
    }
    let [old, new] = [was, now].map(|value| value.map(str::to_owned));
    Reason::SettingChanged { field: name.to_owned(), old, new }.to_string()
}

/// The beginning of a digest of names and values.
#[derive(Default)]
struct ShortDigest(Hasher);

impl ShortDigest {
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
    use crate::cache::key::fields;
    use crate::model::{Action, Build, Scratch};
    use crate::plan::fixture::build;
    use crate::plan::{Plan, Segments};

    fn of(build: &Build, inputs: &crate::cache::key::HostInputs) -> LockedInputs {
        let segments = Segments::new(build, &Plan::new(build, &[]));
        LockedInputs::of(&fields(build, segments.get(0), inputs), &["a", "b"], "the rootfs of c0".into())
    }

    #[test]
    fn each_kind_of_input_is_reported_as_its_own_change() {
        let steps = build(&[("a", 0, &[]), ("b", 0, &[0])]);
        let host = crate::cache::key::HostInputs {
            runtime: "embedded".into(),
            writer: "squashfs 1".into(),
            ..Default::default()
        };
        let was = of(&steps, &host);
        assert_eq!(was.tools, format!("embedded, key format {}", crate::cache::key::FORMAT));
        assert_eq!(was.steps.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(was.settings.len() == DIGITS && was.steps.values().all(|digest| digest.len() == DIGITS));
        let changed = |change: &dyn Fn(&mut Build, &mut crate::cache::key::HostInputs)| {
            let (mut build, mut inputs) = (steps.clone(), host.clone());
            change(&mut build, &mut inputs);
            was.changes(&of(&build, &inputs)).join("; ")
        };
        assert_eq!(changed(&|_, _| {}), "");
        assert_eq!(changed(&|build, _| build.steps[1].action = Action::Run("false".into())), "step b changed");
        let changes = changed(&|build, _| build.containers[0].hostname = "other".into());
        assert_eq!(changes, "hostname changed: c0 → other");
        let long = |build: &mut Build| drop(build.containers[0].env.insert("A".into(), "long ".repeat(50)));
        assert_eq!(changed(&|build, _| long(build)), "env/A changed");
        assert_eq!(changed(&|build, _| build.source_date_epoch = Some(9)), "source_date_epoch changed: none → 9");
        assert!(changed(&|_, inputs| inputs.runtime = "runc 1.1.5".into()).starts_with("the tools changed: embedded"));
        let changes = changed(&|build, inputs| {
            build.containers[0].scratch = Scratch::Tmpfs(1);
            inputs.lacks_user_attributes = true;
        });
        assert!(changes.ends_with("no user.* attributes in memory"), "{changes}");
    }

    #[test]
    fn inputs_that_depend_on_the_host_or_runner_do_not_count_as_different() {
        let steps = build(&[("a", 0, &[]), ("b", 0, &[0])]);
        let host = crate::cache::key::HostInputs { runtime: "embedded".into(), ..Default::default() };
        let was = of(&steps, &host);
        let differs = |change: &dyn Fn(&mut Build, &mut crate::cache::key::HostInputs)| {
            let (mut build, mut inputs) = (steps.clone(), host.clone());
            change(&mut build, &mut inputs);
            was.differs_on_any_host(&of(&build, &inputs))
        };
        assert!(!differs(&|_, _| {}) && !differs(&|_, inputs| inputs.runtime = "runc 1".into()));
        assert!(!differs(&|_, inputs| drop(inputs.nodes.insert("/dev/kvm".into(), "c 10:232 0600 0:0".into()))));
        assert!(differs(&|build, _| build.containers[0].hostname = "other".into()));
        assert!(differs(&|build, _| build.containers[0].seccomp = crate::model::Seccomp::Unconfined));
        assert!(differs(&|build, _| build.steps[1].action = Action::Run("false".into())));
        let mut other_default = was.clone();
        other_default.settings = "0".into();
        other_default.named_settings.insert("seccomp".into(), "default sha256:0".into());
        assert!(!was.differs_on_any_host(&other_default));
        // A lock without the names shows only that one of them differs.
        other_default.named_settings.clear();
        assert!(other_default.differs_on_any_host(&was));
    }
}
