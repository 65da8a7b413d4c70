//! Compresses what is written to a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use flate2::write::GzEncoder;
use liblzma::write::XzEncoder;

use crate::model::Compression;

/// The bytes that are compressed at once.
const BUFFER: usize = 128 << 10;

/// A file that is being written, compressed or not.
pub enum Compressed<W: Write> {
    Plain(BufWriter<W>),
    Gzip(GzEncoder<BufWriter<W>>),
    Zstd(zstd::Encoder<'static, BufWriter<W>>),
    Xz(XzEncoder<BufWriter<W>>),
}

impl<W: Write> Compressed<W> {
    /// Begins to write.
    ///
    /// # Errors
    /// Where the compressor cannot begin, or does not make streams.
    pub fn new(to: W, compression: Compression, level: Option<u32>) -> io::Result<Self> {
        let to = BufWriter::with_capacity(BUFFER, to);
        Ok(match compression {
            Compression::None => Self::Plain(to),
            // Without a name and a time, so that the same bytes give the same file.
            Compression::Gzip => Self::Gzip(GzEncoder::new(to, flate2::Compression::new(level.unwrap_or(6)))),
            Compression::Zstd => {
                let level = level.unwrap_or(crate::squashfs::ZSTD_LEVEL);
                Self::Zstd(zstd::Encoder::new(to, i32::try_from(level).map_err(io::Error::other)?)?)
            }
            Compression::Xz => Self::Xz(XzEncoder::new(to, 6)),
            Compression::Lz4 => return Err(io::Error::other("lz4 is for images alone")),
        })
    }

    /// Writes the rest. Returns the file.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> io::Result<W> {
        let buffered = match self {
            Self::Plain(to) => to,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Xz(encoder) => encoder.finish()?,
        };
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

impl<W: Write> Write for Compressed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(to) => to.write(bytes),
            Self::Gzip(to) => to.write(bytes),
            Self::Zstd(to) => to.write(bytes),
            Self::Xz(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.flush(),
            Self::Gzip(to) => to.flush(),
            Self::Zstd(to) => to.flush(),
            Self::Xz(to) => to.flush(),
        }
    }
}

/// Creates a file and compresses what `write` writes to it.
///
/// # Errors
/// Those of writing.
pub fn compressed<T>(
    to: &std::path::Path,
    compression: Compression,
    level: Option<u32>,
    write: impl FnOnce(Compressed<File>) -> io::Result<(Compressed<File>, T)>,
) -> io::Result<T> {
    let (compressed, value) = write(Compressed::new(File::create_new(to)?, compression, level)?)?;
    compressed.finish()?;
    Ok(value)
}
