//! The preparation of runner's own process before a command runs: its stack, and its message when memory runs out.

use std::ffi::OsString;
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

/// Limits the memory that threads have freed and others cannot use, unless the caller sets such a limit. To be called before
/// threads are started.
pub fn limit_allocation_pools() {
    if !limits_pools(|name| std::env::var_os(name)) {
        sys::limit_allocation_pools(ALLOCATION_POOLS);
    }
}

/// Returns whether the environment limits the pools of the GNU C library's allocator, see mallopt(3) and ld.so(8).
fn limits_pools(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_limit = |tunable: &str| {
        let name = tunable.split_once('=').map(|(name, _)| name);
        matches!(name, Some("glibc.malloc.arena_max" | "glibc.malloc.arena_test"))
    };
    variable("MALLOC_ARENA_MAX").is_some()
        || variable("MALLOC_ARENA_TEST").is_some()
        || variable("GLIBC_TUNABLES").is_some_and(|all| all.to_string_lossy().split(':').any(is_limit))
}

/// Makes this process name the caller's memory limit if an allocation fails, which aborts the process.
pub fn report_when_out_of_memory() {
    if let Some(limit) = resource_limits::memory_hint() {
        // It fails only for signals that do not exist.
        let _ = sys::abort_in_words(format!("error: runner is out of memory: {limit}\n"), Exit::Host.code().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_pools_in_the_environment_is_found() {
        let with = |name: &str, value: &str| limits_pools(|asked| (asked == name).then(|| value.into()));
        assert!(with("MALLOC_ARENA_MAX", "8") && with("MALLOC_ARENA_TEST", "1"));
        assert!(with("GLIBC_TUNABLES", "glibc.malloc.check=1:glibc.malloc.arena_max=8"));
        assert!(!with("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0") && !with("MALLOC_TRIM_THRESHOLD_", "1"));
    }
}
