//! The setting `checkpoint` of a container: the times at which runner stores the changes of its session between two
//! steps.

use std::time::Duration;

use super::check::Check;
use super::quantity;
use crate::diagnostic::Trail;

/// The time after which a step counts as slow, by default and with `auto`.
pub const SLOW_STEP: Duration = Duration::from_secs(5);

/// When a checkpoint is made between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpointing {
    /// Never: `off`.
    Off,
    /// By default: when the steps since the last checkpoint took longer than [`SLOW_STEP`], and a copy of the changes
    /// takes little time compared to them.
    WhereCheap,
    /// After each step that took at least this long: `auto`, or a time.
    After(Duration),
}

impl Check<'_> {
    pub(super) fn checkpointing(&mut self, setting: Option<&str>, at: &Trail<'_>) -> Checkpointing {
        match setting {
            None => Checkpointing::WhereCheap,
            Some("off") => Checkpointing::Off,
            Some("auto") => Checkpointing::After(SLOW_STEP),
            Some(text) => {
                let slow = self.quantity(at, "checkpoint", text, |text| {
                    quantity::duration(text).map_err(|_| "write auto, off, or a duration such as 30s".to_owned())
                });
                slow.map_or(Checkpointing::Off, Checkpointing::After)
            }
        }
    }
}
