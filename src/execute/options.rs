//! The options of a run, and the sessions that stay open after it.

use std::num::NonZeroUsize;

use crate::model::ContainerId;

/// The way a plan is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Steps at once, at least one.
    pub jobs: usize,
    /// After a failure, runs the steps that do not need the failed one.
    pub keep_going: bool,
    /// Stores the sessions of steps that fail, for a shell.
    pub keep_failed: bool,
    /// The sessions that are open when the run has ended; the caller uses and closes them.
    pub stay: KeepOpen,
}

impl Options {
    /// Returns the options of a run of so many steps at once, which stores and leaves open nothing more.
    pub fn of(jobs: NonZeroUsize) -> Self {
        Self { jobs: jobs.get(), keep_going: false, keep_failed: false, stay: KeepOpen::None }
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
