//! The plan as text for people: a line for each step.

use super::Note;
use crate::cache::OutputState;
use crate::model::{Build, Step, StepId};
use crate::plan::{MAX_COLUMNS, Plan, action_in_columns, without_controls};
use crate::text_width::wrap;

/// If fewer columns remain for an action, the action gets a line of its own.
const MIN_COLUMNS: usize = 24;
/// The columns between two parts of a line.
const GAP: usize = 2;

/// Returns a line for each step: its number, name and container, whether it is in the store or runs, its action, and the
/// numbers of the steps that it waits for. Below the line are the reasons why the step runs, once for consecutive steps of
/// a container with the same reasons. The text ends with a newline, unless the plan is empty. On a terminal with few
/// columns, the action is on a second line.
pub fn text(build: &Build, plan: &Plan, note: impl Fn(StepId) -> Note, columns: Option<usize>) -> String {
    let mut numbers = vec![0; build.steps.len()];
    for (index, id) in plan.order().iter().enumerate() {
        numbers[id.0] = index + 1;
    }
    let layout = Layout::new(build, plan, &numbers, columns);
    let indent = " ".repeat(layout.number + GAP);
    let mut text = String::new();
    let mut printed: Vec<Vec<(String, serde_json::Value)>> = vec![Vec::new(); build.containers.len()];
    for id in plan.order() {
        let step = build.step(*id);
        let Note { fresh, unknown, output, may_push, reasons } = note(*id);
        let state = if fresh { "fresh" } else { ["runs", "maybe"][usize::from(unknown)] };
        text.push_str(layout.step(build, step, numbers[id.0], state, &after(build, plan, *id, &numbers)).trim_end());
        text.push('\n');
        let words = match output {
            OutputState::Same => None,
            OutputState::Missing => Some("its output does not exist: the build writes it from the store"),
            OutputState::Changed => Some("its output is not as the build wrote it: the build writes it from the store"),
        };
        if let Some(words) = words {
            text.push_str(&wrap(words, &indent, &indent, columns.unwrap_or(usize::MAX)));
        }
        if may_push {
            let words = "the build asks the registry where the tag leads, and pushes the image if it leads elsewhere";
            text.push_str(&wrap(words, &indent, &indent, columns.unwrap_or(usize::MAX)));
        }
        let printed = &mut printed[step.container.0];
        if *printed != reasons {
            for (words, _) in &reasons {
                text.push_str(&wrap(&without_controls(words), &indent, &indent, columns.unwrap_or(usize::MAX)));
            }
            *printed = reasons;
        }
    }
    text
}

/// The columns of the parts of a line.
struct Layout {
    number: usize,
    name: usize,
    container: usize,
    /// The columns of the terminal, if there is one.
    columns: Option<usize>,
    /// The action has a line of its own.
    in_two: bool,
}

impl Layout {
    fn new(build: &Build, plan: &Plan, numbers: &[usize], columns: Option<usize>) -> Self {
        let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let steps = || plan.order().iter().map(|id| build.step(*id));
        let after = widest(&mut plan.order().iter().map(|id| after(build, plan, *id, numbers).len()));
        let mut layout = Self {
            number: plan.order().len().to_string().len(),
            name: widest(&mut steps().map(|step| step.name.len())),
            container: widest(&mut steps().map(|step| build.container(step.container).name.len())),
            columns,
            in_two: false,
        };
        layout.in_two = columns.is_some_and(|columns| columns < layout.before_action() + MIN_COLUMNS + after);
        layout
    }

    fn before_action(&self) -> usize {
        self.number + self.name + self.container + "fresh".len() + 4 * GAP
    }

    fn step(&self, build: &Build, step: &Step, step_number: usize, state: &str, after: &str) -> String {
        let Self { number, name, container, columns, in_two } = *self;
        let (step_name, step_container) = (&step.name, &build.container(step.container).name);
        if let Some(columns) = columns.filter(|_| in_two) {
            let indent = " ".repeat(number + GAP);
            let head = format!("{step_number:number$}  {step_name}  {step_container}  {state}");
            let action = action(build, step, columns.saturating_sub(indent.len()));
            return if head.len() + after.len() <= columns {
                format!("{head}{after}\n{indent}{action}")
            } else {
                format!("{head}\n{indent}{}\n{indent}{action}", after.trim_start())
            };
        }
        let before = self.before_action() + after.len();
        let room = columns.map_or(MAX_COLUMNS, |columns| MAX_COLUMNS.min(columns.saturating_sub(before)));
        let action = action(build, step, room);
        format!("{step_number:number$}  {step_name:name$}  {step_container:container$}  {state:5}  {action}{after}")
    }
}

/// Returns the action of a step, and that it is a test.
fn action(build: &Build, step: &Step, columns: usize) -> String {
    let lead = if step.is_test() { "test: " } else { "" };
    format!("{lead}{}", action_in_columns(build, &step.action, columns.saturating_sub(lead.len())))
}

/// Returns the numbers of the steps that a step waits for, apart for those whose files it takes.
fn after(build: &Build, plan: &Plan, step: StepId, numbers: &[usize]) -> String {
    let sources: Vec<StepId> = build.sources(build.step(step)).collect();
    let (files, others): (Vec<StepId>, Vec<StepId>) =
        plan.needs(step).into_iter().partition(|need| sources.contains(need));
    let list = |word: &str, steps: Vec<StepId>| {
        let mut steps: Vec<usize> = steps.iter().map(|id| numbers[id.0]).collect();
        steps.sort_unstable();
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        (!steps.is_empty()).then(|| format!("{word} {}", steps.join(", ")))
    };
    let parts: Vec<String> = [list("after", others), list("files of", files)].into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::model::{Action, Compression, Snapshot, SnapshotMode};
    use crate::plan::fixture::build;

    fn fresh(_: StepId) -> Note {
        Note { fresh: true, ..Note::default() }
    }

    fn snapshot(mode: SnapshotMode, output: Option<&str>) -> Action {
        Action::Snapshot(Snapshot {
            mode,
            output: output.map(PathBuf::from),
            compression: Compression::Zstd,
            level: None,
            subtree: None,
        })
    }

    #[test]
    fn each_step_is_one_line() {
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
    fn on_a_narrow_terminal_the_action_has_a_line_of_its_own() {
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
    fn long_commands_are_cut_and_control_characters_become_spaces() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = Action::Run("é".repeat(61));
        let plan = Plan::new(&build, &[]);
        assert_eq!(text(&build, &plan, fresh, None), format!("1  a  c0  fresh  {}…\n", "é".repeat(59)));
        build.steps[0].action = Action::Exec(vec!["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(text(&build, &plan, fresh, None), "1  a  c0  fresh  'a [2Jb c'\n");
    }

    #[test]
    fn a_snapshot_without_output_shows_its_mode_alone() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = snapshot(SnapshotMode::Layer, None);
        assert_eq!(text(&build, &Plan::new(&build, &[]), fresh, None), "1  a  c0  fresh  snapshot: layer\n");
    }

    #[test]
    fn consecutive_steps_with_the_same_reasons_show_them_once() {
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
