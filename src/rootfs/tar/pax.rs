//! Reads the records of a POSIX extended header (pax(1), "pax Extended Header").
//!
//! The tar crate's reader ends a record at the first newline, and so loses every attribute or name that contains one;
//! this reader uses the record's length, as the format requires.

use std::ffi::CString;

use rustix::fs::Timespec;

use super::sparse::SparseKeys;

/// The fields of a member that extended headers override.
#[derive(Debug, Clone, Default)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timespec>,
    pub(super) device_major: Option<u32>,
    pub(super) device_minor: Option<u32>,
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
    pub(super) sparse: SparseKeys,
}

impl Overrides {
    /// Applies the records of one extended header. The error describes the problem.
    pub(super) fn apply(&mut self, mut records: &[u8]) -> Result<(), String> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or("its extended header is malformed")?;
            self.set(key, value).map_err(|problem| {
                let (key, value) = (key.escape_ascii(), value[..value.len().min(40)].escape_ascii());
                format!("its extended header says `{key}={value}`, which {problem}")
            })?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.set_xattr(&decode(name), value);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        // An empty value removes the override of a global header.
        let has_value = !value.is_empty();
        match key {
            b"path" => self.path = has_value.then(|| value.to_vec()),
            b"linkpath" => self.link = has_value.then(|| value.to_vec()),
            b"size" => self.size = has_value.then(|| number(value)).transpose()?,
            b"uid" => self.uid = has_value.then(|| number32(value)).transpose()?,
            b"gid" => self.gid = has_value.then(|| number32(value)).transpose()?,
            b"mtime" => self.mtime = has_value.then(|| time(value).ok_or("is no time")).transpose()?,
            b"SCHILY.devmajor" => self.device_major = has_value.then(|| number32(value)).transpose()?,
            b"SCHILY.devminor" => self.device_minor = has_value.then(|| number32(value)).transpose()?,
            // Comments, user names, access times, checksums: a tree has none of them.
            _ => {}
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // Access control lists: squashfs has none, so a root could not store them.
        if name.starts_with(b"system.") {
            return Ok(());
        }
        if name.starts_with(b"trusted.overlay.") {
            return Err("is overlayfs' own mark and would change what is seen of the root");
        }
        let name = CString::new(name).map_err(|_| "has a NUL in its name")?;
        self.xattrs.retain(|(there, _)| *there != name);
        self.xattrs.push((name, value.to_vec()));
        Ok(())
    }
}

/// Returns the first record's key and value, and the bytes after the record.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(&records[..space]).ok()?).ok()?;
    if length <= space + 1 || length > records.len() {
        return None;
    }
    let (record, rest) = records.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

/// Parses a decimal number.
pub(super) fn number(digits: &[u8]) -> Result<u64, &'static str> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("is no number");
    }
    let value =
        digits.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    value.ok_or("is too large")
}

fn number32(digits: &[u8]) -> Result<u32, &'static str> {
    u32::try_from(number(digits)?).map_err(|_| "does not fit in 32 bits")
}

/// Parses seconds with a fraction of any length, rounded down to nanoseconds.
fn time(text: &[u8]) -> Option<Timespec> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let whole = match number(whole) {
        Ok(whole) => i64::try_from(whole).unwrap_or(i64::MAX),
        Err("is too large") => i64::MAX,
        Err(_) => return None,
    };
    let digit = |at: usize| i64::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    Some(match (negative, nanoseconds) {
        (false, _) => clamp(whole, nanoseconds),
        (true, 0) => clamp(-whole, 0),
        // timespec counts nanoseconds upwards from the second below.
        (true, _) => clamp((-whole).saturating_sub(1), 1_000_000_000 - nanoseconds),
    })
}

/// Limits a time to the range of ext4 and squashfs, from 1901 to 2106. Outside of it, filesystems wrap around or
/// clamp, each differently.
pub(super) fn clamp(seconds: i64, nanoseconds: i64) -> Timespec {
    const FIRST: i64 = i32::MIN as i64;
    const LAST: i64 = u32::MAX as i64;
    match seconds {
        ..FIRST => Timespec { tv_sec: FIRST, tv_nsec: 0 },
        FIRST..=LAST => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        _ => Timespec { tv_sec: LAST, tv_nsec: 0 },
    }
}

/// Decodes an attribute's name: GNU tar writes `=` as `%3D` and `%` as `%25`, and escapes nothing else.
fn decode(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(records: &[u8]) -> Result<Overrides, String> {
        let mut overrides = Overrides::default();
        overrides.apply(records).map(|()| overrides)
    }

    #[test]
    fn a_record_ends_at_its_length_and_not_at_a_newline() {
        let overrides = parsed(b"27 SCHILY.xattr.user.a=x\ny\n9 path=a\n").unwrap();
        assert_eq!(overrides.xattrs, [(c"user.a".to_owned(), b"x\ny".to_vec())]);
        assert_eq!(overrides.path.as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn an_attributes_name_can_contain_an_escaped_equals_sign() {
        let overrides = parsed(b"32 SCHILY.xattr.user.a%3Db%25=\0\n").unwrap();
        assert_eq!(overrides.xattrs, [(c"user.a=b%".to_owned(), b"\0".to_vec())]);
    }

    #[test]
    fn broken_records_are_refused() {
        for broken in [&b"9 path=aa\n"[..], b"99 path=a\n", b"path=a\n", b"9 path:a\n", b"0 \n", b"2 \n", b"8 path=a\n"]
        {
            assert!(parsed(broken).is_err(), "{}", broken.escape_ascii());
        }
        assert!(parsed(b"18 uid=4294967296\n").unwrap_err().contains("32 bits"));
        assert!(parsed(b"12 mtime=1x\n").unwrap_err().contains("is no time"));
    }

    #[test]
    fn times_have_a_fraction_a_sign_and_a_range() {
        let at = |tv_sec, tv_nsec| Some(Timespec { tv_sec, tv_nsec });
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1.0000000019"), at(1, 1));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"99999999999999999999999"), at(i64::from(u32::MAX), 0));
        assert_eq!(time(b"-99999999999999999999999.5"), at(i64::from(i32::MIN), 0));
        assert_eq!(time(b"nan"), None);
        assert_eq!(time(b"1.-5"), None);
    }
}
