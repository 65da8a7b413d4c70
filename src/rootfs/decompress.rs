//! Reads an archive's bytes; a thread of its own decompresses a compressed one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The bytes that the decompressing thread sends at a time: enough that sending costs nothing, and few enough that
/// both threads stay in the processor's cache.
const CHUNK: usize = 256 * 1024;

/// The number of chunks that the decompressing thread may be ahead.
const AHEAD: usize = 8;

/// The compression of a file, recognised by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

impl Compression {
    const ALL: [Self; 4] = [Self::Gzip, Self::Xz, Self::Zstd, Self::Bzip2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }

    fn is_magic_of(self, bytes: &[u8]) -> bool {
        match self {
            // RFC 1952: the identification and the only compression method.
            Self::Gzip => bytes.starts_with(&[0x1f, 0x8b, 0x08]),
            Self::Xz => bytes.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0x00]),
            // RFC 8878: a frame, or a skippable frame before it, as pzstd writes.
            Self::Zstd => match bytes {
                [0x28, 0xb5, 0x2f, 0xfd, ..] => true,
                [first, 0x2a, 0x4d, 0x18, ..] => first & 0xf0 == 0x50,
                _ => false,
            },
            // The block magic, or the end-of-stream magic of an empty stream, follows the level.
            Self::Bzip2 => match bytes {
                [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] => {
                    rest.starts_with(b"1AY&SY") || rest.starts_with(&[0x17, 0x72, 0x45, 0x38, 0x50, 0x90])
                }
                _ => false,
            },
        }
    }

    /// Returns the compression whose magic the bytes start with.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.is_magic_of(bytes))
    }
}

/// An archive's bytes, decompressed.
pub(super) enum Source {
    /// An uncompressed file, read directly.
    Plain(BufReader<File>),
    /// A compressed file, read from the thread that decompresses it.
    Thread(Decompressed),
}

impl Source {
    /// Returns a source for a file that is open for reading, its compression, and its first bytes, up to 512 of them,
    /// by which the caller can recognise an uncompressed archive.
    pub(super) fn new(file: File) -> io::Result<(Self, Option<Compression>, Vec<u8>)> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mut file = BufReader::with_capacity(CHUNK, file);
        let start = file.fill_buf()?;
        let start = start[..start.len().min(512)].to_vec();
        match Compression::of(&start) {
            None => Ok((Self::Plain(file), None, start)),
            Some(compression) => {
                let decompressed = Decompressed::start(move |sink| match compression {
                    Compression::Gzip => {
                        each_stream(file, compression, flate2::bufread::GzDecoder::new, |d| d.into_inner(), sink)
                    }
                    Compression::Bzip2 => {
                        each_stream(file, compression, bzip2::bufread::BzDecoder::new, |d| d.into_inner(), sink)
                    }
                    Compression::Xz => send_all(&mut liblzma::bufread::XzDecoder::new_multi_decoder(file), sink),
                    Compression::Zstd => send_all(&mut zstd::stream::read::Decoder::with_buffer(file)?, sink),
                })?;
                Ok((Self::Thread(decompressed), Some(compression), start))
            }
        }
    }

    /// Reads the remaining bytes, so that a compressed archive's checksums are verified. Bytes after the end of an
    /// uncompressed archive have none.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Thread(decompressed) => io::copy(decompressed, &mut io::sink()).map(|_| ()),
        }
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, into)
    }
}

/// Reads from a buffer, as read(2) does from a file.
pub(super) fn read_buffered(from: &mut impl BufRead, into: &mut [u8]) -> io::Result<usize> {
    let bytes = from.fill_buf()?;
    let count = bytes.len().min(into.len());
    into[..count].copy_from_slice(&bytes[..count]);
    from.consume(count);
    Ok(count)
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(file) => file.fill_buf(),
            Self::Thread(decompressed) => decompressed.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Plain(file) => file.consume(count),
            Self::Thread(decompressed) => decompressed.consume(count),
        }
    }
}

/// A message of the decompressing thread.
enum Message {
    Chunk(Vec<u8>),
    End(io::Result<()>),
}

/// The sending end of the decompressing thread.
struct Sink {
    full: SyncSender<Message>,
    /// The chunks that were read and can be filled again.
    empty: Receiver<Vec<u8>>,
}

/// The reading end of a decompressing thread. Dropping it ends the thread.
pub(super) struct Decompressed {
    /// `None` only while it is dropped.
    full: Option<Receiver<Message>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    read: usize,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl Decompressed {
    fn start(work: impl FnOnce(&Sink) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (full_sender, full) = sync_channel(AHEAD);
        let (empty, empty_receiver) = sync_channel(AHEAD + 2);
        let sink = Sink { full: full_sender, empty: empty_receiver };
        let thread = std::thread::Builder::new().name("decompress".to_owned()).spawn(move || {
            let result = work(&sink);
            // If sending fails, the reader was dropped and needs no result.
            let _ = sink.full.send(Message::End(result));
        })?;
        Ok(Self { full: Some(full), empty, chunk: Vec::new(), read: 0, ended: false, thread: Some(thread) })
    }
}

impl Read for Decompressed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        into[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Decompressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.read == self.chunk.len() && !self.ended {
            let message = self.full.as_ref().and_then(|full| full.recv().ok());
            match message {
                Some(Message::Chunk(chunk)) => {
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.read = 0;
                    // If the queue is full or closed, the chunk is freed instead.
                    let _ = self.empty.try_send(used);
                }
                Some(Message::End(result)) => {
                    self.ended = true;
                    result?;
                }
                // The thread ended without a last message: it panicked. That is not an end of file.
                None => {
                    self.ended = true;
                    return Err(io::Error::other("the decompressor broke off"));
                }
            }
        }
        Ok(&self.chunk[self.read..])
    }

    fn consume(&mut self, count: usize) {
        self.read = (self.read + count).min(self.chunk.len());
    }
}

impl Drop for Decompressed {
    fn drop(&mut self) {
        // The thread's next send fails, and it ends.
        self.full = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends all bytes of a decoder.
fn send_all(decoder: &mut impl Read, sink: &Sink) -> io::Result<()> {
    loop {
        let mut chunk = sink.empty.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        let mut result = Ok(());
        while filled < CHUNK {
            match decoder.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let ended = filled < CHUNK;
        chunk.truncate(filled);
        // The bytes before an error are sent as well, so that the error names its entry.
        if filled > 0 && sink.full.send(Message::Chunk(chunk)).is_err() {
            return Ok(());
        }
        if ended {
            return result;
        }
    }
}

/// Decodes one stream after the other. Bytes after the last stream are ignored, as by gzip(1) and bzip2(1), while the
/// decoders' own modes for several streams report them as a broken stream.
fn each_stream<D: Read>(
    mut file: BufReader<File>,
    compression: Compression,
    open: impl Fn(BufReader<File>) -> D,
    close: impl Fn(D) -> BufReader<File>,
    sink: &Sink,
) -> io::Result<()> {
    loop {
        let mut decoder = open(file);
        send_all(&mut decoder, sink)?;
        file = close(decoder);
        // The buffer may end in the middle of the next stream's magic.
        let mut start = file.buffer().to_vec();
        if start.len() < 16 {
            file.consume(start.len());
            let mut more = [0; 16];
            let mut filled = 0;
            while filled < more.len() {
                match file.read(&mut more[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            start.extend_from_slice(&more[..filled]);
            file.seek_relative(-i64::try_from(start.len()).map_err(io::Error::other)?)?;
        }
        if !compression.is_magic_of(&start) {
            return Ok(());
        }
    }
}
