//! Functions that the compiler calls by name, and that libc provides in other programs.

/// The compiled core library refers to this function for unwinding, which this program never does.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// See memcpy(3).
///
/// # Safety
/// The same conditions as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: the caller guarantees it.
        unsafe { *to.add(index) = *from.add(index) };
    }
    to
}

/// See memmove(3).
///
/// # Safety
/// The same conditions as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize) <= from as usize {
        // SAFETY: the caller guarantees it.
        return unsafe { memcpy(to, from, length) };
    }
    for index in (0..length).rev() {
        // SAFETY: the caller guarantees it.
        unsafe { *to.add(index) = *from.add(index) };
    }
    to
}

/// See memset(3).
///
/// # Safety
/// The same conditions as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for index in 0..length {
        // SAFETY: the caller guarantees it.
        unsafe { *to.add(index) = value as u8 };
    }
    to
}

/// See memcmp(3).
///
/// # Safety
/// The same conditions as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for index in 0..length {
        // SAFETY: the caller guarantees it.
        let (a, b) = unsafe { (*one.add(index), *other.add(index)) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// See bcmp(3).
///
/// # Safety
/// The same conditions as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: the caller guarantees it.
    unsafe { memcmp(one, other, length) }
}
