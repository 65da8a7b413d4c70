//! A session's init: starts a step at each request, reports its end, and ends with runner.
//!
//! With an argument it is something else: the first process of a step of an external runtime, see `reaper`.
//!
//! The first process of a session's container, a program of its own without libc and without memory of its own: so it
//! starts in no time, holds nothing of runner's, and a clone of it costs next to nothing. It begins with three
//! descriptors: the socket of requests, a proc(5) that is mounted nowhere, and the plan of every step's view.
//!
//! To make a step's namespaces and mounts, and above all to take them down, is slow. None of that happens while anyone
//! waits: a *spare* with all made ready stands by, and takes the next request from the socket itself. It passes the
//! step's status socket to init, which follows the step from then on and makes the next spare.
//!
//! The mounts of a step that has ended are taken down by a *janitor*, a third process. A step that runner asks to end is
//! told so by a fourth, see `ending`.
//!
//! ```text
//! runner ──request──▶ spare ──status socket──▶ init ──clone3──▶ next spare
//!    ◀───────────────── status ─────────────────┘
//! ```
#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code)]

mod dev;
mod disposition;
mod ending;
mod janitor;
mod proc;
mod reaper;
mod serve;
mod spare;
mod step;
mod sys;
mod view;
mod watched;
#[expect(dead_code, reason = "runner uses the rest of it")]
mod wire;

use crate::spare::Privileges;
use crate::watched::Watched;

/// The socket that requests come from.
const CONTROL: i32 = 0;
/// The proc(5) of this container's PID namespace.
const PROC: i32 = 1;
/// The memory with the [`wire::View`].
const VIEW: i32 = 2;
/// A spare's way to report its request to init.
const FEED: i32 = 3;
/// A step's status socket, in that one's place.
const STATUS: i32 = FEED;
/// The root of the container in init's own mount namespace, where a mount is watched.
const ROOT: i32 = FEED + 1;

/// Where the kernel begins this program.
extern "C" fn start(stack: sys::Stack) -> ! {
    sys::default_signals();
    let [arguments, environment] = stack.lists();
    if arguments.len() > reaper::OWN_ARGUMENTS {
        reaper::run(arguments, environment);
    }
    let view = sys::size(VIEW).and_then(|length| sys::map_file(VIEW, length)).ok().and_then(wire::View::parse);
    match view {
        Some(view) => serve::serve(&view, Watched::note(&view), Privileges::give_up(&view)),
        None => sys::exit(1),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(101)
}
