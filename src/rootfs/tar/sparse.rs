//! The maps of sparse members, which locate their content: the GNU formats "old", 0.0, 0.1 and 1.0 (GNU tar manual,
//! "Storing Sparse Files").

use super::pax::number;

/// The most runs in a map: the map is in memory, and a compressed archive can contain a huge one.
const MAX_SEGMENTS: usize = 1 << 20;

/// A run of content in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The runs of content in ascending order, checked against the sizes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SparseMap {
    pub(super) segments: Vec<Segment>,
    /// The file's size with its holes.
    pub(super) size: u64,
}

impl SparseMap {
    /// Checks that the runs follow each other, end within the file, and use all of the stored content.
    pub(super) fn new(segments: Vec<Segment>, size: u64, stored: u64) -> Result<Self, &'static str> {
        let mut end = 0;
        let mut sum = 0_u64;
        for segment in &segments {
            if segment.offset < end {
                return Err("its sparse map is out of order");
            }
            end = segment.offset.checked_add(segment.length).ok_or("its sparse map is too large")?;
            // The sum cannot overflow: the runs do not overlap, and end below 2^64.
            sum += segment.length;
        }
        if end > size || i64::try_from(size).is_err() {
            return Err("its sparse map leads past its end");
        }
        if sum != stored {
            return Err("its sparse map does not match its stored size");
        }
        Ok(Self { segments, size })
    }
}

/// Adds a run, unless there are too many.
pub(super) fn push(segments: &mut Vec<Segment>, segment: Segment) -> Result<(), &'static str> {
    if segments.len() >= MAX_SEGMENTS {
        return Err("has more than a million pieces");
    }
    segments.push(segment);
    Ok(())
}

/// The `GNU.sparse.*` records of an extended header.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseKeys {
    pub(super) name: Option<Vec<u8>>,
    /// The file's size with its holes.
    pub(super) size: Option<u64>,
    major: Option<u64>,
    /// The map of formats 0.0 and 0.1.
    pub(super) segments: Vec<Segment>,
    /// In format 0.0, an offset whose length has not been read yet.
    offset: Option<u64>,
}

impl SparseKeys {
    /// Applies a record; the key has no prefix.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(number(value)?),
            b"major" => match number(value)? {
                major @ (0 | 1) => self.major = Some(major),
                _ => return Err("is a sparse format that is not known"),
            },
            b"offset" => self.offset = Some(number(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("has no offset before it")?;
                push(&mut self.segments, Segment { offset, length: number(value)? })?;
            }
            b"map" => {
                self.segments.clear();
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("has an odd number of numbers")?;
                    push(&mut self.segments, Segment { offset: number(offset)?, length: number(length)? })?;
                }
            }
            // `minor`: 1.0 is the only format of its major. `numblocks`: the length of the map is known.
            _ => {}
        }
        Ok(())
    }

    /// Returns whether the member is a sparse file.
    pub(super) fn is_sparse(&self) -> bool {
        self.size.is_some()
    }

    /// Returns whether the map is at the beginning of the content, as in format 1.0.
    pub(super) fn map_is_in_content(&self) -> bool {
        self.major == Some(1)
    }
}

/// Reads the map at the beginning of a member's content in format 1.0, a number a line, from blocks of 512 bytes.
#[derive(Debug, Default)]
pub(super) struct LeadingMap {
    expected: Option<u64>,
    offset: Option<u64>,
    line: Vec<u8>,
    segments: Vec<Segment>,
}

impl LeadingMap {
    /// Adds a block, and returns the map when it is complete. The other bytes of its last block are padding.
    pub(super) fn add_block(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err("its sparse map is malformed");
                }
                self.line.push(*byte);
                continue;
            }
            let value = number(&self.line).map_err(|_| "its sparse map is malformed")?;
            self.line.clear();
            match (self.expected, self.offset.take()) {
                (None, _) => self.expected = Some(value),
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => {
                    let segment = Segment { offset, length: value };
                    push(&mut self.segments, segment).map_err(|_| "its sparse map has more than a million pieces")?;
                }
            }
            if self.expected == u64::try_from(self.segments.len()).ok() {
                return Ok(Some(std::mem::take(&mut self.segments)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_must_be_in_order_within_the_file_and_match_the_stored_size() {
        let segment = |offset, length| Segment { offset, length };
        assert!(SparseMap::new(vec![segment(0, 2), segment(4, 2), segment(9, 0)], 9, 4).is_ok());
        assert!(SparseMap::new(vec![segment(4, 2), segment(0, 2)], 9, 4).is_err());
        assert!(SparseMap::new(vec![segment(0, 5), segment(4, 2)], 9, 7).is_err());
        assert!(SparseMap::new(vec![segment(8, 2)], 9, 2).is_err());
        assert!(SparseMap::new(vec![segment(u64::MAX, 2)], 9, 2).is_err());
        assert!(SparseMap::new(vec![segment(0, 2)], 9, 3).is_err());
        assert!(SparseMap::new(vec![], u64::MAX, 0).is_err());
    }

    #[test]
    fn a_map_in_the_content_may_span_blocks() {
        let mut map = LeadingMap::default();
        assert_eq!(map.add_block(b"2\n1\n2"), Ok(None));
        assert_eq!(
            map.add_block(b"0\n4096\n5\n\0\0"),
            Ok(Some(vec![Segment { offset: 1, length: 20 }, Segment { offset: 4096, length: 5 }]))
        );
        assert_eq!(LeadingMap::default().add_block(b"0\n"), Ok(Some(vec![])));
        assert!(LeadingMap::default().add_block(b"x\n").is_err());
        assert!(LeadingMap::default().add_block(&[b'1'; 512]).is_err());
    }
}
