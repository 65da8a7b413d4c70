//! The table of a page's steps: the command of each, the reason why it ran, its result, and its log.

use std::collections::HashMap;

use crate::escape::markup;
use crate::event::StepStatus;
use crate::image::{Content, NamedSize};
use crate::report::ReportContext;
use crate::report::log_text::last_lines;
use crate::report::record::{Record, StepRecord};
use crate::report::words;

use super::{Page, word};

/// The bytes of each step's log that the page shows.
const LOG_BYTES: u64 = 256 << 10;

impl Page {
    /// Adds the table of the steps.
    pub(super) fn steps(&mut self, record: &Record, context: Option<&ReportContext>) {
        self.line(format_args!(
            "<h2>Steps</h2>\n<table>\n<tr><th></th><th>Step</th><th>Container</th><th class=\"number\">Time</th><th>Image</th></tr>"
        ));
        let commands: HashMap<&str, &str> = context.iter().flat_map(|context| context.graph.commands()).collect();
        for step in &record.steps {
            let status = word(step.status);
            let name = markup(&step.name);
            let about = about(step, context, commands.get(step.name.as_str()).copied());
            let time = step.begun.map(|_| words::duration(step.duration_ms)).unwrap_or_default();
            let image = step.snapshot.as_ref().map(|snapshot| {
                format!(
                    "{}<br><code>{}</code><br><code class=\"faint\">{}</code>{}",
                    words::size(snapshot.size),
                    markup(&snapshot.path.to_string_lossy()),
                    markup(snapshot.digest.get(..19).unwrap_or(&snapshot.digest)),
                    snapshot.content.as_ref().map(content).unwrap_or_default(),
                )
            });
            let pushed =
                step.pushed.as_ref().map(|push| format!("<br>{} <code>{}</code>", push.words(), markup(&push.image)));
            self.line(format_args!(
                "<tr id=\"step-{name}\"><td><span class=\"badge {status}\">{status}</span></td><td>{about}</td><td>{}</td>\
                 <td class=\"number\">{time}</td><td>{}{}</td></tr>",
                markup(&step.container),
                image.unwrap_or_default(),
                pushed.unwrap_or_default()
            ));
            if let Some(log) = log(step) {
                self.line(format_args!("<tr class=\"log\"><td></td><td colspan=\"4\">{log}</td></tr>"));
            }
        }
        self.line(format_args!("</table>"));
    }
}

/// Returns the facts about a step, except its numbers.
fn about(step: &StepRecord, context: Option<&ReportContext>, command: Option<&str>) -> String {
    let mut about = format!("<strong>{}</strong>", markup(&step.name));
    if let Some((context, line)) = context.and_then(|context| Some((context, context.lines.get(&step.name)?))) {
        about.push_str(&format!(" <span class=\"faint mono\">{}:{line}</span>", markup(&context.manifest)));
    }
    if step.test {
        about.push_str(" <span class=\"faint\">test</span>");
    }
    if step.attempts > 1 {
        about.push_str(&format!(" <span class=\"faint\">tried {} times</span>", step.attempts));
    }
    about.push_str(&command.map(self::command).unwrap_or_default());
    let failed = step.exit_code.filter(|_| step.status == Some(StepStatus::Failed));
    let result = words::reason_and_hint(step.reason.as_deref(), failed, step.failure.as_deref());
    for line in why(step).into_iter().chain(result) {
        about.push_str(&format!("<div class=\"faint\">{}</div>", markup(&line)));
    }
    for warning in &step.warnings {
        about.push_str(&format!("<p class=\"warning\">warning: {}</p>", markup(warning)));
    }
    about
}

/// Returns the command from the manifest. A script of several lines shows its first line and unfolds.
fn command(text: &str) -> String {
    match text.trim_end().split_once('\n') {
        None => format!("<div><code>{}</code></div>", markup(text)),
        Some((first, _)) => format!(
            "<details class=\"command\"><summary><code>{} …</code></summary><pre>\n{}</pre></details>",
            markup(first),
            markup(text)
        ),
    }
}

/// Returns why a step ran, or that it did not have to.
fn why(step: &StepRecord) -> Option<String> {
    match step.status {
        Some(StepStatus::Cached) => Some("taken from the store: nothing that it depends on has changed".to_owned()),
        _ if step.reasons.is_empty() => None,
        _ => {
            let reasons: Vec<String> = step.reasons.iter().map(ToString::to_string).collect();
            Some(format!("why it ran: {}", reasons.join("; ")))
        }
    }
}

/// Returns the sizes in an image, folded.
fn content(content: &Content) -> String {
    let list = |title: &str, entries: &[NamedSize]| -> String {
        let line =
            |entry: &NamedSize| format!("{:>10}  {}\n", words::size(entry.size), entry.path.replace(['\n', '\t'], " "));
        let lines: String = entries.iter().map(line).collect();
        if lines.is_empty() { String::new() } else { format!("{title}\n{lines}") }
    };
    let lists = list("directories", &content.directories) + &list("largest files", &content.largest);
    format!(
        "<details><summary class=\"faint\">{} in {} files</summary><pre>\n{}</pre></details>",
        words::size(content.size),
        content.files,
        markup(&lists)
    )
}

/// Returns the step's log, folded; the log of a failed step is unfolded.
fn log(step: &StepRecord) -> Option<String> {
    let lines = last_lines(step.log.as_ref()?, LOG_BYTES);
    if lines.is_empty() {
        return None;
    }
    let open = if step.status == Some(StepStatus::Failed) { " open" } else { "" };
    let count = lines.len();
    let lines_text = if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    // The first line end after <pre> is not shown, so there is one.
    Some(format!(
        "<details{open}><summary class=\"faint\">{lines_text}</summary><pre>\n{}</pre></details>",
        markup(&lines.join("\n"))
    ))
}
