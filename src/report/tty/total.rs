//! The line of the whole build: its time, its finished steps and its remaining ones; pure.

use std::time::SystemTime;

use crate::event::StepStatus;

use super::super::words;
use crate::text_width::width;

/// The totals of the build.
#[derive(Debug, Default)]
pub(super) struct Total {
    started_at: Option<SystemTime>,
    steps: usize,
    ran: usize,
    cached: usize,
    failed: usize,
    stopped: usize,
    skipped: usize,
    /// The estimate of the remaining milliseconds, and the number of steps that it does not count.
    remaining: Option<(u64, usize)>,
}

impl Total {
    pub(super) fn started(&mut self, time: SystemTime, steps: usize) {
        (self.started_at, self.steps) = (Some(time), steps);
    }

    /// Counts a finished step. `is_stopped`: the interruption of the build stopped it.
    pub(super) fn finished(&mut self, status: StepStatus, is_stopped: bool) {
        *match status {
            StepStatus::Ran => &mut self.ran,
            StepStatus::Cached => &mut self.cached,
            StepStatus::Failed if is_stopped => &mut self.stopped,
            StepStatus::Failed => &mut self.failed,
            StepStatus::Skipped => &mut self.skipped,
        } += 1;
    }

    /// Sets the estimate of the remaining time, and the number of steps that were never timed.
    pub(super) fn estimated(&mut self, left_ms: u64, untimed: usize) {
        let before = self.remaining.map(|(before, _)| before);
        // A little more than before is not shown: the number would go back and forth.
        let is_steady = |before: &u64| (*before..before.saturating_add(words::precision(*before))).contains(&left_ms);
        self.remaining = Some((before.filter(is_steady).unwrap_or(left_ms), untimed));
    }

    /// Returns the total as one line, or as two if one has no room for it. If two lines have no room, the estimate is
    /// omitted.
    pub(super) fn lines(&self, running: usize, now: SystemTime, columns: usize) -> Vec<String> {
        let Some(started_at) = self.started_at else { return Vec::new() };
        let finished_count = self.ran + self.cached + self.failed + self.stopped + self.skipped;
        let counts = [
            (self.ran, "done"),
            (self.cached, "cached"),
            (self.failed, "failed"),
            (self.stopped, "stopped"),
            (self.skipped, "skipped"),
            (running, "running"),
            (self.steps.saturating_sub(finished_count + running), "left"),
        ];
        let shown = counts.iter().filter(|(count, word)| *count > 0 || matches!(*word, "done" | "running" | "left"));
        let counts: Vec<String> = shown.map(|(count, word)| format!("{count} {word}")).collect();
        let elapsed = format!("{} elapsed", words::clock(milliseconds(started_at, now)));
        let has_room = |lines: &Vec<String>| lines.iter().all(|line| width(line) <= columns);
        let guess = self.guess().map(|guess| lines([&elapsed, &guess].into_iter().chain(&counts), columns));
        guess.filter(has_room).unwrap_or_else(|| lines([&elapsed].into_iter().chain(&counts), columns))
    }

    /// Returns the estimate as text; none if all timed steps should have finished by now.
    fn guess(&self) -> Option<String> {
        let (left_ms, untimed) = self.remaining.filter(|(left_ms, _)| *left_ms > 0)?;
        let lead = if untimed > 0 { "at least" } else { "about" };
        Some(format!("{lead} {} left", words::about(left_ms)))
    }
}

/// Joins the parts with commas. The first part that has no room in the first line started a second line.
fn lines<'a>(parts: impl IntoIterator<Item = &'a String>, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut parts = parts.into_iter().peekable();
    while let Some(part) = parts.next() {
        let is_first = lines.len() == 1;
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(part);
            continue;
        }
        line.push(',');
        let comma = usize::from(parts.peek().is_some());
        if is_first && width(line) + 1 + width(part) + comma > columns {
            lines.push(part.clone());
        } else {
            line.push(' ');
            line.push_str(part);
        }
    }
    lines
}

pub(super) fn milliseconds(from: SystemTime, to: SystemTime) -> u64 {
    let elapsed = to.duration_since(from).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns the lines after 12.3 seconds, with three running steps.
    fn shown_lines(total: &Total, columns: usize) -> Vec<String> {
        let Some(started_at) = total.started_at else { return Vec::new() };
        total.lines(3, started_at + Duration::from_millis(12_300), columns - 1)
    }

    fn total() -> Total {
        let mut total = Total::default();
        total.started(SystemTime::UNIX_EPOCH, 9);
        total.finished(StepStatus::Ran, false);
        total
    }

    #[test]
    fn the_remaining_time_is_shown_once_it_is_estimated() {
        let mut total = total();
        assert_eq!(shown_lines(&total, 80), ["12.3s elapsed, 1 done, 3 running, 5 left"]);
        total.estimated(121_000, 0);
        assert_eq!(shown_lines(&total, 80), ["12.3s elapsed, about 2m left, 1 done, 3 running, 5 left"]);
        assert_eq!(shown_lines(&total, 40), ["12.3s elapsed, about 2m left, 1 done,", "3 running, 5 left"]);
        total.estimated(61_000, 2);
        assert_eq!(shown_lines(&total, 80), ["12.3s elapsed, at least 1m left, 1 done, 3 running, 5 left"]);
        // All timed steps should have finished by now.
        total.estimated(0, 2);
        assert_eq!(shown_lines(&total, 80), ["12.3s elapsed, 1 done, 3 running, 5 left"]);
    }

    #[test]
    fn a_shown_estimate_grows_only_if_it_has_grown_clearly() {
        let mut total = total();
        for (left_ms, shown) in
            [(30_000, "30s"), (31_000, "30s"), (34_999, "30s"), (29_000, "30s"), (20_000, "20s"), (25_000, "25s")]
        {
            total.estimated(left_ms, 0);
            assert!(
                shown_lines(&total, 80)[0].contains(&format!("about {shown} left")),
                "{left_ms}: {:?}",
                shown_lines(&total, 80)
            );
        }
    }

    #[test]
    fn the_estimate_is_omitted_if_two_lines_have_no_room() {
        let mut total = total();
        total.steps = 2000;
        for (count, status) in [(344, StepStatus::Cached), (1, StepStatus::Failed), (17, StepStatus::Skipped)] {
            (0..count).for_each(|_| total.finished(status, false));
        }
        total.estimated(4_000_000, 0);
        assert_eq!(
            shown_lines(&total, 80),
            ["12.3s elapsed, about 1h10m left, 1 done, 344 cached, 1 failed, 17 skipped,", "3 running, 1634 left"]
        );
        assert_eq!(
            shown_lines(&total, 40),
            ["12.3s elapsed, 1 done, 344 cached,", "1 failed, 17 skipped, 3 running, 1634 left"]
        );
        assert_eq!(total.lines(3, SystemTime::UNIX_EPOCH, 5).len(), 2);
    }
}
