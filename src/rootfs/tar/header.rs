//! Reads the fields of a header that no extended header overrides.
//!
//! The tar crate locates the fields; the numbers are parsed here, because the crate knows no negative ones.

use tar::Header;

use super::member::{Fault, broken};
use super::pax::{Overrides, clamp};
use crate::rootfs::tree::Meta;

/// Returns whether a block is a header, by its checksum: the sum of its bytes, unsigned or, from old archivers,
/// signed, with the checksum field counted as spaces.
pub(super) fn checksum_matches(header: &Header) -> bool {
    let Ok(said) = header.cksum() else { return false };
    let bytes = || header.as_bytes()[..148].iter().chain(&[b' '; 8]).chain(&header.as_bytes()[156..]);
    let unsigned: u32 = bytes().map(|byte| u32::from(*byte)).sum();
    let signed: i32 = bytes().map(|byte| i32::from(byte.cast_signed())).sum();
    said == unsigned || i64::from(said) == i64::from(signed)
}

/// Returns the number of bytes of content that follow.
pub(super) fn stored_size(header: &Header, overrides: &Overrides) -> Result<u64, Fault> {
    let size = match overrides.size {
        Some(size) => size,
        None => unsigned(&header.as_old().size)?,
    };
    if i64::try_from(size).is_err() { broken("its size is too large") } else { Ok(size) }
}

/// Returns the owner, mode, time and attributes.
pub(super) fn meta(header: &Header, overrides: &Overrides) -> Result<Meta, Fault> {
    let old = header.as_old();
    let id = |said: Option<u32>, field: &[u8], what: &str| {
        let id = match said {
            Some(id) => id,
            None => u32::try_from(signed(field)?).or_else(|_| broken(format!("its {what} does not fit in 32 bits")))?,
        };
        // For chown(2) this id means "no change".
        if id == u32::MAX { broken(format!("its {what} is {id}, which no file can have")) } else { Ok(id) }
    };
    let mtime = match overrides.mtime {
        Some(mtime) => mtime,
        None => clamp(signed(&old.mtime)?, 0),
    };
    // Some archivers store the file's type in the mode field too.
    let mode = u32::try_from(signed(&old.mode)? & 0o7777).unwrap_or(0);
    Ok(Meta {
        uid: id(overrides.uid, &old.uid, "owner")?,
        gid: id(overrides.gid, &old.gid, "group")?,
        mode,
        mtime,
        xattrs: overrides.xattrs.clone(),
    })
}

/// Returns the major and minor number.
pub(super) fn device_numbers(header: &Header, overrides: &Overrides) -> Result<(u32, u32), Fault> {
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (_, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        (None, None) => None,
    };
    let number = |said: Option<u32>, field: Option<&[u8; 8]>| match (said, field) {
        (Some(number), _) => Ok(number),
        (None, Some(field)) => u32::try_from(signed(field)?).or_else(|_| broken("its device number is too large")),
        (None, None) => broken("it is a device without a number"),
    };
    let (major, minor) =
        (number(overrides.device_major, fields.map(|f| f.0))?, number(overrides.device_minor, fields.map(|f| f.1))?);
    // The limits of Linux' dev_t.
    if major >= 1 << 12 || minor >= 1 << 20 { broken("its device number is too large") } else { Ok((major, minor)) }
}

/// Parses a number that is not negative.
pub(super) fn unsigned(field: &[u8]) -> Result<u64, Fault> {
    u64::try_from(signed(field)?).or_else(|_| broken("its header has a negative size"))
}

/// Parses a number of a header: octal digits after blanks, or, if the first bit is set, big-endian in two's
/// complement. An empty field is 0.
fn signed(field: &[u8]) -> Result<i64, Fault> {
    let malformed = || Fault::Broken(format!("its header has `{}` for a number", field.escape_ascii()));
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // The second bit is the sign, and is copied to the first.
            let first = i64::from(((first << 1).cast_signed()) >> 1);
            rest.iter()
                .try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
                .ok_or_else(malformed)
        }
        _ => {
            let digits = until_nul(field).trim_ascii();
            let value = digits.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
                _ => None,
            });
            value.ok_or_else(malformed)
        }
    }
}

/// Returns the bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_with_a_sign() {
        let value = |field: &[u8]| signed(field).unwrap();
        assert_eq!(value(b"0000644\0"), 0o644);
        assert_eq!(value(b"  644 \0"), 0o644);
        assert_eq!(value(b"77777777"), 0o77777777);
        assert_eq!(value(b"\0\0\0\0"), 0);
        assert_eq!(value(b"\x80\0\0\0\x12\x34\x56\x78"), 0x12345678);
        assert_eq!(value(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), -2);
        assert!(signed(b"12x4567\0").is_err());
        assert!(signed(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
