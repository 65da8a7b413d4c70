//! `runner man`: the manual pages, for packages.

use std::fs;
use std::io;
use std::path::Path;

use clap::{ArgAction, CommandFactory as _};
use clap_mangen::Man;

use super::command_error::CommandError;
use crate::cli::Cli;
use crate::error::{Error, Exit};
use crate::manual;

/// The parts at the end of a help, and the sections of man-pages(7) that they become.
const SECTIONS: [(&str, &str); 3] = [
    (".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n"),
    ("\n\nEnvironment:\n", "\n.SH ENVIRONMENT\n"),
    ("\n\nExit codes:\n", "\n.SH EXIT STATUS\n"),
];

/// Writes `man1/runner.1`, a page for each command beside it, and `man5/runner.yaml.5` into a directory, which is created if it is
/// missing.
pub fn man(directory: &Path) -> Result<(), CommandError> {
    let mut command = Cli::command();
    command.build();
    let [commands, files] = ["man1", "man5"].map(|section| directory.join(section));
    let written = fs::create_dir_all(&commands)
        .and_then(|()| fs::create_dir_all(&files))
        .and_then(|()| pages(&command, &commands))
        .and_then(|()| fs::write(files.join("runner.yaml.5"), manual::manual_page()));
    let failed =
        |error| Error::new(Exit::Host, format!("cannot write manual pages into {}: {error}", directory.display()));
    written.map_err(failed).map_err(CommandError::from)
}

/// Writes the pages of a command and of all commands below it that help shows.
fn pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let man = Man::new(command.clone()).source(concat!("runner ", env!("CARGO_PKG_VERSION"))).manual("runner");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut page = with_synopsis(&String::from_utf8_lossy(&page), command);
    for (help, section) in SECTIONS {
        page = page.replace(help, section);
    }
    fs::write(directory.join(man.get_filename()), page)?;
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).try_for_each(|inner| pages(inner, directory))
}

/// Returns a page whose synopsis names the value of each option; that of clap_mangen names the options alone.
fn with_synopsis(page: &str, command: &clap::Command) -> String {
    const HEAD: &str = ".SH SYNOPSIS\n";
    let Some((before, after)) = page.split_once(HEAD) else { return page.to_owned() };
    let rest = after.find("\n.SH ").map_or("", |at| &after[at..]);
    format!("{before}{HEAD}{}{rest}", synopsis(command))
}

/// Returns a command with its options and arguments, and the names of their values.
fn synopsis(command: &clap::Command) -> String {
    let shown = |argument: &&clap::Arg| !argument.is_hide_set();
    let options =
        command.get_opts().chain(command.get_arguments().filter(|argument| !argument.get_action().takes_values()));
    let mut parts = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    parts.extend(options.filter(shown).map(option));
    parts.extend(command.get_positionals().filter(shown).map(positional));
    if command.get_subcommands().any(|inner| !inner.is_hide_set()) {
        parts.push("<\\fISUBCOMMAND\\fR>".to_owned());
    }
    parts.join(" ")
}

fn option(argument: &clap::Arg) -> String {
    let short = argument.get_short().map(|short| bold(&format!("-{short}")));
    let long = argument.get_long().map(|long| bold(&format!("--{long}")));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let value = if argument.get_action().takes_values() { format!(" <{}>", value(argument)) } else { String::new() };
    let again = if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
    format!("[{}{value}]{again}", names.join("|"))
}

fn positional(argument: &clap::Arg) -> String {
    let dashes = if argument.is_last_set() { "\\-\\- " } else { "" };
    let again = if matches!(argument.get_action(), ArgAction::Append) { "..." } else { "" };
    let (open, close) = if argument.is_required_set() { ('<', '>') } else { ('[', ']') };
    format!("{dashes}{open}{}{close}{again}", value(argument))
}

/// Returns the name of a value, in italics.
fn value(argument: &clap::Arg) -> String {
    let name = argument.get_value_names().and_then(<[_]>::first).map_or_else(String::new, ToString::to_string);
    format!("\\fI{name}\\fR")
}

/// Returns a name as roff prints it in bold; its hyphens are those of a terminal.
fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", text.replace('-', "\\-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the pages of a command and of the commands below it, and returns their number.
    fn look(command: &clap::Command, name: &str, directory: &Path) -> usize {
        let page =
            fs::read_to_string(directory.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains("\n.SH EXAMPLES\n  # ") && !page.contains("EXTRA"), "{page}");
        assert!(page.contains(concat!("\"runner ", env!("CARGO_PKG_VERSION"), "\"")), "{page}");
        let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
        1 + shown.map(|inner| look(inner, &format!("{name}-{}", inner.get_name()), directory)).sum::<usize>()
    }

    #[test]
    fn there_is_a_page_with_examples_for_each_command_that_help_shows_and_one_for_the_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("man");
        assert!(man(&top).is_ok());
        assert!(fs::read_to_string(top.join("man5/runner.yaml.5")).unwrap().starts_with(".TH runner.yaml 5 "));
        let path = top.join("man1");
        let count = look(&Cli::command(), "runner", &path);
        assert_eq!(fs::read_dir(&path).unwrap().count(), count);
        let page = fs::read_to_string(path.join("runner.1")).unwrap();
        for section in ["ENVIRONMENT", "EXIT STATUS"] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{page}");
        }
        assert!(man(Path::new("/dev/null/man")).is_err());
    }

    #[test]
    fn a_page_names_the_value_of_each_option_and_argument_in_its_synopsis_and_its_options() {
        let directory = tempfile::tempdir().unwrap();
        assert!(man(directory.path()).is_ok());
        let page = |name: &str| fs::read_to_string(directory.path().join("man1").join(name)).unwrap();
        let synopsis = |name: &str| {
            let page = page(name);
            let (_, after) = page.split_once("\n.SH SYNOPSIS\n").unwrap();
            after
                .lines()
                .next()
                .unwrap()
                .replace("\\-", "-")
                .replace("\\fB", "")
                .replace("\\fI", "")
                .replace("\\fR", "")
        };
        let apply = synopsis("runner-apply.1");
        for part in ["runner apply [", " [-j|--jobs <N>] ", " [--set <NAME=VALUE>]... ", " [--keep-going] "] {
            assert!(apply.contains(part), "{part}: {apply}");
        }
        assert!(apply.ends_with(" [MANIFEST]"), "{apply}");
        let options = page("runner-apply.1");
        assert!(options.contains("\\fB\\-\\-jobs\\fR \\fI<N>\\fR"), "{options}");
        assert!(synopsis("runner-run.1").ends_with(" <CONTAINER> -- <CMD>..."), "{}", synopsis("runner-run.1"));
        assert!(synopsis("runner-store-diff.1").ends_with(" <LAYER|FILE> <LAYER|FILE>"));
        assert!(synopsis("runner-store.1").ends_with(" <SUBCOMMAND>"));
    }
}
