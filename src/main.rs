//! The `runner` binary: passes the command line to the library.

use std::process::ExitCode;

use runner::cli;
use runner::command;
use runner::runtime::{embedded, external};
use runner::terminal::guard;

fn main() -> ExitCode {
    if let Err(code) = command::raise_stack_limit() {
        return code;
    }
    command::limit_allocation_pools();
    command::report_when_out_of_memory();
    match std::env::args_os().nth(1) {
        Some(argument) if argument == embedded::HELPER_ARGUMENT => embedded::helper::main(),
        Some(argument) if argument == external::HELPER_ARGUMENT => external::helper::main(),
        Some(argument) if argument == guard::GUARD_ARGUMENT => guard::main(),
        _ => command::run(cli::parse()),
    }
}
