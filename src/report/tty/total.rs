//! The line of the whole build: how long it takes, what is over and what is left; pure.

use std::time::SystemTime;

use crate::event::StepStatus;

use super::super::words;
use crate::columns::width;

/// What is known of the whole build.
#[derive(Debug, Default)]
pub(super) struct Total {
    begun: Option<SystemTime>,
    steps: usize,
    ran: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
    /// Milliseconds that are left, and of how many steps that says nothing.
    left: Option<(u64, usize)>,
}

impl Total {
    pub(super) fn begins(&mut self, time: SystemTime, steps: usize) {
        (self.begun, self.steps) = (Some(time), steps);
    }

    /// A step is over.
    pub(super) fn is_over(&mut self, status: StepStatus) {
        *match status {
            StepStatus::Ran => &mut self.ran,
            StepStatus::Cached => &mut self.cached,
            StepStatus::Failed => &mut self.failed,
            StepStatus::Skipped => &mut self.skipped,
        } += 1;
    }

    /// So much is left, and more with steps that were never timed.
    pub(super) fn estimated(&mut self, left_ms: u64, untimed: usize) {
        let before = self.left.map(|(before, _)| before);
        // A little more than before is not told: what is shown would go back and forth.
        let is_steady = |before: &u64| (*before..before.saturating_add(words::grain(*before))).contains(&left_ms);
        self.left = Some((before.filter(is_steady).unwrap_or(left_ms), untimed));
    }

    /// Over two lines where one has no room for it. Where two have none, how long it may take goes before what is known.
    pub(super) fn lines(&self, running: usize, now: SystemTime, columns: usize) -> Vec<String> {
        let Some(begun) = self.begun else { return Vec::new() };
        let over = self.ran + self.cached + self.failed + self.skipped;
        let counts = [
            (self.ran, "done"),
            (self.cached, "cached"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (running, "running"),
            (self.steps.saturating_sub(over + running), "left"),
        ];
        let told = counts.iter().filter(|(count, word)| *count > 0 || matches!(*word, "done" | "running" | "left"));
        let counts: Vec<String> = told.map(|(count, word)| format!("{count} {word}")).collect();
        let elapsed = format!("{} elapsed", words::clock(milliseconds(begun, now)));
        let has_room = |lines: &Vec<String>| lines.iter().all(|line| width(line) <= columns);
        let guess = self.guess().map(|guess| lines([&elapsed, &guess].into_iter().chain(&counts), columns));
        guess.filter(has_room).unwrap_or_else(|| lines([&elapsed].into_iter().chain(&counts), columns))
    }

    /// How much longer it takes; nothing where all that was ever timed should be over by now.
    fn guess(&self) -> Option<String> {
        let (left_ms, untimed) = self.left.filter(|(left_ms, _)| *left_ms > 0)?;
        let how = if untimed > 0 { "at least" } else { "about" };
        Some(format!("{how} {} left", words::about(left_ms)))
    }
}

/// The parts with commas between them, on a second line from the first one on that has no room in the first line.
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

    /// After 12.3 seconds, with three running.
    fn told(total: &Total, columns: usize) -> Vec<String> {
        let Some(begun) = total.begun else { return Vec::new() };
        total.lines(3, begun + Duration::from_millis(12_300), columns - 1)
    }

    fn total() -> Total {
        let mut total = Total::default();
        total.begins(SystemTime::UNIX_EPOCH, 9);
        total.is_over(StepStatus::Ran);
        total
    }

    #[test]
    fn what_is_left_is_told_once_it_is_known() {
        let mut total = total();
        assert_eq!(told(&total, 80), ["12.3s elapsed, 1 done, 3 running, 5 left"]);
        total.estimated(121_000, 0);
        assert_eq!(told(&total, 80), ["12.3s elapsed, about 2m left, 1 done, 3 running, 5 left"]);
        assert_eq!(told(&total, 40), ["12.3s elapsed, about 2m left, 1 done,", "3 running, 5 left"]);
        total.estimated(61_000, 2);
        assert_eq!(told(&total, 80), ["12.3s elapsed, at least 1m left, 1 done, 3 running, 5 left"]);
        // All that was timed should be over by now.
        total.estimated(0, 2);
        assert_eq!(told(&total, 80), ["12.3s elapsed, 1 done, 3 running, 5 left"]);
    }

    #[test]
    fn what_is_told_of_a_guess_goes_back_only_where_it_has_really_become_more() {
        let mut total = total();
        for (left_ms, shown) in
            [(30_000, "30s"), (31_000, "30s"), (34_999, "30s"), (29_000, "30s"), (20_000, "20s"), (25_000, "25s")]
        {
            total.estimated(left_ms, 0);
            assert!(told(&total, 80)[0].contains(&format!("about {shown} left")), "{left_ms}: {:?}", told(&total, 80));
        }
    }

    #[test]
    fn where_two_lines_have_no_room_the_guess_goes_first() {
        let mut total = total();
        total.steps = 2000;
        for (count, status) in [(344, StepStatus::Cached), (1, StepStatus::Failed), (17, StepStatus::Skipped)] {
            (0..count).for_each(|_| total.is_over(status));
        }
        total.estimated(4_000_000, 0);
        assert_eq!(
            told(&total, 80),
            ["12.3s elapsed, about 1h10m left, 1 done, 344 cached, 1 failed, 17 skipped,", "3 running, 1634 left"]
        );
        assert_eq!(
            told(&total, 40),
            ["12.3s elapsed, 1 done, 344 cached,", "1 failed, 17 skipped, 3 running, 1634 left"]
        );
        assert_eq!(total.lines(3, SystemTime::UNIX_EPOCH, 5).len(), 2);
    }
}
