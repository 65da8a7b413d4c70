//! Checks of single steps: the name, the container, the action, and the needs.

use std::collections::HashMap;

use super::build::{Action, Container, ContainerId, Role, Step, StepId};
use super::check::{Check, missing};
use super::containers::Definitions;
use super::copy;
use super::edge::add_edges_of_containers;
pub(super) use super::edge::{Edge, EdgeReason};
use super::own_settings::OwnSettings;
use super::quantity;
use super::shell::interpreter;
use super::test_steps;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::StepDef;

/// A step with its edges, before the order is checked.
pub(super) struct OrderedStep {
    pub step: Step,
    /// `None` if the manifest names no existing container.
    pub container: Option<ContainerId>,
    /// The steps that it waits for, with the reasons.
    pub edges: Vec<Edge>,
    /// Some of its needs are unknown, so the order of its other steps is unknown too.
    pub incomplete: bool,
    /// The settings that it has for itself, if there are any.
    pub own: Option<OwnSettings>,
}

impl Check<'_> {
    pub(super) fn steps(
        &mut self,
        defs: &[StepDef],
        containers: &[Container],
        known: &Definitions<'_>,
    ) -> Vec<OrderedStep> {
        let ids: HashMap<&str, usize> = containers.iter().enumerate().map(|(n, c)| (c.name.as_str(), n)).collect();
        let top = Trail::TOP.key("steps");
        let mut last: Vec<Option<StepId>> = vec![None; containers.len()];
        let mut ordered: Vec<OrderedStep> = Vec::with_capacity(defs.len());
        for (n, def) in defs.iter().enumerate() {
            let at = top.index(n);
            self.step_name(n, def, &at, known);
            let container = self.step_container(def, &at, containers, &ids);
            let role = if def.test == Some(true) { Role::Test } else { Role::Build };
            let in_order = container.filter(|_| role == Role::Build);
            let before = in_order.and_then(|id| last[id.0].replace(StepId(n)));
            let (mut edges, mut incomplete) = self.needs(def, &at, before, known);
            let action = self.action(def, &at, container.map(|id| &containers[id.0]), known);
            if let Action::Copy(copy) = &action {
                edges.extend(copy.snapshot().map(|on| Edge { on, why: EdgeReason::Copy }));
                incomplete |=
                    copy.snapshot().is_none() && def.copy.as_ref().is_some_and(|copy| copy::has_unknown_source(copy));
            }
            let step = Step {
                name: def.name.clone().unwrap_or_default(),
                container: container.unwrap_or(ContainerId(0)),
                action,
                needs: Vec::new(),
                env: self.env(&at.key("env"), def.env.as_ref()),
                cwd: def.cwd.as_ref().map(|cwd| self.absolute(&at.key("cwd"), "cwd", cwd)),
                user: def.user.as_ref().map(|user| self.user(&at.key("user"), user)),
                shell: self.shell(def.shell.as_ref(), &at.key("shell")),
                timeout: def
                    .timeout
                    .as_ref()
                    .and_then(|timeout| self.quantity(&at.key("timeout"), "duration", timeout, quantity::duration)),
                grace: def
                    .grace
                    .as_ref()
                    .and_then(|grace| self.quantity(&at.key("grace"), "duration", grace, quantity::duration_or_none))
                    .unwrap_or(Step::DEFAULT_GRACE),
                retries: def.retries.unwrap_or(0),
                always: def.always.unwrap_or(false),
                cache: self.step_cache(def, &at),
                role,
                settings: None,
            };
            let incomplete = incomplete || container.is_none();
            let own = self.own_settings(def, &at, container.map(|id| &containers[id.0]), known);
            edges.extend(own.iter().flat_map(OwnSettings::edges));
            ordered.push(OrderedStep { step, container, edges, incomplete, own });
        }
        add_edges_of_containers(&mut ordered, containers);
        test_steps::add_edges(&mut ordered, containers);
        ordered
    }

    fn step_cache(&mut self, def: &StepDef, at: &Trail<'_>) -> bool {
        if def.always == Some(true) && def.cache == Some(true) {
            let problem = Problem::new(&at.key("cache"), "a step that runs every time is not cached");
            let problem = problem.label("not run again").related(&at.key("always"), "runs every time");
            self.add(problem.help("keep one of `always` and `cache`"));
        }
        if let (Some(true), Some(_)) = (def.test, def.cache) {
            let problem = Problem::new(Place::key(at.key("cache").path()), "a test has no `cache`");
            let problem = problem.label("means nothing here").related(&at.key("test"), "a test by this");
            self.add(
                problem.help("remove it: a test that passed is cached; write `always: true` to run it every time"),
            );
        }
        def.cache.unwrap_or(def.test == Some(true))
    }

    fn step_name(&mut self, n: usize, def: &StepDef, at: &Trail<'_>, known: &Definitions<'_>) {
        let Some(name) = &def.name else {
            let problem = Problem::new(missing(at, "name"), "the step has no name").label("in this step");
            self.add(problem.help("write `name: …`, different from that of any other step"));
            return;
        };
        let at = at.key("name");
        self.name(|| Place::from(&at), "step", name);
        if let Some(&first) = known.steps.get(name.as_str()).filter(|first| **first != n) {
            let problem = Problem::new(&at, format!("two steps have the name `{name}`")).label("again here");
            let first = Place::value(Trail::TOP.key("steps").index(first).key("name").path());
            self.add(problem.related(first, "first here").help("give one of them another name"));
        }
    }

    fn step_container(
        &mut self,
        def: &StepDef,
        at: &Trail<'_>,
        containers: &[Container],
        ids: &HashMap<&str, usize>,
    ) -> Option<ContainerId> {
        match &def.container {
            Some(name) => {
                let id = ids.get(name.as_str()).copied().map(ContainerId);
                if id.is_none() && !self.is_unreadable("containers", name) {
                    let names = containers.iter().map(|container| container.name.as_str());
                    self.unknown(&at.key("container"), "container", name, names);
                }
                id
            }
            None if containers.len() == 1 => Some(ContainerId(0)),
            None => {
                // Without any container, that is the only problem.
                if containers.len() > 1 {
                    let problem = Problem::new(missing(at, "container"), "the step names no container");
                    let problem = problem.label("in this step");
                    let names: Vec<_> = containers.iter().take(8).map(|c| c.name.as_str()).collect();
                    self.add(
                        problem.help(format!(
                            "there is more than one: write `container:` and one of {}",
                            names.join(", ")
                        )),
                    );
                }
                None
            }
        }
    }

    /// Returns the steps that it waits for because of `needs` or its place, and whether some of them are unknown.
    fn needs(
        &mut self,
        def: &StepDef,
        at: &Trail<'_>,
        before: Option<StepId>,
        known: &Definitions<'_>,
    ) -> (Vec<Edge>, bool) {
        let at = at.key("needs");
        let Some(needs) = &def.needs else {
            if !self.unknown_paths.is_empty() && self.unknown_paths.covers(&at.path()) {
                return (Vec::new(), true);
            }
            return (before.map(|on| Edge { on, why: EdgeReason::Before }).into_iter().collect(), false);
        };
        let mut edges = Vec::with_capacity(needs.len());
        let mut incomplete = false;
        for (n, name) in needs.iter().enumerate() {
            match known.steps.get(name.as_str()) {
                Some(&on) => edges.push(Edge { on: StepId(on), why: EdgeReason::Needs(n) }),
                None => {
                    incomplete = true;
                    if !self.unknown_paths.hide_step_names() {
                        self.unknown(&at.index(n), "step", name, known.steps.keys().copied());
                    }
                }
            }
        }
        (edges, incomplete)
    }

    fn action(
        &mut self,
        def: &StepDef,
        at: &Trail<'_>,
        container: Option<&Container>,
        known: &Definitions<'_>,
    ) -> Action {
        let there = [
            ("run", def.run.is_some()),
            ("exec", def.exec.is_some()),
            ("copy", def.copy.is_some()),
            ("snapshot", def.snapshot.is_some()),
            ("export", def.export.is_some()),
        ];
        let mut actions = there.into_iter().filter(|(_, there)| *there).map(|(action, _)| action);
        match (actions.next(), actions.next()) {
            (None, _) => {
                if self.unknown_paths.is_empty()
                    || !there.iter().any(|(action, _)| self.unknown_paths.covers(&at.key(action).path()))
                {
                    let problem = Problem::new(missing(at, "run"), "the step does nothing").label("in this step");
                    self.add(problem.help("write one of `run`, `exec`, `copy`, `snapshot` and `export`"));
                }
            }
            (Some(first), Some(second)) => {
                let problem = Problem::new(Place::key(at.key(second).path()), "the step does two things");
                let problem = problem.label("a second action").related(Place::key(at.key(first).path()), "the first");
                self.add(problem.in_text_order().help("make two steps of it"));
            }
            (Some(_), None) => {}
        }
        if let Some(script) = &def.run {
            let step = at;
            let at = at.key("run");
            if script.trim().is_empty() {
                self.add(Problem::new(&at, "the script is empty").label("nothing to run").help("write a command"));
            }
            match interpreter(script) {
                Some(interpreter) => self.script(script, interpreter, def, step),
                None => self.argument(&at, "script", script, 0),
            }
            return Action::Run(script.clone());
        }
        if def.shell.is_some() {
            let place = Place::key(at.key("shell").path());
            let problem = Problem::new(place, "only a `run` has a shell").label("means nothing here");
            self.add(problem.help("remove it"));
        }
        if let Some(arguments) = &def.exec {
            return self.exec(arguments, &at.key("exec"));
        }
        if let Some(copy) = &def.copy {
            self.refuse_process_settings("a copy", def, at);
            return Action::Copy(self.copy(copy, &at.key("copy"), container, known));
        }
        if let Some(export) = &def.export
            && def.snapshot.is_none()
        {
            self.refuse_process_settings("an export", def, at);
            return Action::Export(self.export(export, &at.key("export")));
        }
        let Some(snapshot) = &def.snapshot else { return Action::Exec(Vec::new()) };
        if let Some(container) = container.filter(|container| container.read_only) {
            let name = &container.name;
            let problem = Problem::new(
                Place::key(at.key("snapshot").path()),
                format!("a snapshot of the read-only container `{name}`"),
            );
            let problem = problem.label("nothing can have changed in it");
            let containers = Trail::TOP.key("containers");
            let problem = problem.related(&containers.key(name).key("read_only"), "read-only by this");
            self.add(problem.help("remove `read_only` or the snapshot"));
        }
        self.refuse_process_settings("a snapshot", def, at);
        Action::Snapshot(self.snapshot(snapshot, &at.key("snapshot")))
    }

    fn exec(&mut self, arguments: &[crate::manifest::Text], at: &Trail<'_>) -> Action {
        match arguments.first() {
            None => {
                let problem = Problem::new(at, "the list of `exec` is empty").label("no program");
                self.add(problem.help("write the program and its arguments, such as [make, install]"));
            }
            Some(program) if program.is_empty() => {
                let problem = Problem::new(&at.index(0), "the program's name is empty").label("no program");
                self.add(problem.help("write the program and its arguments, such as [make, install]"));
            }
            Some(_) => {}
        }
        for (n, argument) in arguments.iter().enumerate() {
            self.argument(&at.index(n), "argument", argument, 0);
        }
        Action::Exec(arguments.iter().map(|argument| argument.to_string()).collect())
    }

    /// Refuses settings of a process for a step that starts none; `what` is its action. The results of a copy can be stored without a
    /// snapshot.
    fn refuse_process_settings(&mut self, what: &str, def: &StepDef, at: &Trail<'_>) {
        let keys = [
            ("env", def.env.is_some()),
            ("cwd", def.cwd.is_some()),
            ("user", def.user.is_some()),
            ("mounts", def.mounts.is_some()),
            ("devices", def.devices.is_some()),
            ("network", def.network.is_some()),
            ("capabilities", def.capabilities.is_some()),
            ("timeout", def.timeout.is_some()),
            ("grace", def.grace.is_some()),
            ("retries", def.retries.is_some()),
            ("cache", def.cache.is_some() && what != "a copy"),
            ("test", def.test.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(_, there)| *there) {
            let problem = Problem::new(Place::key(at.key(key).path()), format!("{what} has no `{key}`"));
            self.add(problem.label("means nothing here").help(format!("remove it: {what} starts no process")));
        }
    }
}
