//! The order in which the kernel ends processes when memory runs out, see proc_pid_oom_score_adj(5): runner later than the steps
//! of its build.
//!
//! Files of a root in memory count for no process, so in a small cgroup runner can be the largest process of all. The kernel then
//! ended the build in place of the step, without a reason in any output.

use std::fs;
use std::sync::OnceLock;

/// The score of the process that reads or writes it.
const FILE: &str = "/proc/self/oom_score_adj";

/// The score of runner and of an external runtime; that of Docker's daemon.
const OF_RUNNER: i32 = -500;

/// Returns the score that this process began with. Its steps get it, too.
pub fn of_caller() -> i32 {
    static OF_CALLER: OnceLock<i32> = OnceLock::new();
    *OF_CALLER.get_or_init(|| {
        let text = fs::read_to_string(FILE).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    })
}

/// Lowers the score of this process and of the helpers that it starts. Without CAP_SYS_RESOURCE it stays the caller's.
pub fn lower() {
    if of_caller() > OF_RUNNER {
        let _ = fs::write(FILE, OF_RUNNER.to_string());
    }
}
