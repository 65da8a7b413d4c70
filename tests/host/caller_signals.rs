//! Signals that the caller of the tests ignores.

use std::fs;
use std::sync::{Arc, Once};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// Stops ignoring the signals that the caller of the tests ignores, as nohup(1) and background jobs of a shell do: runner would
/// ignore them too. A handler here becomes the default action in a program that is started.
pub fn stop_ignoring_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
        let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter().filter(|signal| ignored & 1 << (signal - 1) != 0) {
            signal_hook::flag::register(signal, Arc::default()).unwrap();
        }
    });
}
