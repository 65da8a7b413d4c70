//! The action of a step as one line of text.

use std::path::{Path, PathBuf};

use crate::escape;
use crate::model::{Action, Build, Copy, CopySource, Export, Snapshot, SnapshotMode};
use crate::text_width::{fit, width};

/// The columns that a long action is cut to.
pub const MAX_COLUMNS: usize = 60;

/// Returns the action on one line, cut to [`MAX_COLUMNS`].
pub fn action(build: &Build, action: &Action) -> String {
    action_in_columns(build, action, MAX_COLUMNS)
}

/// Returns the action on one line, cut to this number of columns.
pub fn action_in_columns(build: &Build, action: &Action, columns: usize) -> String {
    match action {
        Action::Run(script) => {
            let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or_default();
            cut(first, lines.next().is_some(), columns)
        }
        Action::Exec(argv) => {
            cut(&argv.iter().map(|word| escape::word(word)).collect::<Vec<_>>().join(" "), false, columns)
        }
        Action::Copy(copy) => cut(&format!("copy: {}", copied(build, copy)), false, columns),
        Action::Snapshot(snapshot) => cut(&self::snapshot(build, snapshot), false, columns),
        Action::Export(export) => cut(&self::export(build, export), false, columns),
    }
}

fn snapshot(build: &Build, snapshot: &Snapshot) -> String {
    let mode = match snapshot.mode {
        SnapshotMode::Layer => "layer",
        SnapshotMode::Full => "full image",
    };
    match &snapshot.output {
        Some(output) => format!("snapshot: {mode} → {}", without_controls(&relative(output, &build.directory))),
        None => format!("snapshot: {mode}"),
    }
}

/// Returns the sources of a copy and its target in a few words, for a line of its own: `sdk:/usr/bin/hello → /usr/bin/`.
pub fn copied(build: &Build, copy: &Copy) -> String {
    let source = |source: &PathBuf| match copy.from {
        CopySource::Snapshot(step) => format!("{}:{}", build.step(step).name, source.display()),
        CopySource::Host => relative(source, &build.directory),
    };
    let sources: Vec<String> = copy.sources.iter().map(source).collect();
    let slash = if copy.into && copy.target.as_os_str() != "/" { "/" } else { "" };
    without_controls(&format!("{} → {}{slash}", sources.join(" "), copy.target.display()))
}

fn export(build: &Build, export: &Export) -> String {
    let exported = format!("export: {} {}", export.format.name(), export.path.display());
    let output = export.output.iter().map(|output| without_controls(&relative(output, &build.directory)));
    let places: Vec<String> = output.chain(export.push.iter().map(ToString::to_string)).collect();
    if places.is_empty() { exported } else { format!("{exported} → {}", places.join(", ")) }
}

fn relative(path: &Path, directory: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).to_string_lossy().into_owned()
}

/// Returns the command in this number of columns, with `…` in place of the omitted text. `has_more`: the command has
/// further lines.
fn cut(command: &str, has_more: bool, columns: usize) -> String {
    let command = without_controls(command);
    if !has_more {
        return fit(&command, columns);
    }
    // If the whole first line fits, the `…` stands for the further lines.
    if width(&command) + 2 <= columns { format!("{command} …") } else { fit(&(command + " …"), columns) }
}

/// Returns the text with spaces in place of control characters, which would break the line or move a terminal's cursor.
pub fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
