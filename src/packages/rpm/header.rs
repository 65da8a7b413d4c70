//! A package's header: an index of tags, and the data that they refer to. The same as in a package's file, without the magic.

use super::file::{MAX_HEADER, array, u32_be};
use crate::packages::{Manager, Package, Problem, field};

/// The bytes of an entry of the index: tag, type, offset and count.
const ENTRY: usize = 16;

/// rpm's own limit.
const MAX_TAGS: u32 = 0xffff;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const SIZE: u32 = 1009;
const ARCHITECTURE: u32 = 1022;
const LONG_SIZE: u32 = 5009;

const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;

/// Returns the package that a header describes.
pub(super) fn package(header: &[u8]) -> Result<Package, Problem> {
    let damaged = |_| Problem::DamagedHeader;
    let (tags, length) = (u32_be(header, 0).map_err(damaged)?, u32_be(header, 4).map_err(damaged)?);
    if tags == 0 || tags > MAX_TAGS || length as usize > MAX_HEADER {
        return Err(Problem::DamagedHeader);
    }
    let index = header.get(8..8 + tags as usize * ENTRY).ok_or(Problem::DamagedHeader)?;
    let data =
        header.get(8 + index.len()..).and_then(|data| data.get(..length as usize)).ok_or(Problem::DamagedHeader)?;
    let value = |wanted: u32, kinds: u32| {
        index.chunks_exact(ENTRY).find_map(|entry| {
            let [tag, kind, offset] = [0, 4, 8].map(|at| u32_be(entry, at).unwrap_or_default());
            (tag == wanted && kind == kinds).then_some(offset as usize)
        })
    };
    let text = |tag: u32| {
        let Some(offset) = value(tag, STRING) else { return Ok(String::new()) };
        let text = data.get(offset..).ok_or(Problem::DamagedHeader)?;
        let end = text.iter().position(|byte| *byte == 0).ok_or(Problem::DamagedHeader)?;
        field(&text[..end])
    };
    let number = |tag: u32| -> Result<Option<u32>, Problem> {
        value(tag, INT32).map(|offset| u32_be(data, offset).map_err(damaged)).transpose()
    };
    let (name, version, release) = (text(NAME)?, text(VERSION)?, text(RELEASE)?);
    if name.is_empty() || version.is_empty() {
        return Err(Problem::NoName);
    }
    let long_size = value(LONG_SIZE, INT64).map(|offset| array(data, offset).map(u64::from_be_bytes).map_err(damaged));
    let mut whole = number(EPOCH)?.map_or(String::new(), |epoch| format!("{epoch}:"));
    whole.push_str(&version);
    if !release.is_empty() {
        whole.push('-');
        whole.push_str(&release);
    }
    let size = match long_size.transpose()? {
        Some(size) => Some(size),
        None => number(SIZE)?.map(u64::from),
    };
    Ok(Package { manager: Manager::Rpm, name, version: whole, architecture: text(ARCHITECTURE)?, size })
}

#[cfg(test)]
pub(in crate::packages) mod tests {
    use super::*;

    /// Returns the header of a package.
    pub(in crate::packages) fn header(name: &str, version: &str, epoch: Option<u32>, size: u32) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        let mut add = |tag: u32, kind: u32, value: &[u8]| {
            while kind == INT32 && data.len() % 4 != 0 {
                data.push(0);
            }
            for number in [tag, kind, u32::try_from(data.len()).unwrap(), 1] {
                index.extend(number.to_be_bytes());
            }
            data.extend(value);
        };
        for (tag, text) in [(NAME, name), (VERSION, version), (RELEASE, "1.fc40"), (ARCHITECTURE, "x86_64")] {
            add(tag, STRING, format!("{text}\0").as_bytes());
        }
        add(SIZE, INT32, &size.to_be_bytes());
        if let Some(epoch) = epoch {
            add(EPOCH, INT32, &epoch.to_be_bytes());
        }
        let counts = [index.len() / ENTRY, data.len()].map(|count| u32::try_from(count).unwrap().to_be_bytes());
        [&counts.concat()[..], &index, &data].concat()
    }

    #[test]
    fn a_header_gives_the_package() {
        let expected = Package {
            manager: Manager::Rpm,
            name: "bash".into(),
            version: "2:5.2-1.fc40".into(),
            architecture: "x86_64".into(),
            size: Some(7),
        };
        assert_eq!(package(&header("bash", "5.2", Some(2), 7)), Ok(expected));
        assert_eq!(package(&header("a", "1", None, 0)).unwrap().version, "1-1.fc40");
    }

    #[test]
    fn no_beginning_and_no_change_of_a_header_panics() {
        let whole = header("bash", "5.2", Some(2), 7);
        for length in 0..whole.len() {
            assert!(package(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = package(&changed);
            }
        }
        assert_eq!(package(&header("", "1", None, 0)), Err(Problem::NoName));
        assert_eq!(package(&header(&"x".repeat(600), "1", None, 0)), Err(Problem::LongField));
    }
}
