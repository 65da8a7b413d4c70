//! A build as one self-contained HTML page: a timeline, the graph, each step with its command, the reason why it ran,
//! and its log.
//!
//! The output of steps is hostile: all text is escaped, and a policy in the page's head prevents a browser from
//! running or loading anything, should something slip through.

mod steps;

use std::fmt::Write;
use std::time::SystemTime;

use crate::escape::markup;
use crate::event::{BuildStatus, StepStatus};
use crate::graph::svg;

use super::record::{Record, StepRecord};
use super::{ReportContext, words};

const CSS: &str = include_str!("page.css");

/// Returns the page.
pub(super) fn page(record: &Record, context: Option<&ReportContext>) -> String {
    let mut page = Page::default();
    let name = markup(&record.name);
    page.line(format_args!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n<title>{name}</title>\n<style>\n{CSS}</style>\n</head>\n<body>"
    ));
    page.head(record);
    page.legend(record);
    page.timeline(record);
    if let Some(context) = context {
        let marks = record.marks(context);
        let graph = svg(&context.graph, Some(&marks));
        page.line(format_args!("<h2>Graph</h2>\n<div class=\"scroll\">\n{graph}</div>"));
    }
    page.steps(record, context);
    page.line(format_args!("</body>\n</html>"));
    page.0
}

/// The statuses of a finished step, in the order of the legend.
const STATUSES: [StepStatus; 4] = [StepStatus::Ran, StepStatus::Cached, StepStatus::Failed, StepStatus::Skipped];

/// Returns the meaning of a badge and of a colour, for the legend.
fn meaning(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Ran => "ran in this build",
        StepStatus::Cached => "taken from the store, did not run",
        StepStatus::Failed => "ran and failed",
        StepStatus::Skipped => "did not begin",
    }
}

/// Returns the name of a status, which is also its CSS class.
fn word(status: Option<StepStatus>) -> &'static str {
    match status {
        Some(StepStatus::Ran) => "ran",
        Some(StepStatus::Cached) => "cached",
        Some(StepStatus::Failed) => "failed",
        Some(StepStatus::Skipped) => "skipped",
        None => "unknown",
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn head(&mut self, record: &Record) {
        let status = match record.status {
            Some(BuildStatus::Done) => "done",
            Some(BuildStatus::Failed) => "failed",
            Some(BuildStatus::Interrupted) => "interrupted",
            None => "unknown",
        };
        self.line(format_args!("<h1>{} <span class=\"badge {status}\">{status}</span></h1>", markup(&record.name)));
        let mut facts = vec![words::duration(record.duration_ms)];
        facts.extend(record.counts());
        facts.extend(record.begun.map(|begun| format!("begun {}", humantime::format_rfc3339_seconds(begun))));
        self.line(format_args!("<p class=\"faint\">{}</p>", facts.join(" · ")));
        for warning in &record.warnings {
            self.line(format_args!("<p class=\"warning\">warning: {}</p>", markup(warning)));
        }
    }

    /// Adds the legend of the badges and bars that are on the page.
    fn legend(&mut self, record: &Record) {
        let has = |status: &StepStatus| record.steps.iter().any(|step| step.status == Some(*status));
        let mut entries: Vec<String> = STATUSES
            .into_iter()
            .filter(has)
            .map(|status| format!("<span class=\"badge {0}\">{0}</span> {1}", word(Some(status)), meaning(status)))
            .collect();
        if record.steps.iter().any(|step| step.begun.is_some()) {
            entries.push("<span class=\"sample\"></span> step in the timeline".to_owned());
        }
        if record.steps.iter().any(|step| step.begun.is_some() && step.snapshot.is_some()) {
            entries.push("<span class=\"sample snapshot\"></span> snapshot in the timeline".to_owned());
        }
        if entries.is_empty() {
            return;
        }
        let entries: Vec<String> = entries.iter().map(|entry| format!("<span>{entry}</span>")).collect();
        self.line(format_args!("<div class=\"legend faint\">{}</div>", entries.join("\n")));
    }

    /// Adds the timeline: a lane for each of the steps that ran at the same time.
    fn timeline(&mut self, record: &Record) {
        let Some(begin) = record.begun else { return };
        let mut bars: Vec<(u64, u64, &StepRecord)> = record
            .steps
            .iter()
            .filter_map(|step| {
                let at = since(begin, step.begun?);
                Some((at, at.saturating_add(step.duration_ms), step))
            })
            .collect();
        bars.sort_by_key(|(at, ..)| *at);
        let whole = bars.iter().map(|(_, end, _)| *end).max().unwrap_or(0).max(record.duration_ms).max(1);
        let mut lanes: Vec<(u64, Vec<String>)> = Vec::new();
        for (at, end, step) in bars {
            let percent = |time: u64| time as f64 * 100.0 / whole as f64;
            let status = word(step.status);
            let class = if step.snapshot.is_some() { " snapshot" } else { "" };
            let name = markup(&step.name);
            let bar = format!(
                "<a class=\"bar {status}{class}\" style=\"left:{:.3}%;width:{:.3}%\" href=\"#step-{name}\" \
                 title=\"{name}: {status}, {}\">{name}</a>",
                percent(at),
                percent(end - at),
                words::duration(step.duration_ms)
            );
            match lanes.iter_mut().find(|(free, _)| *free <= at) {
                Some((free, lane)) => {
                    *free = end;
                    lane.push(bar);
                }
                None => lanes.push((end, vec![bar])),
            }
        }
        if lanes.is_empty() {
            return;
        }
        self.line(format_args!("<h2>Timeline</h2>\n<div class=\"scroll\">\n<div class=\"time\">"));
        let tick = tick(whole);
        for time in (0..=whole).step_by(usize::try_from(tick).unwrap_or(usize::MAX)) {
            let left = time as f64 * 100.0 / whole as f64;
            // A label at the very end would stick out.
            if left <= 96.0 {
                self.line(format_args!("<span style=\"left:{left:.3}%\">{}</span>", axis(time, tick)));
            }
        }
        self.line(format_args!("</div>"));
        for (_, lane) in lanes {
            self.line(format_args!("<div class=\"lane\">{}</div>", lane.join("")));
        }
        self.line(format_args!("</div>"));
        self.cached(record);
    }

    /// Adds the cached steps, which took no time and so have no place on the axis.
    fn cached(&mut self, record: &Record) {
        let cached = record.steps.iter().filter(|step| step.status == Some(StepStatus::Cached));
        let names: Vec<String> = cached.map(|step| markup(&step.name)).collect();
        if names.is_empty() {
            return;
        }
        self.line(format_args!("<div class=\"fresh\"><span class=\"faint\">Taken from the store:</span>"));
        for name in names {
            self.line(format_args!("<a class=\"badge cached\" href=\"#step-{name}\">{name}</a>"));
        }
        self.line(format_args!("</div>"));
    }
}

fn since(begin: SystemTime, time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(begin).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Returns the milliseconds between two marks of the axis: a round number that gives at most ten marks.
fn tick(whole: u64) -> u64 {
    let rounds = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000,
        600_000, 1_200_000, 1_800_000, 3_600_000,
    ];
    rounds.into_iter().find(|tick| whole / tick <= 10).unwrap_or_else(|| whole.div_ceil(10))
}

fn axis(time: u64, tick: u64) -> String {
    match tick {
        0..1_000 => format!("{}s", time as f64 / 1000.0),
        1_000..60_000 if time < 60_000 => format!("{}s", time / 1000),
        _ => format!("{}m{:02}s", time / 60_000, time / 1000 % 60),
    }
}

#[cfg(test)]
mod tests;
