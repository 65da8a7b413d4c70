//! When a checkpoint is due: pure, for a segment whose steps run one after another.

use std::time::Duration;

use crate::model::{Checkpointing, SLOW_STEP};

/// By default the copy of the changes may take this part of the time that the steps took.
const SHARE: u32 = 50;

/// How long the steps of a segment took since its last checkpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pace {
    since: Duration,
    /// A copy was abandoned: none is begun before the steps have taken that long.
    not_before: Duration,
}

/// Whether a checkpoint is made after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// None is.
    No,
    /// One is, however long its copy takes.
    Whole,
    /// One is, if its copy takes no longer than that.
    Within(Duration),
}

impl Pace {
    /// A step has ended well, and took so long.
    pub fn after(&mut self, checkpointing: Checkpointing, took: Duration) -> Due {
        self.since = self.since.saturating_add(took);
        match checkpointing {
            Checkpointing::Off => Due::No,
            Checkpointing::After(slow) if took >= slow => Due::Whole,
            Checkpointing::After(_) => Due::No,
            Checkpointing::WhereCheap if self.since > SLOW_STEP && self.since >= self.not_before => {
                Due::Within(self.since / SHARE)
            }
            Checkpointing::WhereCheap => Due::No,
        }
    }

    /// A checkpoint was copied.
    pub fn copied(&mut self) {
        *self = Self::default();
    }

    /// A copy took too long. All such copies together take at most twice the share of one.
    pub fn abandoned(&mut self) {
        self.not_before = self.since.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn by_default_one_is_due_when_the_steps_since_the_last_one_took_over_five_seconds() {
        let mut pace = Pace::default();
        let mut after = |took| pace.after(Checkpointing::WhereCheap, seconds(took));
        assert_eq!([after(3), after(2), after(5)], [Due::No, Due::No, Due::Within(seconds(10) / 50)]);
        pace.copied();
        assert_eq!(pace.after(Checkpointing::WhereCheap, seconds(5)), Due::No);
    }

    #[test]
    fn after_an_abandoned_copy_the_next_one_waits_until_the_steps_took_twice_as_long() {
        let mut pace = Pace::default();
        let after = |pace: &mut Pace, took| pace.after(Checkpointing::WhereCheap, seconds(took));
        assert_eq!(after(&mut pace, 10), Due::Within(Duration::from_millis(200)));
        pace.abandoned();
        assert_eq!(after(&mut pace, 9), Due::No);
        assert_eq!(after(&mut pace, 1), Due::Within(Duration::from_millis(400)));
    }

    #[test]
    fn with_a_time_each_slow_step_has_one_and_with_off_none_has() {
        let mut pace = Pace::default();
        let slow = Checkpointing::After(seconds(3));
        let due = [2, 2, 3].map(|took| pace.after(slow, seconds(took)));
        assert_eq!(due, [Due::No, Due::No, Due::Whole]);
        assert_eq!(pace.after(Checkpointing::Off, seconds(1000)), Due::No);
    }

    proptest! {
        #[test]
        fn however_often_copies_are_abandoned_they_take_at_most_a_twentieth_of_the_time(
            steps in prop::collection::vec((0u64..20_000, any::<bool>()), 0..200),
        ) {
            let (mut pace, mut all, mut copying) = (Pace::default(), Duration::ZERO, Duration::ZERO);
            for (took, is_cheap) in steps {
                all += Duration::from_millis(took);
                if let Due::Within(most) = pace.after(Checkpointing::WhereCheap, Duration::from_millis(took)) {
                    copying += most;
                    if is_cheap { pace.copied() } else { pace.abandoned() }
                }
                prop_assert!(copying <= all / 20);
            }
        }
    }
}
