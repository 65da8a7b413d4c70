//! The terminal as indicatif sees it, painted on the terminal that there is.
//!
//! indicatif takes lines down one by one, fills each to the terminal's width, and knows neither of a terminal whose width
//! has changed since, nor of characters that it takes for narrower than the terminal does. Here a drawing is gathered
//! and painted in one piece: lines overwritten in place, nothing cleared that comes again, no line wrapped.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::TermLike;

use crate::columns::width;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Shared by who has it drawn on and who takes what is to be written.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    size: Size,
    /// The lines of the drawing under way.
    lines: Vec<String>,
    /// The next that is written fills a line up.
    filler: bool,
    /// How many of the last drawing's lines this one replaces.
    replaced: usize,
    /// Columns of each line of the last drawing.
    painted: Vec<usize>,
    /// What the terminal is still to get.
    bytes: String,
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        let (lines, painted, bytes) = (Vec::new(), Vec::new(), String::new());
        Self(Arc::new(Mutex::new(State { size, lines, filler: false, replaced: 0, painted, bytes })))
    }

    pub(super) fn resize(&self, size: Size) {
        self.state().size = size;
    }

    /// What is to be written to the terminal since the last call.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut self.state().bytes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn paint(&mut self) {
        let Self { size, lines, replaced, painted, bytes, .. } = self;
        // A terminal that has become narrower has broken the lines of before into several rows, as nearly all do.
        let kept = painted.len().saturating_sub(*replaced);
        let rows: usize = painted[kept..].iter().map(|columns| columns.div_ceil(size.columns).max(1)).sum();
        // A synchronised update, where the terminal knows it: nothing half-painted is ever seen.
        bytes.push_str("\u{1b}[?2026h\r");
        if rows > 1 {
            bytes.push_str(&format!("\u{1b}[{}A", rows - 1));
        }
        painted.clear();
        for (number, line) in lines.drain(..).enumerate() {
            let columns = console_width(&line);
            bytes.push_str(if number > 0 { "\r\n\u{1b}[K" } else { "\u{1b}[K" });
            if columns <= size.columns {
                // Without wrapping: a character that the terminal takes for wider must not push the rest down a row.
                bytes.push_str(&format!("\u{1b}[?7l{line}\u{1b}[?7h"));
            } else {
                bytes.push_str(&line);
                // The rows that it goes on in may hold something; at the very end of one, clearing would take a letter.
                if !columns.is_multiple_of(size.columns) {
                    bytes.push_str("\u{1b}[K");
                }
            }
            painted.push(columns);
        }
        bytes.push_str("\u{1b}[J\u{1b}[?2026l");
        *replaced = 0;
    }
}

/// Columns of a line in which the only sequences are those of colours.
fn console_width(line: &str) -> usize {
    let mut columns = 0;
    for (number, part) in line.split("\u{1b}[").enumerate() {
        let text = if number == 0 { part } else { part.split_once('m').map_or(part, |(_, text)| text) };
        columns += width(text);
    }
    columns
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        u16::try_from(self.state().size.columns).unwrap_or(u16::MAX)
    }

    fn height(&self) -> u16 {
        u16::try_from(self.state().size.rows).unwrap_or(u16::MAX)
    }

    // Where the cursor is to go is clear from the lines that are cleared.
    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.state().lines.push(line.to_owned());
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.filler {
            state.lines.push(text.to_owned());
        }
        state.filler = !state.filler;
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.state().replaced += 1;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.state();
        state.filler = false;
        state.paint();
        Ok(())
    }
}
