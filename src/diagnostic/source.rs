//! A text as miette reads it: any line is found without a walk from the beginning, and no endless line is printed whole.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A window of more bytes than this is cut down to what is around the caret.
const WINDOW: usize = 2000;
/// Bytes shown on each side of the caret in a window that is cut down.
const AROUND: usize = 60;
/// A caret is under at most this many bytes.
const LONGEST_LABEL: usize = 200;

/// A text with its name and the places where its lines begin.
#[derive(Debug)]
pub struct Source<'t> {
    name: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    /// `name` is shown before line and column.
    pub fn new(name: &'t str, text: &'t str) -> Self {
        // Lines as miette counts them: a lone carriage return ends none.
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, line_starts }
    }

    /// The part of `range` that a caret line can be drawn under: within the text, within one line, never empty unless
    /// the line is.
    pub fn label(&self, range: &Range<usize>) -> Range<usize> {
        let start = self.floor(range.start);
        let line_end = self.line_end(self.line(start));
        let start = start.min(line_end);
        let end = self.floor(range.end.clamp(start, line_end).min(start + LONGEST_LABEL));
        if end > start {
            return start..end;
        }
        match self.text[start..line_end].chars().next() {
            Some(first) => start..start + first.len_utf8(),
            // At the end of a line: the last letter before it is easier to see than nothing.
            None => {
                let before = self.text[self.line_starts[self.line(start)]..start].chars().next_back();
                start - before.map_or(0, char::len_utf8)..start
            }
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset).saturating_sub(1)
    }

    /// Where a line's text ends, its line end not counted.
    fn line_end(&self, line: usize) -> usize {
        let Some(&next) = self.line_starts.get(line + 1) else { return self.text.len() };
        let end = next - 1;
        if end > self.line_starts[line] && self.text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
    }

    /// The nearest character's beginning at or before `offset`.
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
        // Refused, two carets far from each other are shown in two windows.
        if to > self.text.len() || span.len() > WINDOW {
            return Err(MietteError::OutOfBounds);
        }
        let line = self.line(from);
        let first = line.saturating_sub(lines_before);
        let last = (self.line(to) + lines_after).min(self.line_starts.len() - 1);
        let mut window = if lines_before == 0 { from } else { self.line_starts[first] }..self.line_end(last);
        let mut first_shown = if lines_before == 0 { line } else { first };
        if window.len() > WINDOW {
            window.start = self.floor(from.saturating_sub(AROUND)).max(self.line_starts[line]).min(from);
            window.end = self.floor(to + AROUND).min(self.line_end(self.line(to))).max(to);
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
