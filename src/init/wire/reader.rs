//! Reads the numbers and texts of a message, in place.

/// Reads a message from its beginning to its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, remaining) = self.0.split_at_checked(length)?;
        self.0 = remaining;
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

    /// Returns the next text with its NUL, which is the only one in it.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let text = self.take(length)?;
        let (last, before) = text.split_last()?;
        (*last == 0 && !before.contains(&0)).then_some(text)
    }

    /// Returns a list of texts, and skips it.
    pub fn texts(&mut self) -> Option<Texts<'a>> {
        let count = self.u32()?;
        let texts = Texts { count, reader: *self };
        for _ in 0..count {
            self.text()?;
        }
        Some(texts)
    }

    /// Returns whether nothing remains.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A list of texts, each with its NUL.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    count: u32,
    reader: Reader<'a>,
}

impl Texts<'_> {
    /// Returns how many texts remain.
    pub const fn remaining(&self) -> usize {
        self.count as usize
    }
}

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        self.reader.text()
    }
}
