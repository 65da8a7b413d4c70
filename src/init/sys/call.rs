//! Makes one system call; defines the entry point of the program and the error numbers.

use core::arch::{asm, global_asm};

/// An error number, see errno(3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// Success, or the error number of the kernel.
pub type Result<T> = core::result::Result<T, Errno>;

pub const ENOENT: Errno = Errno(2);
pub const EINTR: Errno = Errno(4);
pub const ECHILD: Errno = Errno(10);
pub const EAGAIN: Errno = Errno(11);
pub const EACCES: Errno = Errno(13);
pub const ENOMEM: Errno = Errno(12);
pub const EEXIST: Errno = Errno(17);
pub const ENOTDIR: Errno = Errno(20);
pub const EINVAL: Errno = Errno(22);
pub const ENOSYS: Errno = Errno(38);
pub const EBADMSG: Errno = Errno(74);
pub const ENOBUFS: Errno = Errno(105);
pub const ETOOMANYREFS: Errno = Errno(109);

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym crate::start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {main}", "brk #1", main = sym crate::start);

#[cfg(target_arch = "x86_64")]
fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the callers pass valid arguments of the system call with that number; the kernel clobbers rcx and r11 alone.
    unsafe {
        asm!("syscall", inlateout("rax") number.cast_signed() => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the callers pass valid arguments of the system call with that number.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0].cast_signed() => result, in("x1") a[1], in("x2") a[2],
             in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

pub fn checked<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(arguments) {
        *to = from;
    }
    let result = call(number, all);
    if (-4095..0).contains(&result) { Err(Errno(-(result as i32))) } else { Ok(result as usize) }
}

pub fn again<const N: usize>(number: usize, arguments: [usize; N]) -> Result<usize> {
    loop {
        match checked(number, arguments) {
            Err(EINTR) => {}
            result => return result,
        }
    }
}

/// Returns the address of a path or another text for the kernel, which must end with its NUL.
pub fn text(bytes: &[u8]) -> Result<usize> {
    if bytes.last() == Some(&0) { Ok(bytes.as_ptr() as usize) } else { Err(EINVAL) }
}

pub const fn fd(descriptor: i32) -> usize {
    descriptor as isize as usize
}

/// Executes an instruction that no processor has, which ends the process with SIGILL.
pub fn fault() -> ! {
    // SAFETY: it does not return.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("ud2", options(noreturn, nostack));
        #[cfg(target_arch = "aarch64")]
        asm!("udf #0", options(noreturn, nostack));
    }
}
