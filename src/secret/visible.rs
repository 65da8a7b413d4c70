//! Decides which bytes of a stream a terminal shows without escape sequences and control characters; pure.
//!
//! It decides for bytes as `report::sanitize` does for the characters of a line, so that no reader sees a secret in a line whose
//! bytes have hidden ones between them.

/// A longer sequence is text.
const MAX_SEQUENCE: usize = 64 << 10;

/// Reads a stream byte by byte.
#[derive(Debug, Default)]
pub(super) struct Visible {
    /// The undecided bytes, from `begin` on.
    undecided: Vec<u8>,
    begin: usize,
    /// The number of them that contain no end of a control string.
    scanned: usize,
    /// The number of the next bytes that are in a line, and contain no end of a control string.
    unterminated: usize,
}

impl Visible {
    /// Takes a byte, and calls `decided` for it and those before it, as soon as each is decided.
    pub(super) fn take(&mut self, byte: u8, decided: &mut impl FnMut(u8, bool)) {
        self.undecided.push(byte);
        self.decide_all(false, decided);
        self.undecided.drain(..self.begin);
        self.begin = 0;
    }

    /// Ends the stream, or marks a pause: an unfinished sequence is text.
    pub(super) fn finish(&mut self, decided: &mut impl FnMut(u8, bool)) {
        self.decide_all(true, decided);
        *self = Self::default();
    }

    fn decide_all(&mut self, is_end: bool, decided: &mut impl FnMut(u8, bool)) {
        while let Some((count, is_shown)) = self.decide(is_end) {
            let bytes = &self.undecided[self.begin..self.begin + count];
            bytes.iter().for_each(|byte| decided(*byte, is_shown));
            self.begin += count;
            self.scanned = 0;
            self.unterminated = self.unterminated.saturating_sub(count);
        }
    }

    /// Returns how many of the first bytes are shown, or are not; none where that depends on the next bytes.
    fn decide(&mut self, is_end: bool) -> Option<(usize, bool)> {
        let at_end = |count: usize, is_shown| is_end.then_some((count, is_shown));
        match self.undecided[self.begin..] {
            [] => None,
            [0x1b] => at_end(1, false),
            [0x1b, b'[', ..] | [0xc2, 0x9b, ..] => self.control_sequence(is_end),
            [0x1b, b'P' | b'X' | b']' | b'^' | b'_', ..] | [0xc2, 0x90 | 0x98 | 0x9d..=0x9f, ..] => self.string(is_end),
            [0x1b, ref rest @ ..] if matches!(rest[0], b' '..=b'/') => {
                match rest.iter().position(|byte| !matches!(byte, b' '..=b'/')) {
                    Some(end) => Some((1 + end + usize::from(matches!(rest[end], b'0'..=b'~')), false)),
                    None if rest.len() < MAX_SEQUENCE => at_end(1 + rest.len(), false),
                    None => Some((1 + rest.len(), false)),
                }
            }
            [0x1b, b'0'..=b'~', ..] | [0xc2, 0x80..=0x9f, ..] | [0xd8, 0x9c, ..] => Some((2, false)),
            [0xe2, 0x80, 0x8e | 0x8f | 0xaa..=0xae, ..] | [0xe2, 0x81, 0xa6..=0xa9, ..] => Some((3, false)),
            [0xc2 | 0xd8 | 0xe2] | [0xe2, 0x80 | 0x81] => at_end(1, true),
            [b'\t' | b'\n' | b'\r', ..] => Some((1, true)),
            [byte, ..] => Some((1, !byte.is_ascii_control())),
        }
    }

    /// Returns a whole control sequence; of an invalid one, the two bytes that begin it.
    fn control_sequence(&self, is_end: bool) -> Option<(usize, bool)> {
        let bytes = &self.undecided[self.begin..];
        let after =
            |from: usize, is_part: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|b| is_part(b)).count();
        let parameters = after(2, |byte| matches!(byte, b'0'..=b'?'));
        let end = after(parameters, |byte| matches!(byte, b' '..=b'/'));
        match bytes.get(end) {
            Some(b'@'..=b'~') => Some((end + 1, false)),
            None if !is_end && end < MAX_SEQUENCE => None,
            _ => Some((2, false)),
        }
    }

    /// Returns a whole control string; of one that does not end on its line, the two bytes that begin it.
    fn string(&mut self, is_end: bool) -> Option<(usize, bool)> {
        let bytes = &self.undecided[self.begin..];
        if self.unterminated > 2 {
            return Some((2, false));
        }
        for at in self.scanned.max(2)..bytes.len() {
            match (bytes[at - 1], bytes[at]) {
                // The bytes of a line before its last carriage return are not shown.
                (_, b'\n' | b'\r') => return self.no_string(),
                (_, 0x07) => return Some((at + 1, false)),
                (0x1b, b'\\') | (0xc2, 0x9c) if at > 2 => return Some((at + 1, false)),
                _ => {}
            }
        }
        self.scanned = bytes.len();
        if is_end || self.scanned >= MAX_SEQUENCE { self.no_string() } else { None }
    }

    fn no_string(&mut self) -> Option<(usize, bool)> {
        self.unterminated = self.undecided.len() - self.begin;
        Some((2, false))
    }
}

/// Returns the bytes that are shown of a whole text.
pub(super) fn visible(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::new();
    let mut stream = Visible::default();
    let mut decided = |byte, is_shown| {
        if is_shown {
            shown.push(byte);
        }
    };
    text.iter().for_each(|byte| stream.take(*byte, &mut decided));
    stream.finish(&mut decided);
    shown
}
