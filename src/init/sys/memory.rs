//! Maps memory, and lends static buffers.

use core::cell::UnsafeCell;
use core::mem::size_of;

use super::call::{EINVAL, Result, checked, fd};
use super::number;

const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;

/// Maps `length` bytes of a file for reading, until this process ends or executes a program.
pub fn map_file(descriptor: i32, length: usize) -> Result<&'static [u8]> {
    let address = checked(number::MMAP, [0, length, PROT_READ, MAP_PRIVATE, fd(descriptor), 0])?;
    // SAFETY: the kernel has just mapped that many bytes there, no code unmaps them, and the file is sealed.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
}

/// Maps an array of `length` words of zeros, until this process ends or executes a program.
pub fn map_words(length: usize) -> Result<&'static mut [usize]> {
    let bytes = length.checked_mul(size_of::<usize>()).ok_or(EINVAL)?;
    let address = checked(number::MMAP, [0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, fd(-1), 0])?;
    // SAFETY: the kernel has just mapped that many bytes of zeros there for this call alone.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut usize, length) })
}

/// The address of the arguments and the environment of this program, see execve(2).
#[repr(transparent)]
pub struct Stack(*const usize);

impl Stack {
    /// Returns the addresses of the arguments and those of the environment, each list with the 0 that ends it.
    pub fn lists(self) -> [&'static [usize]; 2] {
        // SAFETY: the kernel begins a program with the number of arguments there, their addresses, 0, the addresses of the
        // environment, and 0; no code changes them.
        unsafe {
            let count = *self.0;
            let arguments = self.0.add(1);
            let environment = arguments.add(count + 1);
            let mut variables = 0;
            while *environment.add(variables) != 0 {
                variables += 1;
            }
            [core::slice::from_raw_parts(arguments, count + 1), core::slice::from_raw_parts(environment, variables + 1)]
        }
    }
}

/// Returns the text at an address of one of these lists, with its NUL.
pub fn text_at(list: &'static [usize], index: usize) -> Option<&'static [u8]> {
    let address = *list.get(index).filter(|address| **address != 0)?;
    let text = address as *const u8;
    let mut length = 0;
    // SAFETY: the kernel has put a text there that ends with a NUL, and no code changes it.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        Some(core::slice::from_raw_parts(text, length + 1))
    }
}

/// Returns the size of a file in memory.
pub fn size(descriptor: i32) -> Result<usize> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const STATX_SIZE: usize = 0x200;
    let mut stat = [0u64; 32];
    let empty = [0u8];
    let arguments = [fd(descriptor), empty.as_ptr() as usize, AT_EMPTY_PATH, STATX_SIZE, (&raw mut stat) as usize];
    checked(number::STATX, arguments)?;
    Ok(stat[5] as usize)
}

/// A buffer for one borrower at a time.
pub struct Buffer<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: this program has one thread.
unsafe impl<const N: usize> Sync for Buffer<N> {}

impl<const N: usize> Buffer<N> {
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    /// Lends the buffer to `user` for the remaining life of this process.
    pub fn with<T>(&'static self, user: impl FnOnce(&'static mut [u8; N]) -> T) -> T {
        // SAFETY: one thread, and the one caller of this program calls it once in a process.
        user(unsafe { &mut *self.0.get() })
    }

    /// Lends the buffer to `user` as long as that runs.
    pub fn lend<T>(&self, user: impl FnOnce(&mut [u8; N]) -> T) -> T {
        // SAFETY: one thread; no user of this program calls this or `with` again while it has the buffer.
        user(unsafe { &mut *self.0.get() })
    }
}
