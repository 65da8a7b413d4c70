//! The two streams of a step, read in the order in which it wrote to them, as far as anybody can tell.
//!
//! Two pipes have no order of their own. The kernel's list of what became ready does, see epoll(7): with an edge-triggered
//! descriptor for each, the one that was written to first since the last look comes first. What is there is read until
//! nothing more is, and only then handed on: while a line is masked, logged and shown, a fast printer fills both pipes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::event::Stream;

/// Takes what a process prints.
pub type Sink<'a> = dyn FnMut(Stream, &[u8]) -> io::Result<()> + 'a;

/// As much is read at once before it is handed on.
const MAX_BATCH: usize = 256 << 10;

/// As much is read of one stream before the other one has its turn.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// Our ends of the pipes of a step's standard output and error.
#[derive(Debug)]
pub(super) struct Streams {
    ends: [(Stream, Option<OwnedFd>); 2],
    epoll: OwnedFd,
}

impl Streams {
    /// Of these ends, which must not block.
    ///
    /// # Errors
    /// What epoll_create1(2) and epoll_ctl(2) say.
    pub fn new(stdout: OwnedFd, stderr: OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, end) in [&stdout, &stderr].into_iter().enumerate() {
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&epoll, end.as_fd(), EventData::new_u64(index as u64), flags)?;
        }
        Ok(Self { ends: [(Stream::Stdout, Some(stdout)), (Stream::Stderr, Some(stderr))], epoll })
    }

    /// Those that are not at their end, to wait for.
    pub fn open(&self) -> impl Iterator<Item = &OwnedFd> {
        self.ends.iter().filter_map(|(_, end)| end.as_ref())
    }

    /// Reads what is there and hands it on; false where there is nothing.
    ///
    /// # Errors
    /// Those of reading and of `output`, but `BrokenPipe`: then nobody reads that stream any more, and it is closed.
    pub fn read(&mut self, output: &mut Sink<'_>) -> io::Result<bool> {
        let mut bytes = Vec::new();
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        // At first both: a stream of which something was left has no new event.
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
        let mut rest = bytes.as_slice();
        for (index, count) in &pieces {
            let (piece, after) = rest.split_at(*count);
            rest = after;
            let (stream, end) = &mut self.ends[*index];
            match output(*stream, piece) {
                // The step finds its own pipe broken, as it would without runner between.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *end = None,
                handed => handed?,
            }
        }
        Ok(!pieces.is_empty())
    }

    /// The streams that were written to since the last call, the first one first.
    fn arrived(&self) -> io::Result<Vec<usize>> {
        let mut events = Vec::with_capacity(self.ends.len());
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()).collect())
    }

    /// Appends what is there of one stream; how much that is. One that will have nothing more is closed.
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
    fn the_stream_that_was_written_to_first_is_handed_on_first_each_time() {
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
    fn all_of_a_stream_is_read_also_when_it_is_at_its_end_and_more_than_fits_at_once() {
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
    fn a_stream_that_nobody_reads_any_more_is_closed_and_the_other_stays() {
        let (mut streams, ends) = streams();
        for end in ends.iter().flatten() {
            write(end, b"text").unwrap();
        }
        let mut taken = 0;
        let read = streams.read(&mut |stream, bytes| match stream {
            Stream::Stdout => Err(io::ErrorKind::BrokenPipe.into()),
            Stream::Stderr => {
                taken += bytes.len();
                Ok(())
            }
        });
        assert!(read.unwrap());
        assert_eq!((taken, streams.open().count()), (4, 1));
    }

    #[test]
    fn full_pipes_are_empty_after_as_many_reads_as_are_made_of_them() {
        let (mut streams, mut writers) = streams();
        let all = vec![b'x'; PIPE_BYTES];
        for writer in &mut writers {
            let writer = writer.take().unwrap();
            rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES).unwrap();
            assert_eq!(write(&writer, &all).unwrap(), PIPE_BYTES);
        }
        let mut taken = 0;
        for _ in 0..READS_OF_FULL_PIPES {
            let mut count = |_, bytes: &[u8]| {
                taken += bytes.len();
                Ok(())
            };
            streams.read(&mut count).unwrap();
        }
        assert_eq!(taken, 2 * PIPE_BYTES);
    }
}
