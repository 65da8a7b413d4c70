//! Init of a session: starts a step at each request, reports its end, and ends with runner.
//!
//! Started with an argument, this program is the first process of a step of an external runtime instead, see `reaper`.
//!
//! Init is the first process of a session's container. It is a program of its own, without libc and without a heap: so it
//! starts in no time, has no memory of runner's, and a clone of it costs next to nothing. It begins with three
//! descriptors: the socket of requests, a detached proc(5), and the description of every step's own mounts.
//!
//! To make a step's namespaces and mounts is slow, and to unmount them is slower. None of that happens while anyone waits:
//! init forks a *preforked process*, which makes them and receives the next request from the socket itself. It passes the
//! step's status socket to init, which follows the step from then on and forks the next one.
//!
//! A third process, the *janitor*, unmounts the mounts of a step that has ended. A fourth one sends SIGTERM to a step that
//! runner requests to end, see `ending`.
//!
//! ```text
//! runner ──request──▶ preforked process ──status socket──▶ init ──clone3──▶ next preforked process
//!    ◀──────────────────────────── status ─────────────────────┘
//! ```
#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code)]

mod dev;
mod disposition;
mod ending;
mod janitor;
mod mounts;
mod prefork;
mod proc;
mod reaper;
mod serve;
mod step;
mod sys;
mod watched;
#[expect(dead_code, reason = "runner uses the other items")]
mod wire;

use crate::prefork::Privileges;
use crate::watched::WatchedMounts;

/// The socket of requests.
const CONTROL: i32 = 0;
/// The proc(5) of this container's PID namespace.
const PROC: i32 = 1;
/// The memory with the [`wire::StepSetup`].
const STEP_SETUP: i32 = 2;
/// The socket on which a preforked process reports to init that it has received a request.
const REPORT: i32 = 3;
/// A step's status socket, which replaces [`REPORT`].
const STATUS: i32 = REPORT;
/// The root of the container in init's own mount namespace, open where a mount is watched.
const ROOT: i32 = REPORT + 1;

/// The function with which the kernel starts this program.
extern "C" fn start(stack: sys::Stack) -> ! {
    sys::default_signals();
    let [arguments, environment] = stack.lists();
    if arguments.len() > reaper::OWN_ARGUMENTS {
        reaper::run(arguments, environment);
    }
    let file = sys::size(STEP_SETUP).and_then(|length| sys::map_file(STEP_SETUP, length));
    match file.ok().and_then(wire::StepSetup::parse) {
        Some(setup) => serve::serve(&setup, WatchedMounts::record(&setup), Privileges::drop_all(&setup)),
        None => sys::exit(1),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(101)
}
