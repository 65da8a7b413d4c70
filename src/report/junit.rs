//! A build as JUnit XML: a suite for each container and one for its tests, a case for each step.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::event::StepStatus;

use super::log_text::last_lines;
use super::record::{Record, StepRecord};
use super::{ReportContext, words};

/// The bytes of each step's log that a case has.
const LOG_BYTES: u64 = 64 << 10;

/// Returns the report as a JUnit XML document.
pub(super) fn document(record: &Record, context: Option<&ReportContext>) -> Result<String, SerializeError> {
    let mut report = Report::new(text(&record.name));
    report.set_time(Duration::from_millis(record.duration_ms));
    let mut suites: Vec<TestSuite> = Vec::new();
    for step in &record.steps {
        let name = suite(step);
        let at = match suites.iter().position(|suite| suite.name.as_str() == name) {
            Some(at) => at,
            None => {
                suites.push(TestSuite::new(name));
                suites.len() - 1
            }
        };
        suites[at].add_test_case(case(step, context));
    }
    for suite in &mut suites {
        let time = suite.test_cases.iter().filter_map(|case| case.time).sum();
        suite.set_time(time);
    }
    report.add_test_suites(suites);
    report.to_string()
}

/// Returns the name of the suite of a step.
fn suite(step: &StepRecord) -> String {
    let container = text(&step.container);
    if step.test { format!("{container} tests") } else { container }
}

fn case(step: &StepRecord, context: Option<&ReportContext>) -> TestCase {
    let reason =
        words::reason_and_hint(step.reason.as_deref(), step.exit_code, step.failure.as_deref()).unwrap_or_default();
    let lines = || step.log.iter().flat_map(|log| last_lines(log, LOG_BYTES)).collect::<Vec<_>>().join("\n");
    let status = match step.status {
        Some(StepStatus::Ran | StepStatus::Cached) => TestCaseStatus::success(),
        Some(StepStatus::Failed) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(text(&reason)).set_description(text(&format!("{reason}\n{}", lines())));
            status
        }
        Some(StepStatus::Skipped) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(text(&reason));
            status
        }
        None => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message("the build ended before the step did");
            status
        }
    };
    let mut case = TestCase::new(text(&step.name), status);
    case.set_classname(suite(step)).set_time(Duration::from_millis(step.duration_ms));
    if step.status == Some(StepStatus::Cached) {
        case.add_property(("cached", "true"));
    }
    if let Some(snapshot) = &step.snapshot {
        case.add_property(("digest", snapshot.digest.as_str()));
        case.add_property(("size", snapshot.size.to_string().as_str()));
    }
    if let Some((context, line)) = context.and_then(|context| Some((context, context.lines.get(&step.name)?))) {
        case.extra.insert("file".into(), text(&context.manifest).into());
        case.extra.insert("line".into(), line.to_string().into());
    }
    let output = lines();
    if !output.is_empty() {
        case.set_system_out(text(&output));
    }
    case
}

/// Returns the text without the characters that XML forbids; quick-junit drops only control characters.
fn text(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}
