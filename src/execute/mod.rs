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
mod context;
mod continuation;
mod copy;
mod dispatcher;
mod edge;
mod ending;
mod explained;
mod export;
mod failed;
mod failed_session;
mod failure;
mod file_capabilities;
mod hints;
mod interrupt;
mod made_once;
mod masked;
mod message;
mod options;
mod output;
mod patience;
mod place;
mod push;
mod refusal;
mod restore_error;
mod scheduler;
mod segment_table;
mod session_pool;
mod start_once;
mod step;
mod step_context;
mod streams;
mod summary;
mod terminal;
mod totals;
mod worker;
mod worker_message;

pub use attempt::AttemptResult;
pub use caches::take_turns;
pub use context::Context;
pub use dispatcher::apply;
pub use interrupt::Interrupt;
pub use options::{KeepOpen, Options};
pub use restore_error::RestoreError;
pub use session_pool::SessionPool;
pub use step::run;
pub use summary::Summary;
pub use terminal::{SessionTarget, run_inside, run_on_terminal};

pub use crate::runtime::Outcome;
