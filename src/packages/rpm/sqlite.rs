//! sqlite's file format, as far as reading the table of packages needs it: <https://www.sqlite.org/fileformat.html>.

use super::file::{DatabaseFile, MAX_HEADER, u16_be, u32_be};
use crate::packages::Problem;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The bytes of the file's header, before the B-tree of page 1.
const FILE_HEADER: usize = 100;

/// The types of a B-tree's page.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// The table of packages, in rpm's `lib/backend/sqlite.c`.
const TABLE: &[u8] = b"Packages";

/// The depth of a B-tree; each page has at least two children.
const MAX_DEPTH: usize = 32;

/// A database whose size of pages is known.
struct Pages<'d, 'f> {
    file: &'d mut DatabaseFile<'f>,
    size: usize,
    /// The bytes of a page without the reserved ones at its end.
    usable: usize,
}

/// Passes the header of each package on.
pub(super) fn walk(
    file: &mut DatabaseFile<'_>,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let header = file.read(0, FILE_HEADER).map_err(|_| Problem::NotADatabase)?;
    let size = match u16_be(&header, 16)? {
        1 => 65_536,
        size => usize::from(size),
    };
    let usable = size.saturating_sub(header[20].into());
    if !header.starts_with(MAGIC) || !size.is_power_of_two() || usable < 480 {
        return Err(Problem::NotADatabase);
    }
    let mut pages = Pages { file, size, usable };
    let mut table = None;
    // The schema: type, name, name of the table, its first page, and the statement.
    pages.rows(1, &mut |row| {
        let columns = columns(row)?;
        if let [b"table", name, _, page, ..] = columns.as_slice()
            && *name == TABLE
        {
            table = Some(number(page));
        }
        Ok(())
    })?;
    let table = u32::try_from(table.ok_or(Problem::NoTable)?).map_err(|_| Problem::OutOfBounds)?;
    // The number of the package, which is the row's own and not stored here, and the header.
    pages.rows(table, &mut |row| match columns(row)?.as_slice() {
        [_, header] => visit(header),
        _ => Err(Problem::DamagedHeader),
    })
}

impl Pages<'_, '_> {
    fn page(&mut self, number: u32) -> Result<Vec<u8>, Problem> {
        let before = u64::from(number).checked_sub(1).ok_or(Problem::OutOfBounds)?;
        self.file.read(before * self.size as u64, self.size)
    }

    /// Passes each row of a table on.
    fn rows(&mut self, root: u32, visit: &mut dyn FnMut(&[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        // Each page of a table has one parent.
        let mut remaining = self.file.length() / self.size as u64;
        let mut queue = vec![(root, 0)];
        while let Some((number, depth)) = queue.pop() {
            remaining = remaining.checked_sub(1).ok_or(Problem::TooMuch)?;
            if depth > MAX_DEPTH {
                return Err(Problem::TooMuch);
            }
            let page = self.page(number)?;
            let top = if number == 1 { FILE_HEADER } else { 0 };
            let cells = usize::from(u16_be(&page, top + 3)?);
            let kind = page[top];
            let pointers = top + if kind == INTERIOR { 12 } else { 8 };
            let cell = |index: usize| u16_be(&page, pointers + 2 * index).map(usize::from);
            match kind {
                INTERIOR => {
                    queue.push((u32_be(&page, top + 8)?, depth + 1));
                    for index in (0..cells).rev() {
                        queue.push((u32_be(&page, cell(index)?)?, depth + 1));
                    }
                }
                LEAF => {
                    for index in 0..cells {
                        let row = self.row(page.get(cell(index)?..).ok_or(Problem::OutOfBounds)?)?;
                        visit(&row)?;
                    }
                }
                _ => return Err(Problem::OutOfBounds),
            }
        }
        Ok(())
    }

    /// Returns the row of a leaf's cell, the end of which may be on overflow pages.
    fn row(&mut self, cell: &[u8]) -> Result<Vec<u8>, Problem> {
        let (length, rest) = variable(cell)?;
        let (_, rest) = variable(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER);
        let length = length.ok_or(Problem::DamagedHeader)?;
        let (most, least) = (self.usable - 35, (self.usable - 12) * 32 / 255 - 23);
        let local = match length {
            length if length <= most => length,
            length => match least + (length - least) % (self.usable - 4) {
                local if local <= most => local,
                _ => least,
            },
        };
        let mut row = rest.get(..local).ok_or(Problem::OutOfBounds)?.to_vec();
        let mut next = if local < length { u32_be(rest, local)? } else { 0 };
        while row.len() < length {
            let page = self.page(next)?;
            let bytes = (length - row.len()).min(self.usable - 4);
            row.extend(page.get(4..4 + bytes).ok_or(Problem::OutOfBounds)?);
            next = u32_be(&page, 0)?;
        }
        Ok(row)
    }
}

/// Returns the values of a row's columns.
fn columns(row: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let (length, types) = variable(row)?;
    let begin = usize::try_from(length).map_err(|_| Problem::OutOfBounds)?;
    let mut types = types.get(..begin.saturating_sub(row.len() - types.len())).ok_or(Problem::OutOfBounds)?;
    let mut values = row.get(begin..).ok_or(Problem::OutOfBounds)?;
    let mut columns = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = variable(types)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(Problem::OutOfBounds),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| Problem::OutOfBounds)?;
        let (value, others) = values.split_at_checked(length).ok_or(Problem::OutOfBounds)?;
        columns.push(value);
        (types, values) = (rest, others);
    }
    Ok(columns)
}

/// Returns the big-endian number that a column has.
fn number(column: &[u8]) -> u64 {
    column.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns the number of variable length that the bytes begin with, and the other bytes.
fn variable(bytes: &[u8]) -> Result<(u64, &[u8]), Problem> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        if index == 8 {
            return Ok((number << 8 | u64::from(*byte), &bytes[9..]));
        }
        number = number << 7 | u64::from(*byte & 0x7f);
        if *byte < 0x80 {
            return Ok((number, &bytes[index + 1..]));
        }
    }
    Err(Problem::OutOfBounds)
}
