//! The first process of a step with `init: true`: it starts the step's program, reaps orphans, passes signals on, and ends as
//! that program does.
//!
//! The program is not the first process of its PID namespace then, so a signal of default action that it sends to itself ends
//! it. This process has no more rights than the step, and no descriptor.

use crate::sys::{self, Ended, Errno, Result, SIGCHLD, SIGCONT, SIGTERM, operation};

/// The arguments of this program as a session's init: its name, and the 0 that ends them.
pub const OWN_ARGUMENTS: usize = 2;

/// Exit codes as a shell has them.
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;
const SIGNALED: i32 = 128;

/// The longest path that is tried, with its NUL: PATH_MAX of the kernel.
const MAX_PATH: usize = 4096;

/// Returns in a new process that is not the first one any more. The first one stays behind, and ends as that one does.
pub fn go_behind() -> Result<()> {
    // Here it is as the step is, so others of the step could look into it.
    let _ = sys::prctl(operation::SET_DUMPABLE, 0, 0);
    // Before there is anything that could send one.
    sys::block_signals()?;
    match sys::fork_plainly() {
        Ok(None) => {
            // With CAP_SYS_PTRACE a program may look into the first process, which has closed its descriptors by then. Where a
            // seccomp profile refuses one of the calls for that, nothing comes.
            const MAX_MILLISECONDS: i64 = 1000;
            let _ = sys::await_one(SIGCONT, MAX_MILLISECONDS);
            sys::new_group();
            sys::take_terminal();
            sys::default_signals();
            Ok(())
        }
        Ok(Some(program)) => serve(program),
        Err(error) => {
            sys::default_signals();
            Err(error)
        }
    }
}

/// Runs the program that the arguments name, behind this process: as the program that an external runtime starts a step with.
pub fn run(arguments: &'static [usize], environment: &'static [usize]) -> ! {
    // A step that has this program for the interpreter of a script would start it for that script, again and again.
    if !sys::is_first() {
        sys::exit(1);
    }
    if go_behind().is_err() {
        complain(&[b"cannot make a process\n"]);
        sys::exit(CANNOT_EXECUTE);
    }
    let name = sys::text_at(arguments, 1).unwrap_or(b"\0");
    let error = execute(name, &arguments[1..], environment);
    let (why, code) = match error {
        sys::ENOENT => (&b"no such program\n"[..], NOT_FOUND),
        sys::EACCES => (&b"permission denied\n"[..], CANNOT_EXECUTE),
        _ => (&b"cannot be executed\n"[..], CANNOT_EXECUTE),
    };
    complain(&[&name[..name.len() - 1], b": ", why]);
    sys::exit(code)
}

/// Executes a program, sought as execvp(3) does. Comes back only when that fails.
fn execute(name: &[u8], arguments: &[usize], environment: &'static [usize]) -> Errno {
    if name.contains(&b'/') {
        return sys::execute(name, arguments, environment);
    }
    let variables = (0..).map_while(|index| sys::text_at(environment, index));
    let path = variables.filter_map(|variable| variable.strip_prefix(b"PATH=")).next().unwrap_or(b"\0");
    let mut failure = sys::ENOENT;
    for directory in path[..path.len() - 1].split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let mut candidate = [0u8; MAX_PATH];
        let length = directory.len() + 1 + name.len();
        let Some(place) = candidate.get_mut(..length) else { continue };
        place[..directory.len()].copy_from_slice(directory);
        place[directory.len()] = b'/';
        place[directory.len() + 1..].copy_from_slice(name);
        match sys::execute(place, arguments, environment) {
            sys::ENOENT | sys::ENOTDIR => {}
            sys::EACCES => failure = sys::EACCES,
            other => return other,
        }
    }
    failure
}

fn complain(words: &[&[u8]]) {
    const STDERR: i32 = 2;
    for words in [&[&b"runner-init: "[..]][..], words].iter().flat_map(|words| words.iter()) {
        let _ = sys::write(STDERR, words);
    }
}

/// Waits for the end of the program. Runner's SIGTERM comes from outside of the PID namespace, and all others have got it too:
/// then all of them are waited for, so that they can clean up.
fn serve(program: u32) -> ! {
    let _ = sys::close_from(0);
    sys::signal_number(program, SIGCONT);
    let (mut code, mut is_ending) = (None, false);
    loop {
        match sys::await_signal() {
            Ok(signal) if signal.number == SIGCHLD as usize => {}
            Ok(signal) if signal.number == SIGTERM && signal.is_from_outside => is_ending = true,
            // Once its exit status is taken, the program's number may be another process'.
            Ok(signal) if code.is_none() => sys::signal_number(program, signal.number),
            Ok(_) => {}
            // A seccomp profile refuses the call: then the end of any child is waited for, and no signal passed on.
            Err(_) => {
                if sys::wait_for_any().is_err() {
                    sys::exit(CANNOT_EXECUTE);
                }
            }
        }
        let others_run = sys::reap_all(|number, ended| {
            if number == program {
                code = Some(match ended {
                    Ended::Exited(code) => code,
                    Ended::Signaled(signal) => SIGNALED + signal,
                });
            }
        });
        match code {
            Some(code) if !is_ending || !others_run => sys::exit(code),
            None if !others_run => sys::exit(SIGNALED),
            _ => {}
        }
    }
}
