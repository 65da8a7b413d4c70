//! The signals that end a build early.

use std::io;
use std::sync::Arc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals;

use super::console::notice;
use crate::error::Exit;
use crate::execute::Interrupt;
use crate::resource_limits::{self, cpu_time_exceeded};
use crate::sys;

/// Starts a thread that handles the signals.
///
/// The first signal interrupts the build, which then ends in order. The second one ends the grace period of the steps that
/// were asked to end; if there are none, it ends runner at once, and the kernel and the next start of runner clean up. The
/// third one does so in any case. A signal that the caller ignores stays ignored, as under nohup(1).
pub fn handle(interrupt: Arc<Interrupt>) -> io::Result<()> {
    let mut handled = Vec::new();
    let seconds = resource_limits::warned_cpu_time();
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU] {
        if !sys::is_ignored(signal)? {
            handled.push(signal);
        }
    }
    let mut signals = Signals::new(handled)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let (mut is_out_of_time, mut has_ended_grace) = (false, false);
        for signal in &mut signals {
            if signal == SIGXCPU {
                // The kernel repeats it each second. A limit that another process has set in the meantime is unknown.
                if !std::mem::replace(&mut is_out_of_time, true) {
                    notice(&format!("error: {}", cpu_time_exceeded(seconds.unwrap_or_default())));
                    interrupt.set();
                }
                continue;
            }
            if !interrupt.is_set() {
                interrupt.set();
            } else if has_ended_grace || !interrupt.end_grace() {
                std::process::exit(Exit::Interrupted.code().into());
            } else {
                has_ended_grace = true;
            }
        }
    })?;
    Ok(())
}
