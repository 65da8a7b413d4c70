//! Durations, sizes and names as people read them.

use crate::cache::key::Reason;
use crate::event::{Continuation, StepFailure, StepStatus, TestTotals};
use crate::written_through::WrittenThrough;

/// Returns a duration as `0.04s`, `12.3s`, `3m05s` or `2h00m`; a longer one is less exact.
pub(crate) fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..9_995 => format!("{}.{:02}s", (milliseconds + 5) / 1000, (milliseconds + 5) / 10 % 100),
        9_995..59_950 => format!("{}.{}s", (milliseconds + 50) / 1000, (milliseconds + 50) / 100 % 10),
        59_950..3_599_500 => {
            let seconds = (milliseconds + 500) / 1000;
            format!("{}m{:02}s", seconds / 60, seconds % 60)
        }
        _ => {
            let minutes = milliseconds.saturating_add(30_000) / 60_000;
            format!("{}h{:02}m", minutes / 60, minutes % 60)
        }
    }
}

/// Returns the time that something running has taken: without hundredths, which would only flicker.
pub(super) fn clock(milliseconds: u64) -> String {
    match milliseconds {
        0..60_000 => format!("{}.{}s", milliseconds / 1000, milliseconds / 100 % 10),
        _ => duration(milliseconds),
    }
}

/// Returns the precision with which an estimated time is shown, in milliseconds.
pub(super) fn precision(milliseconds: u64) -> u64 {
    match milliseconds {
        0..57_500 => 5_000,
        57_500..172_500 => 15_000,
        172_500..3_570_000 => 60_000,
        _ => 600_000,
    }
}

/// Returns an estimated time as `5s`, `1m15s`, `12m` or `1h20m`; to the nearest [`precision`], and never zero.
pub(super) fn about(milliseconds: u64) -> String {
    let precision = precision(milliseconds);
    let seconds = (milliseconds.saturating_add(precision / 2) / precision).max(1) * (precision / 1000);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// Returns a size in binary units, with one decimal.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1023.95 && unit < 4 {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{scaled:.1} {}", ["", "KiB", "MiB", "GiB", "TiB"][unit]) }
}

/// The numbers of a build's steps, by their ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ran: usize,
    pub(super) cached: usize,
    pub(super) failed: usize,
    /// Those of the failed ones that the interruption of the build stopped.
    pub(super) stopped: usize,
    pub(super) skipped: usize,
}

/// Returns the numbers that are not zero as text, such as `2 ran`. A stopped step is not counted as failed too.
pub(super) fn counts(counts: Counts) -> Vec<String> {
    let Counts { ran, cached, failed, stopped, skipped } = counts;
    let failed = failed.saturating_sub(stopped);
    let counts = [(ran, "ran"), (cached, "cached"), (failed, "failed"), (stopped, "stopped"), (skipped, "skipped")];
    counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect()
}

/// Returns whether the interruption of the build stopped a failed step.
pub(super) fn is_stopped(failure: Option<&StepFailure>) -> bool {
    failure.is_some_and(|failure| failure.stopped)
}

/// Returns why a step failed or was skipped: the event's reason, or else the exit code.
pub(super) fn reason(reason: Option<&str>, exit_code: Option<i32>) -> Option<String> {
    match (reason, exit_code) {
        (Some(reason), _) => Some(reason.to_owned()),
        (None, Some(code)) => Some(format!("exit code {code}")),
        (None, None) => None,
    }
}

/// Returns the reason with the hint of a failure, for reports that have only one place for both.
pub(super) fn reason_and_hint(
    reason: Option<&str>,
    exit_code: Option<i32>,
    failure: Option<&StepFailure>,
) -> Option<String> {
    let reason = self::reason(reason, exit_code)?;
    let hint = failure.and_then(|failure| failure.hint.clone());
    Some([Some(reason), hint, failure.and_then(half_written)].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// Names the mounts in which a failed step may have left half-written files.
pub(super) fn half_written(failure: &StepFailure) -> Option<String> {
    let all = &failure.half_written;
    (!all.is_empty()).then(|| format!("it may have left half-written files in {}", WrittenThrough::list(all)))
}

/// Returns why a step is not taken from the store, if that is worth showing.
pub(super) fn why(reasons: &[Reason]) -> Option<String> {
    let is_obvious = |reason: &Reason| {
        matches!(reason, Reason::NeverBuilt | Reason::NotKept | Reason::NoCache | Reason::BelowIsBuilt { .. })
    };
    if reasons.iter().all(is_obvious) {
        return None;
    }
    Some(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

/// Returns the text of a step's last line.
pub(super) fn ending(status: StepStatus, is_stopped: bool, duration_ms: u64, why: Option<&str>) -> String {
    let because = why.map(|why| format!(": {why}")).unwrap_or_default();
    match status {
        StepStatus::Ran => format!("done in {}", duration(duration_ms)),
        StepStatus::Cached => format!("cached{because}"),
        StepStatus::Failed if is_stopped => format!("stopped after {}{because}", duration(duration_ms)),
        StepStatus::Failed => format!("failed after {}{because}", duration(duration_ms)),
        StepStatus::Skipped => format!("skipped{because}"),
    }
}

/// Returns the numbers of tests by their results.
pub(super) fn tests(tests: TestTotals) -> String {
    let TestTotals { passed, cached, failed, skipped } = tests;
    let mut text = format!("tests: {passed} passed");
    if cached > 0 {
        text.push_str(&format!(" ({cached} cached)"));
    }
    for (count, word) in [(failed, "failed"), (skipped, "skipped")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text
}

/// Returns the line of a step that waits for a cache.
pub(super) fn waits(cache: &str) -> String {
    format!("waits for the cache {cache}, which another step uses")
}

/// Returns the line of a checkpoint that is in the store.
pub(super) fn checkpoint_written(bytes: u64) -> String {
    format!("checkpoint stored ({})", size(bytes))
}

/// Returns the line of an image that a registry has under its tag.
pub(super) fn pushed(image: &str, sent: u64, changed: bool) -> String {
    if changed { format!("pushed {image} ({} sent)", size(sent)) } else { format!("the registry has {image}") }
}

/// Returns the line of a step that begins from a checkpoint.
pub(super) fn checkpoint_restored(after: &str) -> String {
    format!("continues from the checkpoint after {after}")
}

/// Returns where the next build continues; with the container's name if several continue.
pub(super) fn continuation(known: &Continuation, is_one_of_several: bool) -> String {
    let Continuation { container, step, again, again_ms, why } = known;
    let lead = if is_one_of_several { format!("{container}: ") } else { String::new() };
    if *again == 0 {
        return format!("{lead}continues with step {step}, from a checkpoint");
    }
    let steps = if *again == 1 { "1 step".to_owned() } else { format!("{again} steps") };
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{lead}runs again from step {step} on ({steps}, {}){why}", duration(*again_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_and_its_hint_are_one_text() {
        let failure = |hint: Option<&str>| StepFailure {
            command: String::new(),
            place: None,
            kept: false,
            hint: hint.map(str::to_owned),
            mismatched: false,
            stopped: false,
            half_written: Vec::new(),
        };
        assert_eq!(
            reason_and_hint(None, Some(1), Some(&failure(Some("do this")))).as_deref(),
            Some("exit code 1; do this")
        );
        assert_eq!(reason_and_hint(Some("why"), Some(1), Some(&failure(None))).as_deref(), Some("why"));
        assert_eq!(reason_and_hint(None, None, None), None);
        let bind = |target: &str| WrittenThrough { target: target.into(), what: format!("/work{target}") };
        let half_written = StepFailure { half_written: vec![bind("/a"), bind("/b")], ..failure(Some("do this")) };
        assert_eq!(
            reason_and_hint(Some("why"), None, Some(&half_written)).as_deref(),
            Some("why; do this; it may have left half-written files in /a (/work/a), /b (/work/b)")
        );
    }

    #[test]
    fn a_longer_duration_is_shown_less_exactly() {
        let shown: Vec<String> = [0, 4, 5, 999, 9_994, 9_995, 59_949, 59_950, 185_000, 3_599_999, 7_200_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            shown,
            ["0.00s", "0.00s", "0.01s", "1.00s", "9.99s", "10.0s", "59.9s", "1m00s", "3m05s", "1h00m", "2h00m"]
        );
        assert_eq!(duration(u64::MAX), "5124095576030h25m");
    }

    #[test]
    fn an_estimate_is_rounded_to_its_precision() {
        let shown: Vec<String> = [
            0, 2_499, 7_499, 7_500, 57_499, 57_500, 67_499, 67_500, 119_000, 172_499, 172_500, 209_999, 210_000,
            3_569_999, 3_570_000, 4_900_000, 7_200_000,
        ]
        .into_iter()
        .map(about)
        .collect();
        assert_eq!(
            shown,
            [
                "5s", "5s", "5s", "10s", "55s", "1m", "1m", "1m15s", "2m", "2m45s", "3m", "3m", "4m", "59m", "1h",
                "1h20m", "2h"
            ]
        );
        assert_eq!(about(u64::MAX), "5124095576030h20m");
    }

    #[test]
    fn sizes_have_binary_units() {
        let shown: Vec<String> = [0, 1023, 1024, 1_572_864, 1_073_741_823, u64::MAX].into_iter().map(size).collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 GiB", "16777216.0 TiB"]);
    }

    #[test]
    fn results_of_tests_without_a_test_are_left_out() {
        let totals = |passed, cached, failed, skipped| tests(TestTotals { passed, cached, failed, skipped });
        assert_eq!(totals(3, 0, 0, 0), "tests: 3 passed");
        assert_eq!(totals(3, 2, 1, 4), "tests: 3 passed (2 cached), 1 failed, 4 skipped");
    }

    #[test]
    fn a_failure_without_a_reason_shows_its_exit_code() {
        assert_eq!(reason(None, Some(7)).as_deref(), Some("exit code 7"));
        assert_eq!(reason(Some("killed by signal 9"), Some(137)).as_deref(), Some("killed by signal 9"));
        assert_eq!(reason(None, None), None);
    }
}
