//! Seccomp: checks whether the kernel takes filters of system calls, which every container has unless it requests none.

use std::io;

use super::Check;
use crate::sys::seccomp_filters;

pub(super) fn check() -> Check {
    of(seccomp_filters())
}

pub(super) fn of(found: io::Result<()>) -> Check {
    let name = "seccomp";
    match found.map_err(|error| (error.raw_os_error(), error)) {
        Ok(()) => Check::ok(name, "filters of system calls"),
        Err((Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP), error)) => {
            let fix = "boot a kernel with CONFIG_SECCOMP_FILTER, as every Debian has; or write `seccomp: unconfined` in each \
                        container, which lets steps make every system call";
            Check::missing(name, format!("this kernel takes no filters: {error}"), fix)
        }
        Err((_, error)) => {
            let fix = "let runner call seccomp(2): in Docker, `docker run --privileged`";
            Check::missing(
                name,
                format!("the filter of the process that started runner does not allow the check: {error}"),
                fix,
            )
        }
    }
}
