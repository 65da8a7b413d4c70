//! Berkeley DB's hash, as rpm before 4.16 wrote it: pages of pairs, and chains of overflow pages for values that are longer than
//! a page. The numbers are in the byte order of the machine that wrote them.

use super::file::{DatabaseFile, MAX_HEADER, array};
use crate::packages::Problem;

const MAGIC: u32 = 0x0006_1561;

/// The types of a page: a hash's, as older and newer versions write it, and an overflow page.
const HASH_PAGES: [u8; 2] = [2, 13];
const OVERFLOW_PAGE: u8 = 7;

/// The bytes of a page's header.
const PAGE_HEADER: usize = 26;

/// The types of an item: in the page, and on overflow pages.
const IN_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

const PAGE_SIZES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// A database whose byte order and size of pages are known.
struct Pages<'d, 'f> {
    file: &'d mut DatabaseFile<'f>,
    is_big_endian: bool,
    size: usize,
}

impl Pages<'_, '_> {
    fn u32(&self, bytes: &[u8], offset: usize) -> Result<u32, Problem> {
        array(bytes, offset).map(if self.is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes })
    }

    fn u16(&self, bytes: &[u8], offset: usize) -> Result<usize, Problem> {
        array(bytes, offset)
            .map(if self.is_big_endian { u16::from_be_bytes } else { u16::from_le_bytes })
            .map(usize::from)
    }

    fn page(&mut self, number: u32) -> Result<Vec<u8>, Problem> {
        self.file.read(u64::from(number) * self.size as u64, self.size)
    }

    /// Reads a value that is on overflow pages.
    fn overflow(&mut self, first: u32, length: usize) -> Result<Vec<u8>, Problem> {
        if length > MAX_HEADER {
            return Err(Problem::DamagedHeader);
        }
        let (mut value, mut next) = (Vec::new(), first);
        while value.len() < length {
            let page = self.page(next)?;
            let bytes = self.u16(&page, 22)?;
            // A page without bytes could be its own successor for ever.
            if page[25] != OVERFLOW_PAGE || bytes == 0 {
                return Err(Problem::DamagedHeader);
            }
            value.extend(page.get(PAGE_HEADER..PAGE_HEADER + bytes).ok_or(Problem::OutOfBounds)?);
            next = self.u32(&page, 16)?;
        }
        value.truncate(length);
        Ok(value)
    }
}

/// Passes the header of each package on.
pub(super) fn walk(
    file: &mut DatabaseFile<'_>,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let meta = file.read(0, *PAGE_SIZES.start()).map_err(|_| Problem::NotADatabase)?;
    let is_big_endian = match array(&meta, 12)? {
        magic if u32::from_le_bytes(magic) == MAGIC => false,
        magic if u32::from_be_bytes(magic) == MAGIC => true,
        _ => return Err(Problem::NotADatabase),
    };
    let mut pages = Pages { file, is_big_endian, size: 0 };
    pages.size = pages.u32(&meta, 20)? as usize;
    let is_encrypted = meta[24] != 0;
    if !PAGE_SIZES.contains(&pages.size) || !pages.size.is_power_of_two() || is_encrypted {
        return Err(Problem::NotADatabase);
    }
    for number in 1..=pages.u32(&meta, 32)? {
        let page = pages.page(number)?;
        if !HASH_PAGES.contains(&page[25]) {
            continue;
        }
        let entries = pages.u16(&page, 20)?;
        let item = |index: usize| pages.u16(&page, PAGE_HEADER + 2 * index);
        let mut values = Vec::new();
        for pair in 0..entries / 2 {
            let [key_end, key, value] = [(2 * pair).checked_sub(1), Some(2 * pair), Some(2 * pair + 1)]
                .map(|index| index.map_or(Ok(pages.size), item));
            let (key_end, key, value) = (key_end?, key?, value?);
            let key = page.get(key..key_end).ok_or(Problem::OutOfBounds)?;
            // The value of key 0 is the number of the last package.
            if key.iter().skip(1).all(|byte| *byte == 0) {
                continue;
            }
            values.push((value, 2 * pair));
        }
        for (value, key) in values {
            let end = pages.u16(&page, PAGE_HEADER + 2 * key)?;
            match page.get(value) {
                Some(&IN_PAGE) => visit(page.get(value + 1..end).ok_or(Problem::OutOfBounds)?)?,
                Some(&OFF_PAGE) => {
                    let (first, length) = (pages.u32(&page, value + 4)?, pages.u32(&page, value + 8)? as usize);
                    visit(&pages.overflow(first, length)?)?;
                }
                _ => return Err(Problem::DamagedHeader),
            }
        }
    }
    Ok(())
}
