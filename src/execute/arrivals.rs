//! Which of a step's streams was written to first: what is read of both at once is shown in that order.
//!
//! Two pipes have no order of their own. The kernel's list of what became ready does, see epoll(7): with an edge-triggered
//! descriptor for each, the one that was written to first since the last look comes first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// Streams by their index.
#[derive(Debug)]
pub(super) struct Arrivals {
    epoll: OwnedFd,
}

impl Arrivals {
    /// Of these streams.
    ///
    /// # Errors
    /// What epoll_create1(2) and epoll_ctl(2) say.
    pub fn new<'a>(streams: impl Iterator<Item = &'a OwnedFd>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, stream) in streams.enumerate() {
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(&epoll, stream.as_fd(), EventData::new_u64(index as u64), flags)?;
        }
        Ok(Self { epoll })
    }

    /// The streams that were written to since the last call, the first one first.
    ///
    /// # Errors
    /// What epoll_wait(2) says.
    pub fn since_last(&self) -> io::Result<Vec<usize>> {
        let mut events = Vec::with_capacity(2);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&at_once)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    #[test]
    fn the_stream_that_was_written_to_first_comes_first_each_time() {
        let pipes = [pipe().unwrap(), pipe().unwrap()];
        let arrivals = Arrivals::new(pipes.iter().map(|(reader, _)| reader)).unwrap();
        let mut buffer = [0; 16];
        for order in [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1], [1, 0]] {
            for index in order {
                rustix::io::write(&pipes[index].1, b"line\n").unwrap();
                rustix::io::write(&pipes[index].1, b"again\n").unwrap();
            }
            assert_eq!(arrivals.since_last().unwrap(), order);
            assert_eq!(arrivals.since_last().unwrap(), [0_usize; 0]);
            for index in order {
                rustix::io::read(&pipes[index].0, &mut buffer).unwrap();
            }
        }
    }
}
