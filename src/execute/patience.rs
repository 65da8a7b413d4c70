//! The time that a process may take, and the grace before it is killed.

use std::time::Duration;

use crate::model::Step;
use crate::warning::Warning;

/// The time at which a process that was asked to end was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// At the end of its grace.
    After(Duration),
    /// At the second interrupt of the build.
    AtOnce,
}

/// The limits on the time of a process.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// The time after which it is asked to end, by SIGTERM.
    pub timeout: Option<Duration>,
    /// The time after SIGTERM until it is killed.
    pub grace: Duration,
    /// Gets the warning about a process that was asked to end and still runs.
    pub warn: &'a dyn Fn(&Warning),
}

impl<'a> Patience<'a> {
    /// Returns the limits for a command that is no step.
    pub fn with_command(warn: &'a dyn Fn(&Warning)) -> Self {
        Self { timeout: None, grace: Step::DEFAULT_GRACE, warn }
    }
}
