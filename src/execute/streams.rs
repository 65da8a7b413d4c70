//! Reads the two streams of a step in the order in which it wrote to them, as far as the kernel shows it.
//!
//! Two pipes have no order of their own. The kernel's list of ready descriptors has one, see epoll(7): with an
//! edge-triggered descriptor for each, the one that was written to first since the last look comes first. All available
//! bytes are read before any are passed on: while a line is masked, logged and shown, a step that prints fast fills
//! both pipes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::event::Stream;

/// A function that takes the output of a process.
pub type Sink<'a> = dyn FnMut(Stream, &[u8]) -> io::Result<()> + 'a;

/// The number of bytes that are read before they are passed on.
const MAX_BATCH: usize = 256 << 10;

/// The number of bytes that are read of one stream before the other one is read.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// The reading ends of a step's standard output and error.
#[derive(Debug)]
pub(super) struct Streams {
    ends: [(Stream, Option<OwnedFd>); 2],
    epoll: OwnedFd,
}

impl Streams {
    /// Takes these ends, which must not block.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and epoll_ctl(2).
    pub fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, end) in [&stdout, &stderr].into_iter().enumerate() {
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&epoll, end.as_fd(), EventData::new_u64(index as u64), flags)?;
        }
        Ok(Self { ends: [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))], epoll })
    }

    /// Returns the streams that have not ended, to wait for.
    pub fn open(&self) -> impl Iterator<Item = &OwnedFd> {
        self.ends.iter().filter_map(|(_, end)| end.as_ref())
    }

    /// Reads the available bytes and passes them on; false where there are none.
    ///
    /// # Errors
    /// Those of reading and of `output`, but `BrokenPipe`: then nobody reads that stream any more, and it is closed.
    pub fn read(&mut self, output: &mut Sink<'_>) -> io::Result<bool> {
        let mut bytes = Vec::new();
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        // Both are read first: a stream with unread bytes has no new event.
        let mut order = self.arrived()?;
        order.extend((0..self.ends.len()).filter(|index| !order.contains(index)).collect::<Vec<_>>());
        while !order.is_empty() && bytes.len() < MAX_BATCH {
            for index in order {
                match self.read_one(index, &mut bytes)? {
                    0 => {}
                    count => pieces.push((index, count)),
                }
            }
            order = self.arrived()?;
        }
        let mut unsent = bytes.as_slice();
        for (index, count) in &pieces {
            let (piece, after) = unsent.split_at(*count);
            unsent = after;
            let (stream, end) = &mut self.ends[*index];
            match output(*stream, piece) {
                // Then the step's own pipe is broken as well, as it would be without runner.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *end = None,
                result => result?,
            }
        }
        Ok(!pieces.is_empty())
    }

    /// Returns the streams that were written to since the last call, the first one first.
    fn arrived(&self) -> io::Result<Vec<usize>> {
        let mut events = Vec::with_capacity(self.ends.len());
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()).collect())
    }

    /// Appends the available bytes of one stream, and returns their number. Closes a stream that has ended.
    fn read_one(&mut self, index: usize, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let (_, end) = &mut self.ends[index];
        let Some(reader) = end else { return Ok(0) };
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        match rustix::io::read(reader.as_fd(), &mut buffer) {
            Ok(([], _)) => *end = None,
            Ok((read, _)) => {
                bytes.extend_from_slice(read);
                return Ok(read.len());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::write;
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::super::attempt::{PIPE_BYTES, READS_OF_FULL_PIPES};
    use super::*;

    fn streams() -> (Streams, [Option<OwnedFd>; 2]) {
        let [(stdout, first), (stderr, second)] = [(); 2].map(|()| pipe_with(PipeFlags::NONBLOCK).unwrap());
        (Streams::new(stdout, stderr).unwrap(), [Some(first), Some(second)])
    }

    fn read(streams: &mut Streams) -> (bool, Vec<(Stream, String)>) {
        let mut all = Vec::new();
        let any = streams.read(&mut |stream, bytes| {
            all.push((stream, String::from_utf8(bytes.to_vec()).unwrap()));
            Ok(())
        });
        (any.unwrap(), all)
    }

    #[test]
    fn the_stream_that_was_written_to_first_is_passed_on_first() {
        let (mut streams, ends) = streams();
        for order in [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]] {
            for index in order {
                let end = ends[index].as_ref().unwrap();
                write(end, format!("{index}\n").as_bytes()).unwrap();
                write(end, b"again\n").unwrap();
            }
            let kinds = [Stream::Stdout, Stream::Stderr];
            let expected = order.map(|index| (kinds[index], format!("{index}\nagain\n"))).to_vec();
            assert_eq!(read(&mut streams), (true, expected));
            assert_eq!(read(&mut streams), (false, Vec::new()));
        }
    }

    #[test]
    fn an_ended_stream_is_read_completely_even_if_larger_than_a_buffer() {
        let (mut streams, mut ends) = streams();
        let end = ends[0].take().unwrap();
        rustix::pipe::fcntl_setpipe_size(&end, 1 << 20).unwrap();
        let long = vec![b'x'; 700_000];
        assert_eq!(write(&end, &long).unwrap(), long.len());
        drop((end, ends));
        let mut count = 0;
        while let (true, pieces) = read(&mut streams) {
            count += pieces.iter().map(|(_, text)| text.len()).sum::<usize>();
        }
        assert_eq!((count, streams.open().count()), (long.len(), 0));
    }

    #[test]
    fn a_stream_without_a_reader_is_closed_and_the_other_remains() {
        let (mut streams, ends) = streams();
        for end in ends.iter().flatten() {
            write(end, b"text").unwrap();
        }
        let mut bytes_read = 0;
        let read = streams.read(&mut |stream, bytes| match stream {
            Stream::Stdout => Err(io::ErrorKind::BrokenPipe.into()),
            Stream::Stderr => {
                bytes_read += bytes.len();
                Ok(())
            }
        });
        assert!(read.unwrap());
        assert_eq!((bytes_read, streams.open().count()), (4, 1));
    }

    #[test]
    fn full_pipes_are_empty_after_the_maximal_number_of_reads() {
        let (mut streams, mut writers) = streams();
        let all = vec![b'x'; PIPE_BYTES];
        for writer in &mut writers {
            let writer = writer.take().unwrap();
            rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap();
            assert_eq!(write(&writer, &all).unwrap(), PIPE_BYTES);
        }
        let mut bytes_read = 0;
        for _ in 0..READS_OF_FULL_PIPES {
            let mut count = |_, bytes: &[u8]| {
                bytes_read += bytes.len();
                Ok(())
            };
            streams.read(&mut count).unwrap();
        }
        assert_eq!(bytes_read, 2 * PIPE_BYTES);
    }
}
