//! SHA-256 digests: the names of layers.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::fs::regular;

/// The bytes of a file that are read at once.
const BUFFER: usize = 1 << 20;

/// A SHA-256 digest. Shown and parsed as `sha256:` and 64 lower-case hexadecimal digits, as OCI images write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest of a whole file, from its first byte; the file's offset neither matters nor changes.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Self::of_file_by(file, &mut vec![0; BUFFER], || Ok(()))
    }

    /// Returns the digest of the regular file at a path, and its size in bytes.
    ///
    /// # Errors
    /// Those of opening and reading the file.
    pub(crate) fn with_size(path: &Path) -> io::Result<(Self, u64)> {
        let file = regular::open(path)?;
        Ok((Self::of_file(&file)?, file.metadata()?.len()))
    }

    /// Returns the digest as [`Digest::of_file`] does, with a buffer of the caller's: a caller that reads many small files makes
    /// it once. Before each read `may_continue` may end the reading with an error.
    pub(crate) fn of_file_by<E: From<io::Error>>(
        file: &File,
        buffer: &mut [u8],
        may_continue: impl Fn() -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut hasher = Hasher::new();
        let mut offset = 0;
        loop {
            may_continue()?;
            match file.read_at(buffer, offset) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns the 64 hexadecimal digits without the algorithm's name, as in the names of files.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let parse = || {
            let digits = text.strip_prefix("sha256:")?.as_bytes();
            let mut bytes = [0; 32];
            if digits.len() != 2 * bytes.len() {
                return None;
            }
            for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
            }
            Some(Self(bytes))
        };
        parse().ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// Upper case is refused: one digest has one spelling.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Takes bytes in pieces, and returns their digest at the end.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Makes one that has taken no byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes that were taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    /// From FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_shown_as_oci_writes_them() {
        assert_eq!(Digest::of_bytes(b"abc").to_string(), ABC);
    }

    #[test]
    fn a_shown_digest_is_parsed_to_the_same_digest() {
        assert_eq!(ABC.parse(), Ok(Digest::of_bytes(b"abc")));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "sha256:", &ABC[7..], &ABC.to_uppercase(), &ABC[..70], &format!("{ABC}0"), "sha512:00"] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError(text.to_owned())));
        }
        // 64 bytes, though not 64 characters.
        assert!(format!("sha256:{}", "é".repeat(32)).parse::<Digest>().is_err());
    }

    #[test]
    fn a_file_is_read_whole_from_any_offset() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..BUFFER + 12345).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        assert_eq!(Digest::of_file(&file).unwrap(), Digest::of_bytes(&bytes));
        let mut next = [0];
        file.read_exact(&mut next).unwrap();
        assert_eq!(next[0], 7);
    }

    #[test]
    fn a_stream_in_pieces_has_the_digest_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.write_all(b"a").unwrap();
        hasher.update(b"bc");
        assert_eq!(hasher.finish().to_string(), ABC);
    }
}
