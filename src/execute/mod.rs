//! Runs a plan: owns all state of the run, starts sessions and steps, and reports by events.
//!
//! The `dispatcher`, on the caller's thread, receives messages, and performs the actions that the `scheduler` gives for them.
//! Each running step, each image being written, each cache check and each recording has a thread of its own, which sends a
//! message at its end. A layer snapshot sends two: when its directory is frozen, which is all that the next steps need, and
//! when its image is written.

mod attempt;
mod cache_check;
mod caches;
mod checkpoint;
mod checkpoints;
mod commit;
mod completion;
mod continuation;
mod dispatcher;
mod edge;
mod ending;
mod explained;
mod failed;
mod failed_session;
mod file_capabilities;
mod hints;
mod interrupt;
mod masked;
mod message;
mod output;
mod patience;
mod place;
mod refusal;
mod restore_error;
mod scheduler;
mod segment_table;
mod session_pool;
mod start_once;
mod step;
mod step_context;
mod streams;
mod terminal;
mod timing;
mod totals;
mod worker;
mod worker_message;

use std::num::NonZeroUsize;
use std::time::Duration;

pub use attempt::AttemptResult;
pub use caches::take_turns;
pub use dispatcher::apply;
pub use interrupt::Interrupt;
pub use restore_error::RestoreError;
pub use session_pool::SessionPool;
pub use step::run;
pub use terminal::{SessionTarget, run_inside, run_on_terminal};

use crate::digest::Digest;
use crate::event::BuildStatus;
use crate::lock::Section;
use crate::model::{Build, ContainerId, StepId};
use crate::named_paths::NamedPaths;
pub use crate::runtime::Outcome;
use crate::session::Workspace;
use crate::store::{BuildId, Lease, Store};

/// How a plan is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Steps at once, at least one.
    pub jobs: usize,
    /// After a failure, goes on with what does not depend on it.
    pub keep_going: bool,
    /// Keeps the sessions of steps that fail in the store, for a shell.
    pub keep_failed: bool,
    /// Which sessions are open when the run has ended, for the caller to go on in and to close.
    pub stay: KeepOpen,
}

impl Options {
    /// So many steps at once, and nothing else out of the ordinary.
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

/// What a run works with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The build.
    pub build: &'a Build,
    /// Where layers, logs and caches are.
    pub store: &'a Store,
    /// What this process answers for.
    pub lease: &'a Lease,
    /// Where sessions live.
    pub workspace: &'a Workspace,
    /// The host paths that it names.
    pub paths: &'a NamedPaths,
    /// Ends the run early.
    pub interrupt: &'a Interrupt,
    /// Names the folder of the logs.
    pub build_id: &'a BuildId,
    /// What snapshots are held to.
    pub locked: Option<&'a Section>,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub status: BuildStatus,
    /// A step failed by itself, and not only for what this host lacks.
    pub step_failed: bool,
    /// A snapshot is not as it is locked.
    pub mismatched: bool,
    /// A step did not begin, for want of something that the caller is to give.
    pub wrong_input: bool,
    /// A thread of runner has panicked.
    pub panicked: bool,
    /// The steps that failed by themselves, in the order of their ends.
    pub failed: Vec<StepId>,
    /// The layer of each snapshot that was written or was in the store, by the order of their ends.
    pub layers: Vec<(StepId, Digest)>,
}

/// Why a step failed, in words.
#[derive(Debug)]
struct Failure {
    reason: String,
    exit_code: Option<i32>,
    cause: Cause,
    /// The reason says what the step needed, so its output is not searched for a guess.
    is_explained: bool,
    /// Something of the step has run, and may have written to what outlasts its session.
    has_run: bool,
}

/// What is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// What the step ran.
    Step,
    /// This host.
    Host,
    /// The layer is not the locked one.
    Mismatch,
    /// The caller, who has not given what a step needs.
    Input,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
