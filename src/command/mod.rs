//! The commands: a file for each of them, and below these the files that they share. No command imports another one.

mod absent_secrets;
mod analysis;
mod annotated_plan;
mod apply;
mod build_options;
mod build_run;
mod cache_turns;
mod caller_input;
mod command_error;
mod complete;
mod console;
mod diff;
mod doctor;
mod effective_settings;
mod environment;
mod graph;
mod image_content;
mod interactive_shell;
mod leftovers;
mod lock;
mod lock_file;
mod long_reads;
mod man;
mod manifest_file;
mod manifest_warnings;
mod naming;
mod next_steps;
mod plan;
mod plan_run;
mod planted_links;
mod process_setup;
mod pull_reports;
mod report_context;
mod report_outputs;
mod run;
mod runtime;
mod session;
mod shell;
mod signals;
mod store;
mod target;
mod test;
mod validate;
mod verify;

use std::process::ExitCode;

use command_error::CommandError;
use console::{print, print_to_stderr};

use crate::cli::{self, Cli, Command, ReferenceOf, SchemaOf};
use crate::error::Exit;
use crate::kernel_files;
use crate::manifest;
use crate::manual;
use crate::report;
use crate::sys;

pub use process_setup::{limit_allocation_pools, raise_stack_limit, report_when_out_of_memory};

/// Runs the command of the command line, and returns the exit code of the program.
pub fn run(cli: Cli) -> ExitCode {
    // They fail only for signals that do not exist.
    let _ = sys::keep_ends_of_children().and_then(|()| sys::refuse_writes_beyond_a_limit());
    let (exit, text) = match check_kernel_files(&cli.command).and_then(|()| run_command(&cli)) {
        Ok(()) => return Exit::Done.into(),
        Err(CommandError::Code(code)) => return code,
        Err(CommandError::Error(error)) => (error.exit(), error.render()),
        Err(CommandError::Report(exit, text)) => (exit, text),
    };
    print_to_stderr(&text);
    exit.into()
}

/// Checks that the files of the kernel that the command needs exist.
fn check_kernel_files(command: &Command) -> Result<(), CommandError> {
    match command {
        Command::Schema { .. }
        | Command::Reference { .. }
        | Command::Doctor
        | Command::Man { .. }
        | Command::Completions { .. }
        | Command::Complete(_) => Ok(()),
        // They open files through /proc/self/fd.
        Command::Validate(_) | Command::Store(_) | Command::Plan(_) | Command::Graph(_) | Command::Diff(_) => {
            Ok(kernel_files::check_proc()?)
        }
        Command::Apply(_)
        | Command::Test(_)
        | Command::Lock(_)
        | Command::Verify(_)
        | Command::Run(_)
        | Command::Shell(_) => {
            kernel_files::check_proc()?;
            Ok(kernel_files::check_null()?)
        }
    }
}

fn run_command(cli: &Cli) -> Result<(), CommandError> {
    match &cli.command {
        Command::Apply(args) => apply::apply(cli, args),
        Command::Test(args) => test::test(cli, args),
        Command::Plan(args) => plan::plan(cli, args),
        Command::Graph(args) => graph::graph(cli, args),
        Command::Validate(args) => validate::validate(cli, args),
        Command::Lock(args) => lock::lock(cli, args),
        Command::Verify(args) => verify::verify(cli, args),
        Command::Run(args) => run::run(cli, args),
        Command::Shell(args) => shell::shell(cli, args),
        Command::Diff(args) => diff::diff(cli, args),
        Command::Store(command) => store::store(cli, command),
        Command::Schema { of: SchemaOf::Manifest } => print(manifest::schema_text().as_bytes()),
        Command::Schema { of: SchemaOf::Diff } => print(report::diff_schema_text().as_bytes()),
        Command::Schema { of: SchemaOf::Events } => print(report::events_schema_text().as_bytes()),
        Command::Doctor => doctor::doctor(cli),
        Command::Man { directory } => man::man(directory),
        Command::Reference { of: ReferenceOf::Manifest } => print(manual::manifest_page().as_bytes()),
        Command::Reference { of: ReferenceOf::Commands } => print(manual::commands_page().as_bytes()),
        Command::Completions { shell } => print(&cli::completions(*shell)),
        Command::Complete(args) => complete::complete(args),
    }
}
