//! rpm's own format, ndb: a table of slots, each with the place of a package's header. All numbers are little-endian.

use super::file::{DatabaseFile, MAX_HEADER, u32_le};
use crate::packages::Problem;

const MAGIC: u32 = u32::from_le_bytes(*b"RpmP");
const SLOT_MAGIC: u32 = u32::from_le_bytes(*b"Slot");
const BLOB_MAGIC: u32 = u32::from_le_bytes(*b"BlbS");

/// The bytes of a page of slots, of a slot, and the unit of places.
const PAGE: usize = 4096;
const SLOT: usize = 16;
const BLOCK: u64 = 16;

/// The bytes of the file's header, which takes the place of two slots.
const HEADER: usize = 32;

/// The bytes before a package's header: magic, number, generation and length.
const BLOB_HEADER: u64 = 16;

/// Passes the header of each package on.
pub(super) fn walk(
    file: &mut DatabaseFile<'_>,
    visit: &mut dyn FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let header = file.read(0, HEADER).map_err(|_| Problem::NotADatabase)?;
    if u32_le(&header, 0)? != MAGIC || u32_le(&header, 4)? != 0 {
        return Err(Problem::NotADatabase);
    }
    for page in 0..u64::from(u32_le(&header, 12)?) {
        let slots = file.read(page * PAGE as u64, PAGE)?;
        let first = if page == 0 { HEADER } else { 0 };
        for slot in slots[first..].chunks_exact(SLOT) {
            if u32_le(slot, 0)? != SLOT_MAGIC {
                return Err(Problem::NotADatabase);
            }
            let [package, block] = [u32_le(slot, 4)?, u32_le(slot, 8)?];
            // A free slot has no package.
            if package == 0 {
                continue;
            }
            let at = u64::from(block) * BLOCK;
            let blob = file.read(at, BLOB_HEADER as usize)?;
            let length = u32_le(&blob, 12)? as usize;
            if u32_le(&blob, 0)? != BLOB_MAGIC || u32_le(&blob, 4)? != package || length > MAX_HEADER {
                return Err(Problem::DamagedHeader);
            }
            visit(&file.read(at + BLOB_HEADER, length)?)?;
        }
    }
    Ok(())
}
