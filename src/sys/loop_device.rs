//! The ioctls of loop devices, see loop(4).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Returns the number of a loop device that was free at the time of asking, see loop(4).
///
/// # Errors
/// Those of the ioctl.
pub fn free_loop_device(control: &File) -> io::Result<u32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Returns the device and the inode of the file that a loop device is backed by.
///
/// # Errors
/// `ENXIO` where it is backed by none; else those of the ioctl.
pub fn loop_backing(device: &File) -> io::Result<(u64, u64)> {
    // SAFETY: loop_info64 is plain data; all zero is a valid value of it.
    let mut info: LoopInfo = unsafe { std::mem::zeroed() };
    // SAFETY: the struct has the kernel's layout and outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    if result == 0 { Ok((info.device, info.inode)) } else { Err(io::Error::last_os_error()) }
}

/// Backs a loop device by a file, read-only, freed by the kernel with its last user; needs Linux 5.8.
///
/// # Errors
/// `EBUSY` when another process took the device first; else those of the ioctl.
pub fn configure_loop_device(device: &File, backing: &File, block_size: u32) -> io::Result<()> {
    // SAFETY: loop_config is plain data; all zero is a valid value of it.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = backing.as_raw_fd() as u32;
    config.block_size = block_size;
    config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    // SAFETY: the struct has the kernel's layout and outlives the call.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;

/// Detaches the file of a loop device; if the device is in use, at its last close.
///
/// # Errors
/// `ENXIO` where no file is attached.
pub fn detach_loop_device(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD ignores its argument.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_structs_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
