//! The `runner` binary: hands the command line to the library.

use std::process::ExitCode;

use clap::Parser as _;
use runner::cli::Cli;
use runner::command;
use runner::runtime::embedded::{HELPER_ARGUMENT, helper};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == HELPER_ARGUMENT) {
        return helper::main();
    }
    command::run(Cli::parse())
}
