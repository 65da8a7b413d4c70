//! Reads what lies in a message, in place.

/// Reads a message from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Returns the next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Returns the next number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Returns the next number of eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Returns the next text with its NUL, which is its only one.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = self.take(length)?;
        let (last, before) = text.split_last()?;
        (*last == 0 && !before.contains(&0)).then_some(text)
    }

    /// Returns a list of texts, and passes over it.
    pub fn texts(&mut self) -> Option<Texts<'a>> {
        let count = self.u32()?;
        let texts = Texts { count, rest: *self };
        for _ in 0..count {
            self.text()?;
        }
        Some(texts)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A list of texts, each with its NUL.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    count: u32,
    rest: Reader<'a>,
}

impl Texts<'_> {
    /// How many there are.
    pub const fn count_left(&self) -> usize {
        self.count as usize
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.rest.text()
    }
}
