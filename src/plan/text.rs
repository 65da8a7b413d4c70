//! The plan as text: one line a step, for people.

use std::path::Path;

use crate::build::{Action, Build, Snapshot, SnapshotMode, StepId};
use crate::escape;

use super::{Note, Plan};

/// How many characters of a command are shown.
const WIDTH: usize = 60;

/// One line a step: its number, name and container, whether it is in the store or runs, what it does, and the numbers of
/// the steps that it waits for. Below it why it runs, once for steps in a row that run for the same. Ends with a newline,
/// unless nothing is planned.
pub fn text(build: &Build, plan: &Plan, note: impl Fn(StepId) -> Note) -> String {
    let mut number = vec![0; build.steps.len()];
    for (at, id) in plan.order().iter().enumerate() {
        number[id.0] = at + 1;
    }
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let steps = || plan.order().iter().map(|id| build.step(*id));
    let numbers = plan.order().len().to_string().len();
    let names = width(&mut steps().map(|step| step.name.len()));
    let containers = width(&mut steps().map(|step| build.container(step.container).name.len()));
    let mut text = String::new();
    let mut told: Vec<Vec<(String, serde_json::Value)>> = vec![Vec::new(); build.containers.len()];
    for id in plan.order() {
        let step = build.step(*id);
        let Note { fresh, reasons } = note(*id);
        let line = format!(
            "{:numbers$}  {:names$}  {:containers$}  {}  {}{}",
            number[id.0],
            step.name,
            build.container(step.container).name,
            if fresh { "fresh" } else { "runs " },
            action(build, &step.action),
            after(&plan.needs(*id), &number),
        );
        text.push_str(line.trim_end());
        text.push('\n');
        let told = &mut told[step.container.0];
        if *told != reasons {
            for (words, _) in &reasons {
                text.push_str(&format!("{:indent$}{}\n", "", plain(words), indent = numbers + 2));
            }
            *told = reasons;
        }
    }
    text
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
    match action {
        Action::Run(script) => {
            let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default();
            shorten(first, lines.next().is_some())
        }
        Action::Exec(argv) => shorten(&argv.iter().map(|word| escape::word(word)).collect::<Vec<_>>().join(" "), false),
        Action::Snapshot(snapshot) => self::snapshot(build, snapshot),
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

/// At most [`WIDTH`] characters, with `…` where something is left out.
fn shorten(command: &str, more: bool) -> String {
    let command = plain(command);
    let long = command.chars().count() > WIDTH;
    if !long && !more {
        return command;
    }
    let head: String = command.chars().take(if long { WIDTH - 1 } else { WIDTH }).collect();
    format!("{}{}…", head.trim_end(), if long { "" } else { " " })
}

/// Control characters would break the line, or move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::fixture::build;
    use super::*;
    use crate::build::Compression;

    fn fresh(_: StepId) -> Note {
        Note { fresh: true, reasons: Vec::new() }
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
            text(&build, &plan, fresh),
            "1  packages  c0  fresh  apt-get update …\n\
             2  layer     c0  fresh  snapshot: layer → out/base.squashfs  (after 1)\n\
             3  hello     c1  fresh  echo 'it'\\''s' 'a b' ''  (after 2)\n\
             4  image     c1  fresh  snapshot: full image → /srv/sdk.squashfs  (after 2, 3)\n"
        );
    }

    #[test]
    fn long_commands_are_shortened_by_characters_and_control_characters_shown_as_spaces() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = Action::Run("é".repeat(61));
        let plan = Plan::new(&build, &[]);
        assert_eq!(text(&build, &plan, fresh), format!("1  a  c0  fresh  {}…\n", "é".repeat(59)));
        build.steps[0].action = Action::Exec(vec!["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(text(&build, &plan, fresh), "1  a  c0  fresh  'a [2Jb c'\n");
    }

    #[test]
    fn a_snapshot_without_output_says_only_what_it_holds() {
        let mut build = build(&[("a", 0, &[])]);
        build.steps[0].action = snapshot(SnapshotMode::Layer, None);
        assert_eq!(text(&build, &Plan::new(&build, &[]), fresh), "1  a  c0  fresh  snapshot: layer\n");
    }

    #[test]
    fn why_steps_run_is_told_once_for_those_in_a_row() {
        let build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1])]);
        let note = |step: StepId| Note {
            fresh: false,
            reasons: vec![(if step == StepId(2) { "other" } else { "never\nbuilt" }.into(), serde_json::Value::Null)],
        };
        assert_eq!(
            text(&build, &Plan::new(&build, &[]), note),
            "1  a  c0  runs   true\n   never built\n2  b  c0  runs   true  (after 1)\n3  c  c0  runs   true  (after 2)\n   other\n"
        );
    }
}
