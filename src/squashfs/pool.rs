//! Compresses blocks on several threads, and gives them back in the order in which they came.
//!
//! The caller's thread works too, where it would have to wait. Threads are started when there is something to do for
//! them; where the host refuses one, the others do its work.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, Scope};

use super::codec::Codec;
use super::compressor::Compressor;

use crate::poison::{self, lock};

/// As many blocks wait or are done for each thread; with them all threads have something to do, whatever comes next.
const BLOCKS_PER_THREAD: usize = 6;

/// All that are there take no more than half of 64 MB.
const MAX_BLOCKS: usize = 96;

/// More threads would take more memory than that for their compressors.
const MAX_THREADS: usize = 16;

/// With fewer blocks that wait no thread is started.
const BLOCKS_FOR_A_THREAD: usize = 4;

/// A block that has been compressed.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    input: Vec<u8>,
    output: Vec<u8>,
    is_smaller: bool,
}

impl Compressed {
    /// Returns what is to be stored.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.is_smaller { &self.output } else { &self.input }
    }

    /// Returns whether that is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.is_smaller
    }
}

struct Job {
    number: u64,
    block: Compressed,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    done: HashMap<u64, io::Result<Compressed>>,
    is_dismissed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    has_work: Condvar,
    has_result: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Does one job after another until there is no more to come.
    fn work(&self, codec: Codec) {
        let mut compressor = None;
        loop {
            let mut state = self.state();
            let job = loop {
                if state.is_dismissed {
                    return;
                }
                match state.waiting.pop_front() {
                    Some(job) => break job,
                    None => state = poison::wait(&self.has_work, state),
                }
            };
            drop(state);
            let mut started = Started { shared: self, number: job.number, result: None };
            started.result = Some(compressed(&mut compressor, codec, job.block));
        }
    }
}

/// A job that is being done: the caller gets its result, also where the thread panics.
struct Started<'a> {
    shared: &'a Shared,
    number: u64,
    result: Option<io::Result<Compressed>>,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(io::Error::other("a thread has ended")));
        self.shared.state().done.insert(self.number, result);
        self.shared.has_result.notify_one();
    }
}

fn compressed(compressor: &mut Option<Compressor>, codec: Codec, mut block: Compressed) -> io::Result<Compressed> {
    let compressor = match compressor {
        Some(compressor) => compressor,
        None => compressor.insert(Compressor::new(codec)?),
    };
    block.is_smaller = compressor.compress(&block.input, &mut block.output)?;
    Ok(block)
}

/// The threads, and the blocks that they have or have done.
pub(super) struct Pool<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    shared: Arc<Shared>,
    codec: Codec,
    own: Option<Compressor>,
    /// That may still be started.
    threads: usize,
    most: usize,
    /// Numbers of the next block that comes, and of the next one that is given back.
    next: u64,
    first: u64,
    spare: Vec<Compressed>,
}

impl<'s, 'e> Pool<'s, 'e> {
    /// Makes a pool of so many threads, the caller's among them.
    pub(super) fn new(scope: &'s Scope<'s, 'e>, codec: Codec, threads: usize) -> Self {
        let threads = threads.clamp(1, MAX_THREADS);
        Self {
            scope,
            shared: Arc::default(),
            codec,
            own: None,
            threads: threads - 1,
            most: (threads * BLOCKS_PER_THREAD).min(MAX_BLOCKS),
            next: 0,
            first: 0,
            spare: Vec::new(),
        }
    }

    /// Returns a buffer for a block; it may have the bytes of an earlier one.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.last_mut().map(|spare| std::mem::take(&mut spare.input)).unwrap_or_default()
    }

    /// Returns whether a block is to be taken out before the next one is put in.
    pub(super) fn is_full(&self) -> bool {
        (self.next - self.first) as usize >= self.most
    }

    /// Takes a block.
    pub(super) fn put(&mut self, input: Vec<u8>) {
        let mut block = self.spare.pop().unwrap_or_default();
        block.input = input;
        let mut state = self.shared.state();
        state.waiting.push_back(Job { number: self.next, block });
        let waiting = state.waiting.len();
        drop(state);
        self.next += 1;
        self.shared.has_work.notify_one();
        if waiting >= BLOCKS_FOR_A_THREAD && self.threads > 0 {
            let (shared, codec) = (Arc::clone(&self.shared), self.codec);
            let started = Builder::new().name("squashfs".into()).spawn_scoped(self.scope, move || shared.work(codec));
            self.threads = if started.is_ok() { self.threads - 1 } else { 0 };
        }
    }

    /// Gives back the oldest block. There must be one.
    ///
    /// # Errors
    /// Those of the compressor.
    pub(super) fn take(&mut self) -> io::Result<Compressed> {
        let number = self.first;
        self.first += 1;
        let mut state = self.shared.state();
        loop {
            if let Some(result) = state.done.remove(&number) {
                return result;
            }
            match state.waiting.pop_front() {
                Some(job) => {
                    drop(state);
                    let result = compressed(&mut self.own, self.codec, job.block);
                    state = self.shared.state();
                    state.done.insert(job.number, result);
                }
                None => state = poison::wait(&self.shared.has_result, state),
            }
        }
    }

    /// Takes a buffer back, to use it again.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        match self.spare.last_mut() {
            Some(spare) if spare.input.capacity() == 0 => spare.input = buffer,
            _ => self.spare.push(Compressed { input: buffer, ..Compressed::default() }),
        }
    }

    /// Takes the buffers of a block back, to use them again.
    pub(super) fn recycle(&mut self, block: Compressed) {
        self.spare.push(block);
    }

    /// Returns the compressor of the caller's thread.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub(super) fn into_compressor(mut self) -> io::Result<Compressor> {
        self.own.take().map_or_else(|| Compressor::new(self.codec), Ok)
    }
}

impl Drop for Pool<'_, '_> {
    fn drop(&mut self) {
        self.shared.state().is_dismissed = true;
        self.shared.has_work.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::model::Compression;
    use crate::squashfs::BLOCK_SIZE;

    fn codec() -> Codec {
        Codec::new(Compression::Zstd, None)
    }

    fn block(number: usize) -> Vec<u8> {
        (0..BLOCK_SIZE).map(|n| (n / 7 * number) as u8).collect()
    }

    #[test]
    fn blocks_come_back_in_order_and_the_same_on_any_number_of_threads() {
        let with = |threads| {
            thread::scope(|scope| {
                let mut pool = Pool::new(scope, codec(), threads);
                let (mut taken, mut there) = (Vec::new(), 0);
                for number in 0..60 {
                    let mut buffer = pool.buffer();
                    buffer.clear();
                    buffer.extend(block(number));
                    pool.put(buffer);
                    there += 1;
                    while pool.is_full() || number == 59 && there > 0 {
                        let block = pool.take().unwrap();
                        taken.push((block.bytes().to_vec(), block.is_compressed()));
                        pool.recycle(block);
                        there -= 1;
                    }
                }
                assert_eq!(taken.len(), 60);
                taken
            })
        };
        let one = with(1);
        assert!(one.iter().any(|(_, is_compressed)| *is_compressed));
        for (number, (bytes, is_compressed)) in one.iter().enumerate() {
            let found = if *is_compressed { zstd::bulk::decompress(bytes, BLOCK_SIZE).unwrap() } else { bytes.clone() };
            assert!(found == block(number), "{number}");
        }
        assert!(with(2) == one && with(8) == one);
    }

    #[test]
    fn few_blocks_start_no_thread_and_what_is_left_is_not_waited_for() {
        thread::scope(|scope| {
            let mut pool = Pool::new(scope, codec(), 8);
            for number in 0..BLOCKS_FOR_A_THREAD - 1 {
                pool.put(block(number));
            }
            assert_eq!(pool.threads, 7);
            assert!(pool.take().is_ok());
            for number in 0..20 {
                pool.put(block(number));
            }
            assert!(pool.threads < 7);
        });
    }

    #[test]
    fn a_thread_that_ends_before_its_job_is_an_error_of_that_job() {
        thread::scope(|scope| {
            let mut pool = Pool::new(scope, codec(), 1);
            pool.next = 1;
            drop(Started { shared: &pool.shared, number: 0, result: None });
            assert_eq!(pool.take().unwrap_err().to_string(), "a thread has ended");
        });
    }
}
