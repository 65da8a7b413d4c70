//! The options of a run, and the sessions that remain open after it.

use std::num::NonZeroUsize;

use crate::model::ContainerId;

/// The options of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The number of steps that run at the same time, at least one.
    pub jobs: usize,
    /// Whether independent steps continue after a failure.
    pub keep_going: bool,
    /// Whether the sessions of failed steps are stored, for a shell.
    pub keep_failed: bool,
    /// The sessions that are open when the run has ended; the caller uses and closes them.
    pub keep_open: KeepOpen,
}

impl Options {
    /// Returns the default options with that number of jobs.
    pub fn of(jobs: NonZeroUsize) -> Self {
        Self { jobs: jobs.get(), keep_going: false, keep_failed: false, keep_open: KeepOpen::None }
    }
}

/// Sessions that outlive a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepOpen {
    /// None.
    None,
    /// That of a container.
    Container(ContainerId),
    /// Those in which a step has failed.
    Failed,
}
