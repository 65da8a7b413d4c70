//! The table of a page's steps: what each did, why it ran, how it ended, and its log.

use std::collections::HashMap;

use crate::escape::markup;
use crate::event::StepStatus;
use crate::report::ReportContext;
use crate::report::log_text::last_lines;
use crate::report::record::{Record, StepRecord};
use crate::report::words;

use super::{Page, word};

/// Of each step's log.
const LOG_BYTES: u64 = 256 << 10;

impl Page {
    /// Adds the table.
    pub(super) fn steps(&mut self, record: &Record, outline: Option<&ReportContext>) {
        self.line(format_args!(
            "<h2>Steps</h2>\n<table>\n<tr><th></th><th>Step</th><th>Container</th><th class=\"number\">Time</th><th>Image</th></tr>"
        ));
        let commands: HashMap<&str, &str> = outline.iter().flat_map(|outline| outline.graph.commands()).collect();
        for step in &record.steps {
            let status = word(step.status);
            let name = markup(&step.name);
            let about = about(step, outline, commands.get(step.name.as_str()).copied());
            let time = step.begun.map(|_| words::duration(step.duration_ms)).unwrap_or_default();
            let image = step.snapshot.as_ref().map(|snapshot| {
                format!(
                    "{}<br><code>{}</code><br><code class=\"faint\">{}</code>",
                    words::size(snapshot.size),
                    markup(&snapshot.path.to_string_lossy()),
                    markup(snapshot.digest.get(..19).unwrap_or(&snapshot.digest)),
                )
            });
            self.line(format_args!(
                "<tr id=\"step-{name}\"><td><span class=\"badge {status}\">{status}</span></td><td>{about}</td><td>{}</td>\
                 <td class=\"number\">{time}</td><td>{}</td></tr>",
                markup(&step.container),
                image.unwrap_or_default()
            ));
            if let Some(log) = log(step) {
                self.line(format_args!("<tr class=\"log\"><td></td><td colspan=\"4\">{log}</td></tr>"));
            }
        }
        self.line(format_args!("</table>"));
    }
}

/// Returns all that is known of a step but for its numbers.
fn about(step: &StepRecord, outline: Option<&ReportContext>, command: Option<&str>) -> String {
    let mut about = format!("<strong>{}</strong>", markup(&step.name));
    if let Some((outline, line)) = outline.and_then(|outline| Some((outline, outline.lines.get(&step.name)?))) {
        about.push_str(&format!(" <span class=\"faint mono\">{}:{line}</span>", markup(&outline.manifest)));
    }
    if step.attempts > 1 {
        about.push_str(&format!(" <span class=\"faint\">tried {} times</span>", step.attempts));
    }
    about.push_str(&command.map(self::command).unwrap_or_default());
    let failed = step.exit_code.filter(|_| step.status == Some(StepStatus::Failed));
    let how = words::reason_and_hint(step.reason.as_deref(), failed, step.failure.as_deref());
    for line in why(step).into_iter().chain(how) {
        about.push_str(&format!("<div class=\"faint\">{}</div>", markup(&line)));
    }
    for warning in &step.warnings {
        about.push_str(&format!("<p class=\"warning\">warning: {}</p>", markup(warning)));
    }
    about
}

/// A command as the manifest says it. A script of several lines begins with its first, and unfolds.
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

/// The step's log, to be unfolded; that of a failed step is open.
fn log(step: &StepRecord) -> Option<String> {
    let lines = last_lines(step.log.as_ref()?, LOG_BYTES);
    if lines.is_empty() {
        return None;
    }
    let open = if step.status == Some(StepStatus::Failed) { " open" } else { "" };
    let count = lines.len();
    let what = if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
    // The first line end after <pre> is not shown, so there is one.
    Some(format!(
        "<details{open}><summary class=\"faint\">{what}</summary><pre>\n{}</pre></details>",
        markup(&lines.join("\n"))
    ))
}
