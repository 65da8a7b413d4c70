//! The plan as text: one line a step, for people.

use std::path::Path;

use crate::build::{Action, Build, Snapshot, SnapshotMode, Step, StepId};
use crate::columns::{fit, width, wrap};
use crate::escape;

use super::{Note, Plan};

/// How many columns of a command are shown, where there are as many.
const MOST: usize = 60;
/// With less than that left for a command, it has a line of its own.
const LEAST: usize = 24;
/// Columns between two parts of a line.
const GAP: usize = 2;

/// One line a step: its number, name and container, whether it is in the store or runs, what it does, and the numbers of
/// the steps that it waits for. Below it why it runs, once for steps in a row that run for the same. Ends with a newline,
/// unless nothing is planned. On a terminal, for so many columns: where they are few, what a step does is on a second line.
pub fn text(build: &Build, plan: &Plan, note: impl Fn(StepId) -> Note, columns: Option<usize>) -> String {
    let mut places = vec![0; build.steps.len()];
    for (at, id) in plan.order().iter().enumerate() {
        places[id.0] = at + 1;
    }
    let shape = Shape::new(build, plan, &places, columns);
    let indent = " ".repeat(shape.numbers + GAP);
    let mut text = String::new();
    let mut told: Vec<Vec<(String, serde_json::Value)>> = vec![Vec::new(); build.containers.len()];
    for id in plan.order() {
        let step = build.step(*id);
        let Note { fresh, unknown, reasons } = note(*id);
        let state = if fresh { "fresh" } else { ["runs", "maybe"][usize::from(unknown)] };
        text.push_str(shape.step(build, step, places[id.0], state, &after(&plan.needs(*id), &places)).trim_end());
        text.push('\n');
        let told = &mut told[step.container.0];
        if *told != reasons {
            for (words, _) in &reasons {
                text.push_str(&wrap(&plain(words), &indent, &indent, columns.unwrap_or(usize::MAX)));
            }
            *told = reasons;
        }
    }
    text
}

/// How many columns the parts of a line take.
struct Shape {
    numbers: usize,
    names: usize,
    containers: usize,
    /// Of the line, where that is known.
    columns: Option<usize>,
    /// What a step does is on a line of its own.
    in_two: bool,
}

impl Shape {
    fn new(build: &Build, plan: &Plan, places: &[usize], columns: Option<usize>) -> Self {
        let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let steps = || plan.order().iter().map(|id| build.step(*id));
        let afters = widest(&mut plan.order().iter().map(|id| after(&plan.needs(*id), places).len()));
        let mut shape = Self {
            numbers: plan.order().len().to_string().len(),
            names: widest(&mut steps().map(|step| step.name.len())),
            containers: widest(&mut steps().map(|step| build.container(step.container).name.len())),
            columns,
            in_two: false,
        };
        shape.in_two = columns.is_some_and(|columns| columns < shape.before() + LEAST + afters);
        shape
    }

    /// Before what a step does.
    fn before(&self) -> usize {
        self.numbers + self.names + self.containers + "fresh".len() + 4 * GAP
    }

    fn step(&self, build: &Build, step: &Step, number: usize, state: &str, after: &str) -> String {
        let Self { numbers, names, containers, columns, in_two } = *self;
        let (name, container) = (&step.name, &build.container(step.container).name);
        if let Some(columns) = columns.filter(|_| in_two) {
            let indent = " ".repeat(numbers + GAP);
            let head = format!("{number:numbers$}  {name}  {container}  {state}");
            let action = in_columns(build, &step.action, columns.saturating_sub(indent.len()));
            return if head.len() + after.len() <= columns {
                format!("{head}{after}\n{indent}{action}")
            } else {
                format!("{head}\n{indent}{}\n{indent}{action}", after.trim_start())
            };
        }
        let room = columns.map_or(MOST, |columns| MOST.min(columns.saturating_sub(self.before() + after.len())));
        let action = in_columns(build, &step.action, room);
        format!("{number:numbers$}  {name:names$}  {container:containers$}  {state:5}  {action}{after}")
    }
}

fn after(needs: &[StepId], number: &[usize]) -> String {
    if needs.is_empty() {
        return String::new();
    }
    let mut numbers: Vec<usize> = needs.iter().map(|id| number[id.0]).collect();
    numbers.sort_unstable();
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("  (after {})", numbers.join(", "))
}

/// What a step does, on one line, and cut where that is long.
pub fn action(build: &Build, action: &Action) -> String {
    in_columns(build, action, MOST)
}

fn in_columns(build: &Build, action: &Action, room: usize) -> String {
    match action {
        Action::Run(script) => {
            let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default();
            shorten(first, lines.next().is_some(), room)
        }
        Action::Exec(argv) => {
            shorten(&argv.iter().map(|word| escape::word(word)).collect::<Vec<_>>().join(" "), false, room)
        }
        Action::Snapshot(snapshot) => shorten(&self::snapshot(build, snapshot), false, room),
    }
}

fn snapshot(build: &Build, snapshot: &Snapshot) -> String {
    let mode = match snapshot.mode {
        SnapshotMode::Layer => "layer",
        SnapshotMode::Full => "full image",
    };
    match &snapshot.output {
        Some(output) => format!("snapshot: {mode} → {}", plain(&relative(output, &build.folder))),
        None => format!("snapshot: {mode}"),
    }
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

/// In so many columns, with `…` where something is left out.
fn shorten(command: &str, more: bool, room: usize) -> String {
    let command = plain(command);
    if !more {
        return fit(&command, room);
    }
    // Where all of the line has room, what is left out are other lines.
    if width(&command) + 2 <= room { format!("{command} …") } else { fit(&(command + " …"), room) }
}

/// Control characters would break the line, or move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::fixture::build;
    use super::*;
    use crate::build::Compression;

    fn fresh(_: StepId) -> Note {
        Note { fresh: true, ..Note::default() }
    }

    fn snapshot(mode: SnapshotMode, output: Option<&str>) -> Action {
        Action::Snapshot(Snapshot {
            mode,
            output: output.map(PathBuf::from),
            compression: Compression::Zstd,
            level: None,
        })
    }

    #[test]
    fn each_step_is_a_line() {
        let mut build = build(&[("packages", 0, &[]), ("layer", 0, &[0]), ("hello", 1, &[1]), ("image", 1, &[1, 2])]);
        build.steps[0].action = Action::Run("\n  apt-get update\n  apt-get install -y gcc\n".into());
        build.steps[1].action = snapshot(SnapshotMode::Layer, Some("/work/out/base.squashfs"));
        build.steps[2].action = Action::Exec(vec!["echo".into(), "it's".into(), "a b".into(), String::new()]);
        build.steps[3].action = snapshot(SnapshotMode::Full, Some("/srv/sdk.squashfs"));
        let plan = Plan::new(&build, &[]);
        assert_eq!(
            text(&build, &plan, fresh, None),
            "1  packages  c0  fresh  apt-get update …\n\
             2  layer     c0  fresh  snapshot: layer → out/base.squashfs  (after 1)\n\
             3  hello     c1  fresh  echo 'it'\\''s' 'a b' ''  (after 2)\n\
             4  image     c1  fresh  snapshot: full image → /srv/sdk.squashfs  (after 2, 3)\n"
        );
    }

    #[test]
    fn in_few_columns_what_a_step_does_is_on_a_line_of_its_own() {
        let mut build = build(&[("packages", 0, &[]), ("layer", 0, &[0])]);
        build.steps[0].action = Action::Run("apt-get install -y --no-install-recommends gcc".into());
        build.steps[1].action = snapshot(SnapshotMode::Layer, Some("/work/out/base.squashfs"));
        let plan = Plan::new(&build, &[]);
        let why = |_| Note {
            reasons: vec![("the content of /src changed: name (content)".into(), json!(0))],
            ..Note::default()
        };
        assert_eq!(
            text(&build, &plan, why, Some(59)),
            "1  packages  c0  runs   apt-get install -y --no-install-re…\n   the content of /src changed: name (content)\n\
             2  layer     c0  runs   snapshot: layer → out/b…  (after 1)\n"
        );
        assert_eq!(
            text(&build, &plan, why, Some(29)),
            "1  packages  c0  runs\n   apt-get install -y --no-i…\n   the content of /src\n   changed: name (content)\n\
             2  layer  c0  runs  (after 1)\n   snapshot: layer → out/bas…\n"
        );
        let narrower = text(&build, &plan, fresh, Some(28));
        assert!(narrower.ends_with("2  layer  c0  fresh\n   (after 1)\n   snapshot: layer → out/ba…\n"), "{narrower}");
    }

    #[test]
    fn long_commands_are_shortened_by_characters_and_control_characters_shown_as_spaces() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = Action::Run("é".repeat(61));
        let plan = Plan::new(&build, &[]);
        assert_eq!(text(&build, &plan, fresh, None), format!("1  a  c0  fresh  {}…\n", "é".repeat(59)));
        build.steps[0].action = Action::Exec(vec!["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(text(&build, &plan, fresh, None), "1  a  c0  fresh  'a [2Jb c'\n");
    }

    #[test]
    fn a_snapshot_without_output_says_only_what_it_holds() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = snapshot(SnapshotMode::Layer, None);
        assert_eq!(text(&build, &Plan::new(&build, &[]), fresh, None), "1  a  c0  fresh  snapshot: layer\n");
    }

    #[test]
    fn why_steps_run_is_told_once_for_those_in_a_row() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1])]);
        let note = |step: StepId| Note {
            unknown: step == StepId(2),
            reasons: vec![(if step == StepId(2) { "other" } else { "never\nbuilt" }.into(), serde_json::Value::Null)],
            ..Note::default()
        };
        assert_eq!(
            text(&build, &Plan::new(&build, &[]), note, None),
            "1  a  c0  runs   true\n   never built\n2  b  c0  runs   true  (after 1)\n3  c  c0  maybe  true  (after 2)\n   other\n"
        );
    }
}
