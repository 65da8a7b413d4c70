//! The live display, for people at a terminal: lines that change in place, one for each running step and one for the
//! whole build; finished steps scroll up finished them.
//!
//! The reporter only remembers events. A few times a second it draws the remembered state, so the amount of a step's
//! output does not slow the step.

mod board;
mod imports;
mod screen;
mod total;

use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::termios::tcgetwinsize;

use crate::event::{Event, Stamped};

use super::colour::Paint;
use super::failure::{Failures, Look, NextSteps};
use super::{Reporter, ending};

use board::Board;
use screen::{Screen, Size};

/// The time between two drawings.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Shows a build on a terminal.
pub(super) struct Tty {
    paint: Paint,
    size: Box<dyn Fn() -> Size>,
    board: Board,
    /// The lines of steps that finished since the last drawing.
    finished: Vec<String>,
    failures: Failures,
    screen: Screen,
    bar: ProgressBar,
    next: Option<Instant>,
}

impl Tty {
    /// Returns a reporter that draws on standard output.
    pub(super) fn new(colour: bool, next_steps: Option<NextSteps>) -> Self {
        Self::sized(colour, next_steps, Box::new(size_of_stdout))
    }

    fn sized(colour: bool, next_steps: Option<NextSteps>, size: Box<dyn Fn() -> Size>) -> Self {
        let screen = Screen::new(size());
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        // The board lays the lines out; indicatif draws them below the lines that scroll.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        let paint = Paint(colour);
        let (board, failures) =
            (Board::new(paint, std::env::current_dir().unwrap_or_default()), Failures::new(next_steps));
        Self { paint, size, board, finished: Vec::new(), failures, screen, bar, next: None }
    }

    fn look(&self) -> Look {
        Look { paint: self.paint, columns: Some((self.size)().columns) }
    }

    /// Removes the changing lines for good.
    fn clear(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.next = None;
        let finished = std::mem::take(&mut self.finished);
        self.screen.resize((self.size)());
        self.bar.finish_and_clear();
        out.write_all(self.screen.take().as_bytes())?;
        finished.iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

impl Reporter for Tty {
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        self.failures.event(&stamped.event);
        self.finished.extend(self.board.event(stamped));
        if let Event::BuildFinished { .. } = &stamped.event {
            self.clear(out)?;
            let look = self.look();
            return ending::write(&stamped.event, &mut self.failures, look, out);
        }
        self.next.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn shows_growing_lines(&self) -> bool {
        true
    }

    fn draw_at(&self) -> Option<Instant> {
        self.next
    }

    fn draw(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let size = (self.size)();
        self.screen.resize(size);
        self.bar.set_message(self.board.frame(SystemTime::now(), size).join("\n"));
        if !self.finished.is_empty() {
            self.bar.println(self.finished.join("\n"));
            self.finished.clear();
        }
        self.next = Some(Instant::now() + REDRAW_INTERVAL);
        out.write_all(self.screen.take().as_bytes())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.clear(out)?;
        let look = self.look();
        self.failures.write(look, out)?;
        self.failures.write_fix(out)
    }
}

impl fmt::Debug for Tty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tty").field("board", &self.board).finish_non_exhaustive()
    }
}

/// Returns the size of the terminal, which may change at any time; 80 by 24 if the terminal reports none.
fn size_of_stdout() -> Size {
    let (columns, rows) = match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    };
    Size { columns: columns.into(), rows: rows.into() }
}

#[cfg(test)]
mod tests;
