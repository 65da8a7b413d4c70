//! How long a process may take, and how it is ended that takes longer.

use std::time::{Duration, Instant};

use crate::model::Step;
use crate::warning::Warning;

/// When a process was killed that was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// At the end of its grace.
    After(Duration),
    /// When the build was interrupted a second time.
    AtOnce,
}

/// How long a process may take, and what becomes of one that takes longer.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// Then it is asked to end, by SIGTERM.
    pub timeout: Option<Duration>,
    /// As long after that, it is killed.
    pub grace: Duration,
    /// Takes the warning of a process that has been asked to end and still runs.
    pub warn: &'a dyn Fn(&Warning),
    /// Does the other work of the thread that waits, where some is due, and returns when more will be.
    pub meanwhile: Meanwhile<'a>,
}

/// See [`Patience::meanwhile`].
pub type Meanwhile<'a> = &'a dyn Fn() -> Option<Instant>;

impl<'a> Patience<'a> {
    /// With a command that no step is.
    pub fn with_command(warn: &'a dyn Fn(&Warning)) -> Self {
        Self { timeout: None, grace: Step::DEFAULT_GRACE, warn, meanwhile: &|| None }
    }
}
