//! The first process of a step with `init: true`: starts the step's program, reaps orphans, forwards signals, and ends as that
//! program does.
//!
//! The program is then not the first process of its PID namespace, so a signal of default action that it sends to itself ends
//! it. The reaper has no more rights than the step, and no descriptor.

use crate::sys::{self, Ended, Errno, Result, SIGCHLD, SIGCONT, SIGTERM, operation};

/// The length of the argument list of this program as a session's init: its name, and the 0 that ends the list.
pub const OWN_ARGUMENTS: usize = 2;

/// Exit codes, as a shell returns them.
const CANNOT_EXECUTE: i32 = 126;
const NOT_FOUND: i32 = 127;
const SIGNALED: i32 = 128;

/// The longest path of a program, with its NUL: PATH_MAX of the kernel.
const MAX_PATH: usize = 4096;

/// Forks the step's program, and returns in that child. This process becomes the reaper, and ends as the child does.
pub fn fork_program() -> Result<()> {
    // This process has the step's user, so other processes of the step could inspect it otherwise.
    let _ = sys::prctl(operation::SET_DUMPABLE, 0, 0);
    // Before any process exists that could send a signal.
    sys::block_signals()?;
    match sys::fork_plainly() {
        Ok(None) => {
            // With CAP_SYS_PTRACE a program may inspect the reaper, so it waits until the reaper has closed its descriptors and
            // sends SIGCONT. If a seccomp profile refuses one of the calls for that, no signal arrives.
            const MAX_MILLISECONDS: i64 = 1000;
            let _ = sys::await_one(SIGCONT, MAX_MILLISECONDS);
            sys::new_group();
            sys::take_foreground();
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

/// Runs the program that the arguments name, as a child of this process, when an external runtime has started this program.
pub fn run(arguments: &'static [usize], environment: &'static [usize]) -> ! {
    // A step with this program as the interpreter of a script would start it for that script again and again.
    if !sys::is_first() {
        sys::exit(1);
    }
    if fork_program().is_err() {
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

/// Executes a program, which it looks up as execvp(3) does. Returns only when that fails.
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

/// Waits for the end of the program. A SIGTERM from outside of the PID namespace comes from runner, and all other processes have
/// got it too: then the reaper waits for all of them, so that they can clean up.
fn serve(program: u32) -> ! {
    let _ = sys::close_from(0);
    sys::signal_number(program, SIGCONT);
    let (mut code, mut is_ending) = (None, false);
    loop {
        match sys::await_signal() {
            Ok(signal) if signal.number == SIGCHLD as usize => {}
            Ok(signal) if signal.number == SIGTERM && signal.is_from_outside => is_ending = true,
            // Once the program is reaped, its number may belong to another process.
            Ok(signal) if code.is_none() => sys::signal_number(program, signal.number),
            Ok(_) => {}
            // A seccomp profile refuses the call: then the reaper waits for the end of any child, and forwards no signal.
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
