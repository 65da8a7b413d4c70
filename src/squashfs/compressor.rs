//! The compressors themselves: one block in, one block out, and the same bytes whatever was compressed before.

use std::io;

use flate2::{Compress, FlushCompress, Status};
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Stream};
use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};
use zstd::bulk::Compressor as Zstd;

use super::BLOCK_SIZE;
use super::codec::Codec;
use crate::model::Compression;

/// From this level on zstd searches in tables whose layout depends on the blocks that the same context compressed before:
/// such a context serves for one block.
const ZSTD_LEVEL_OF_FRESH_CONTEXTS: u32 = 5;

/// xz's own default.
const XZ_PRESET: u32 = 6;

/// Compresses blocks, one after another. Each thread has its own.
pub(super) enum Compressor {
    Zstd(Box<Zstd<'static>>),
    ZstdAfresh(i32),
    Gzip(Box<Compress>),
    Xz(Box<Filters>),
    Lz4,
    /// Leaves everything as it is.
    None,
}

impl Compressor {
    /// Makes one.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub(super) fn new(codec: Codec) -> io::Result<Self> {
        let level = codec.level();
        Ok(match codec.compression() {
            Compression::Zstd if level >= ZSTD_LEVEL_OF_FRESH_CONTEXTS => Self::ZstdAfresh(level.cast_signed()),
            Compression::Zstd => Self::Zstd(Box::new(Zstd::new(level.cast_signed())?)),
            Compression::Gzip => Self::Gzip(Box::new(Compress::new(flate2::Compression::new(level), true))),
            Compression::Xz => {
                let mut options = LzmaOptions::new_preset(XZ_PRESET)?;
                // The kernel has room for a dictionary of one block.
                options.dict_size(BLOCK_SIZE as u32);
                let mut filters = Filters::new();
                filters.lzma2(&options);
                Self::Xz(Box::new(filters))
            }
            Compression::Lz4 => Self::Lz4,
            Compression::None => Self::None,
        })
    }

    /// Compresses `input` into `output`, whose content before is lost. Returns whether that is smaller; if not, the block is
    /// to be stored as it is.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub(super) fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<bool> {
        output.clear();
        match self {
            Self::Zstd(zstd) => with_zstd(zstd, input, output)?,
            Self::ZstdAfresh(level) => with_zstd(&mut Zstd::new(*level)?, input, output)?,
            Self::Gzip(gzip) => {
                gzip.reset();
                output.reserve_exact(input.len());
                if gzip.compress_vec(input, output, FlushCompress::Finish)? != Status::StreamEnd {
                    return Ok(false);
                }
            }
            Self::Xz(filters) => {
                // The kernel knows this checksum and no other one.
                let mut xz = Stream::new_stream_encoder(filters, Check::Crc32)?;
                output.reserve_exact(input.len());
                if xz.process_vec(input, output, Action::Finish)? != liblzma::stream::Status::StreamEnd {
                    return Ok(false);
                }
            }
            Self::Lz4 => {
                output.resize(compress_bound(input.len())?, 0);
                let length = compress_to_buffer(input, Some(CompressionMode::DEFAULT), false, output)?;
                output.truncate(length);
            }
            Self::None => return Ok(false),
        }
        Ok(output.len() < input.len())
    }
}

/// With room for any result: with less, zstd may go another way.
fn with_zstd(zstd: &mut Zstd<'static>, input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
    output.reserve_exact(zstd::zstd_safe::compress_bound(input.len()));
    zstd.compress_to_buffer(input, output).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of text, of numbers, of one byte, of noise, and short ones.
    fn blocks() -> Vec<Vec<u8>> {
        let mut noise = 1_u64;
        let mut random = || {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise
        };
        let text: Vec<u8> = (0..BLOCK_SIZE).map(|_| b"the image of a root "[random() as usize % 20]).collect();
        let numbers: Vec<u8> = (0..BLOCK_SIZE as u32 / 4).flat_map(|n| (n / 3 * 7).to_le_bytes()).collect();
        let random: Vec<u8> = (0..BLOCK_SIZE).map(|_| random() as u8).collect();
        vec![text.clone(), numbers, vec![0; BLOCK_SIZE], random, text[..8192].to_vec(), b"a".to_vec()]
    }

    fn codecs() -> impl Iterator<Item = Codec> {
        let leveled = (1..=22).map(|level| (Compression::Zstd, Some(level)));
        let others = [Compression::Gzip, Compression::Xz, Compression::Lz4, Compression::None];
        let others = others.map(|compression| (compression, None));
        leveled
            .chain((1..=9).map(|level| (Compression::Gzip, Some(level))))
            .chain(others)
            .map(|(c, l)| Codec::new(c, l))
    }

    #[test]
    fn a_block_comes_out_the_same_whatever_was_compressed_before_it() {
        let mut output = Vec::new();
        for codec in codecs() {
            let mut used = Compressor::new(codec).unwrap();
            for round in 0..2 {
                for (n, block) in blocks().iter().enumerate() {
                    let smaller = used.compress(block, &mut output).unwrap();
                    let mut fresh = Vec::new();
                    assert_eq!(Compressor::new(codec).unwrap().compress(block, &mut fresh).unwrap(), smaller);
                    assert!(!smaller || fresh == output, "{codec:?} {round} {n}");
                }
            }
        }
    }

    #[test]
    fn noise_is_stored_as_it_is_and_text_is_not() {
        for codec in codecs() {
            let mut compressor = Compressor::new(codec).unwrap();
            let smaller: Vec<bool> =
                blocks().iter().map(|block| compressor.compress(block, &mut Vec::new()).unwrap()).collect();
            let works = codec.compression() != Compression::None;
            let lz4 = codec.compression() == Compression::Lz4;
            assert_eq!(smaller[..4], [works && !lz4 || smaller[0], works, works, false], "{codec:?}");
            assert!(!smaller[5]);
        }
    }
}
