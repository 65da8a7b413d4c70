//! A text in the form that miette reads: any line is found without reading from the beginning, and a very long line is
//! not printed whole.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// The largest window in bytes; a larger one is cut down to the text around the caret.
const MAX_WINDOW: usize = 2000;
/// The bytes that a cut window shows on each side of the caret.
const CONTEXT_BYTES: usize = 60;
/// The most bytes that a caret marks.
const MAX_LABEL: usize = 200;

/// A text with its name and the beginnings of its lines.
#[derive(Debug)]
pub struct Source<'t> {
    name: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    /// Returns a source whose `name` is shown before line and column.
    pub fn new(name: &'t str, text: &'t str) -> Self {
        // Lines as miette counts them: a lone carriage return does not end a line.
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, line_starts }
    }

    /// Returns the part of `range` that a caret can mark: within the text, within one line, and not empty unless the
    /// line is.
    pub fn label(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.floor(range.start);
        let line_end = self.line_end(self.line(start));
        let start = start.min(line_end);
        let end = self.floor(range.end.clamp(start, line_end).min(start + MAX_LABEL));
        if end > start {
            return start..end;
        }
        match self.text[start..line_end].chars().next() {
            Some(first) => start..start + first.len_utf8(),
            // At the end of a line, a caret at its last letter is easier to see.
            None => {
                let before = self.text[self.line_starts[self.line(start)]..start].chars().next_back();
                start - before.map_or(0, char::len_utf8)..start
            }
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// Returns the end of a line's text, without the line end.
    fn line_end(&self, line: usize) -> usize {
        let Some(&next) = self.line_starts.get(line + 1) else { return self.text.len() };
        let end = next - 1;
        if end > self.line_starts[line] && self.text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
    }

    /// Returns the beginning of the character at `offset`.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

impl SourceCode for Source<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (from, to) = (span.offset(), span.offset() + span.len());
        // If the span is refused, miette shows two distant carets in two windows.
        if to > self.text.len() || span.len() > MAX_WINDOW {
            return Err(MietteError::OutOfBounds);
        }
        let line = self.line(from);
        let first = line.saturating_sub(lines_before);
        let last = (self.line(to) + lines_after).min(self.line_starts.len() - 1);
        let mut window = if lines_before == 0 { from } else { self.line_starts[first] }..self.line_end(last);
        let mut first_shown = if lines_before == 0 { line } else { first };
        if window.len() > MAX_WINDOW {
            window.start = self.floor(from.saturating_sub(CONTEXT_BYTES)).max(self.line_starts[line]).min(from);
            window.end = self.floor(to + CONTEXT_BYTES).min(self.line_end(self.line(to))).max(to);
            first_shown = line;
        }
        let column = if lines_before == 0 { self.text[self.line_starts[line]..from].chars().count() } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_owned(),
            &self.text.as_bytes()[window.clone()],
            (window.start, window.len()).into(),
            first_shown,
            column,
            self.line(window.end) - first_shown + 1,
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn a_label_stays_within_its_line_and_is_never_empty() {
        let source = Source::new("f", "ab\r\ncd\n\u{e9}");
        assert_eq!(source.label(&(0..6)), 0..2);
        assert_eq!(source.label(&(4..4)), 4..5);
        assert_eq!(source.label(&(6..6)), 5..6, "the line end gives way to the letter before it");
        assert_eq!(source.label(&(7..8)), 7..9, "half a character is widened to the whole");
        assert_eq!(source.label(&(500..900)), 7..9);
        assert_eq!(Source::new("f", "").label(&(0..3)), 0..0);
    }
}
