//! The terminal that indicatif draws on, painted on the real terminal in one piece.
//!
//! indicatif clears lines one by one, fills each to the terminal's width, and knows neither that the width of the
//! terminal has changed since, nor that the terminal shows some characters wider than it expects. The screen gathers a
//! drawing and paints it in one piece: it overwrites lines in place, clears no line that comes again, and wraps none.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use indicatif::TermLike;

use crate::poison::lock;
use crate::text_width::width;

/// The size of a terminal in columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The screen, shared by indicatif, which draws on it, and the reporter, which writes its bytes to the terminal.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<Mutex<ScreenState>>);

#[derive(Debug)]
struct ScreenState {
    size: Size,
    /// The lines of the drawing under way.
    lines: Vec<String>,
    /// The next text that is written fills up a line.
    filler: bool,
    /// The number of the last drawing's lines that this one replaces.
    replaced: usize,
    /// The columns of each line of the last drawing.
    painted: Vec<usize>,
    /// The bytes that are not yet written to the terminal.
    bytes: String,
}

impl Screen {
    pub(super) fn new(size: Size) -> Self {
        let (lines, painted, bytes) = (Vec::new(), Vec::new(), String::new());
        Self(Arc::new(Mutex::new(ScreenState { size, lines, filler: false, replaced: 0, painted, bytes })))
    }

    pub(super) fn resize(&self, size: Size) {
        self.state().size = size;
    }

    /// Takes the bytes to write to the terminal since the last call.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut self.state().bytes)
    }

    fn state(&self) -> MutexGuard<'_, ScreenState> {
        lock(&self.0)
    }
}

impl ScreenState {
    fn paint(&mut self) {
        let Self { size, lines, replaced, painted, bytes, .. } = self;
        // A terminal that has become narrower has wrapped the earlier lines into several rows, as nearly all terminals
        // do.
        let first_replaced = painted.len().saturating_sub(*replaced);
        let rows: usize = painted[first_replaced..].iter().map(|columns| columns.div_ceil(size.columns).max(1)).sum();
        // A synchronised update: a terminal that knows it never shows a half-painted drawing.
        bytes.push_str("\u{1b}[?2026h\r");
        if rows > 1 {
            bytes.push_str(&format!("\u{1b}[{}A", rows - 1));
        }
        painted.clear();
        for (number, line) in lines.drain(..).enumerate() {
            let columns = coloured_width(&line);
            bytes.push_str(if number > 0 { "\r\n\u{1b}[K" } else { "\u{1b}[K" });
            if columns <= size.columns {
                // Without wrapping: a character that the terminal shows wider must not push the text after it down a
                // row.
                bytes.push_str(&format!("\u{1b}[?7l{line}\u{1b}[?7h"));
            } else {
                bytes.push_str(&line);
                // The rows that the line wraps into may show old text; at the very end of a row, clearing would remove
                // a letter.
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

/// Returns the columns of a line whose only escape sequences are colours.
fn coloured_width(line: &str) -> usize {
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

    // The cleared lines already say where the cursor moves.
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
