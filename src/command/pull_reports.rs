//! Reports of pulls and downloads outside of a build: before its display begins, and of commands without one.

use super::console::{notice, warn};
use crate::escape::visible;
use crate::event::Event;
use crate::pull::Reporter;
use crate::report::imports;
use crate::settings::Progress;

/// Returns the receiver of reports: while no build runs, they are lines on standard error.
pub fn reporter(progress: Progress) -> Reporter {
    Reporter::new(if progress == Progress::Quiet { print_warning } else { print })
}

fn print(event: &Event) {
    print_warning(event);
    if let Some(line) = imports::line(event) {
        notice(&visible(&line));
    }
}

fn print_warning(event: &Event) {
    if let Event::Warning { message, .. } = event {
        warn(message);
    }
}
