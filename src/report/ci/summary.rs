//! The summary of a GitHub job: a table of the steps and the graph, in Markdown.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use crate::event::{BuildStatus, Stamped, StepStatus};
use crate::fs::named_file::NamedFile;
use crate::graph::mermaid;

use super::super::record::Record;
use super::super::{ReportContext, Reporter, words};

/// The rows of the table: GitHub accepts a megabyte.
const MAX_ROWS: usize = 500;

/// Appends to `$GITHUB_STEP_SUMMARY` at the build's end.
#[derive(Debug)]
pub(in crate::report) struct Summary {
    file: NamedFile,
    context: Option<Arc<ReportContext>>,
    record: Record,
}

impl Summary {
    pub(in crate::report) fn new(file: NamedFile, context: Option<Arc<ReportContext>>) -> Self {
        Self { file, context, record: Record::default() }
    }
}

impl Reporter for Summary {
    fn event(&mut self, stamped: &Stamped, _: &mut dyn Write) -> io::Result<()> {
        self.record.event(stamped);
        Ok(())
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        let text = markdown(&self.record, self.context.as_deref());
        self.file.append()?.write_all(text.as_bytes())
    }
}

fn markdown(record: &Record, context: Option<&ReportContext>) -> String {
    let status = match record.status {
        Some(BuildStatus::Done) => "✅ done",
        Some(BuildStatus::Failed) => "❌ failed",
        Some(BuildStatus::Interrupted) => "⏹ interrupted",
        None => "⏹ never ended",
    };
    let mut text = format!(
        "### {} — {status} in {}\n\n{}\n\n| | step | container | time | image |\n| --- | --- | --- | ---: | --- |\n",
        cell(&record.name),
        words::duration(record.duration_ms),
        record.counts().join(", ")
    );
    for step in record.steps.iter().take(MAX_ROWS) {
        let status = match step.status {
            Some(StepStatus::Ran) => "✅",
            Some(StepStatus::Cached) => "💾 cached",
            Some(StepStatus::Failed) => "❌",
            Some(StepStatus::Skipped) => "⏭ skipped",
            None => "⏹",
        };
        let failed = step.exit_code.filter(|_| step.status == Some(StepStatus::Failed));
        let why = words::reason_and_hint(step.reason.as_deref(), failed, step.failure.as_deref())
            .map(|why| format!(": {}", cell(&why)));
        let time = step.begun.map(|_| words::duration(step.duration_ms)).unwrap_or_default();
        let image = step
            .snapshot
            .as_ref()
            .map(|image| format!("{}, `{}`", words::size(image.size), image.digest.get(..19).unwrap_or(&image.digest)));
        // Whole, to be copied: the name by which the image is pulled.
        let pushed = step.pushed.as_ref().map(|push| format!("{} `{}`", push.words(), push.image));
        let image = [image, pushed].into_iter().flatten().collect::<Vec<_>>().join("; ");
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {status} | {}{} | {} | {time} | {} |",
            cell(&step.name),
            why.unwrap_or_default(),
            cell(&step.container),
            image
        );
    }
    if record.steps.len() > MAX_ROWS {
        let _ = writeln!(text, "\n… and {} more steps", record.steps.len() - MAX_ROWS);
    } else if let Some(context) = context {
        let marks = record.marks(context);
        let graph = mermaid(&context.graph, Some(&marks));
        let _ = writeln!(text, "\n<details><summary>Graph</summary>\n\n```mermaid\n{graph}```\n\n</details>");
    }
    text.push('\n');
    text
}

/// Returns the text on one line, without anything that Markdown or HTML would interpret.
fn cell(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => escaped.push(' '),
            c if c.is_control() => {}
            c if c.is_ascii_punctuation() && !matches!(c, '.' | '-' | '_' | ',' | '/' | '(' | ')' | '=' | '+') => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::script::{failing, passing};
    use super::*;

    fn summary(events: Vec<Stamped>) -> String {
        let mut record = Record::default();
        events.iter().for_each(|stamped| record.event(stamped));
        markdown(&record, None)
    }

    #[test]
    fn each_step_is_a_row() {
        assert_eq!(
            summary(passing()),
            "### sdk — ✅ done in 13.1s\n\n2 ran, 1 cached\n\n| | step | container | time | image |\n\
             | --- | --- | --- | ---: | --- |\n| 💾 cached | tools | base |  |  |\n| ✅ | packages | base | 12.3s |  |\n\
             | ✅ | base-layer | base | 0.70s | 1.5 MiB, `sha256:0123456789ab` |\n\n"
        );
        assert!(
            summary(failing())
                .contains("| ❌ | hello: exit code 2 | sdk | 0.09s |  |\n| ⏭ skipped | image: hello failed |")
        );
    }

    #[test]
    fn nothing_in_a_cell_is_markup() {
        assert_eq!(cell("a|b\n<c> `d` [e](f)\u{1b}"), "a&#124;b &#60;c&#62; &#96;d&#96; &#91;e&#93;(f)");
    }
}
