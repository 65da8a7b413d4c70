//! The quiet display: failures only.

use std::io::{self, Write};

use crate::event::{Event, Stamped};

use super::Reporter;
use super::colour::Paint;
use super::failure::{Failures, Look, NextSteps};

/// Prints nothing about a build that succeeds.
#[derive(Debug)]
pub(super) struct Quiet(Failures);

const LOOK: Look = Look { paint: Paint(false), columns: None };

impl Quiet {
    pub(super) fn new(next_steps: Option<NextSteps>) -> Self {
        Self(Failures::new(next_steps))
    }
}

impl Reporter for Quiet {
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        self.0.event(&stamped.event);
        match stamped.event {
            Event::BuildFinished { .. } => self.end(out),
            _ => Ok(()),
        }
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.0.write(LOOK, out)?;
        self.0.write_fix(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::super::script::{failing, passing, show};

    #[test]
    fn a_build_that_succeeds_prints_nothing() {
        assert_eq!(show(passing(), Mode::Quiet), "");
    }

    #[test]
    fn a_failure_is_shown_with_its_last_lines() {
        assert_eq!(
            show(failing(), Mode::Quiet),
            "\nstep hello failed: exit code 2\n  | hello.c:1: error\n  log: /store/logs/1/hello.log\n"
        );
    }
}
