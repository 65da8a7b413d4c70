//! The preparation of runner's own process before a command runs: its stack, and its message when memory runs out.

use std::process::ExitCode;

use super::console::print_to_stderr;
use crate::error::{Error, Exit};
use crate::model::size_text;
use crate::resource_limits::{self, MIN_STACK};
use crate::sys;

/// Raises the soft limit of this process's stack if the caller has set a low one.
///
/// # Errors
/// If the hard limit is too low for runner: prints that, and returns the exit code.
pub fn raise_stack_limit() -> Result<(), ExitCode> {
    let Some(limit) = resource_limits::raise_stack() else { return Ok(()) };
    let message =
        format!("runner needs a stack of {}, and its caller limits it to {}", size_text(MIN_STACK), size_text(limit));
    let hint =
        "raise the limit with `ulimit -Hs unlimited; ulimit -s 8192`, or `LimitSTACK=` of a systemd unit".to_owned();
    print_to_stderr(&Error::new(Exit::Host, message).with_hint(Some(hint)).render());
    Err(Exit::Host.into())
}

/// Pools of the allocator. The threads of a build rarely allocate at once; with a pool for each, a build of 300 layers takes
/// twice the memory and the same time.
const ALLOCATION_POOLS: i32 = 2;

/// Limits the memory that threads have freed and others cannot use. To be called before threads are started.
pub fn limit_allocation_pools() {
    sys::limit_allocation_pools(ALLOCATION_POOLS);
}

/// Makes this process name the caller's memory limit if an allocation fails, which aborts the process.
pub fn report_when_out_of_memory() {
    if let Some(limit) = resource_limits::memory_hint() {
        // It fails only for signals that do not exist.
        let _ = sys::abort_in_words(format!("error: runner is out of memory: {limit}\n"), Exit::Host.code().into());
    }
}
