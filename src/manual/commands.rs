//! The book's page of the commands, made from clap's definition of them.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use crate::cli::Cli;

const HEAD: &str = "\
# The commands

<!-- Generated: runner reference commands > docs/src/commands.md -->

Each command below has its options and an example of it, as `runner COMMAND --help` prints them.
[Settings and exit codes](settings.md) says where else an option can be set.
";

/// Returns the text of `docs/src/commands.md`.
pub fn commands_page() -> String {
    let mut command = Cli::command();
    command.build();
    let mut page = HEAD.to_owned();
    write_command(&mut page, &command);
    page
}

/// Writes a command and all below it that help shows.
fn write_command(page: &mut String, command: &Command) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = if about.ends_with(['.', '?']) { about } else { format!("{about}.") };
    let usage = command.clone().render_usage().to_string();
    // Writing to a string cannot fail, here and below.
    let _ = write!(page, "\n## {name}\n\n{about}\n\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim());
    let is_own =
        |argument: &&Arg| !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let is_shown = |argument: &&Arg| is_own(argument) && (!argument.is_global_set() || command.get_name() == "runner");
    for (number, argument) in command.get_arguments().filter(is_shown).enumerate() {
        page.push_str(if number == 0 { "\n" } else { "" });
        write_argument(page, argument);
    }
    write_after_help(page, &command.get_after_help().map(ToString::to_string).unwrap_or_default());
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).for_each(|inner| write_command(page, inner));
}

fn write_argument(page: &mut String, argument: &Arg) {
    let values: Vec<&str> = argument.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let value = if argument.get_action().takes_values() { values.join(" ") } else { String::new() };
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut names = [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        names = value;
    } else if !value.is_empty() {
        names = format!("{names} {value}");
    }
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.replace('\n', " ");
    let stop = if help.ends_with(['.', '?']) { "" } else { "." };
    let _ = write!(page, "- `{names}`: {help}{stop}");
    let words: Vec<String> =
        argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if argument.get_action().takes_values() && !words.is_empty() {
        let _ = write!(page, " One of {}.", words.join(", "));
    }
    let defaults: Vec<String> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let _ = write!(page, " Default: {}.", defaults.join(" "));
    }
    page.push('\n');
}

/// Writes the parts at the end of a help: examples for the shell, and lists.
fn write_after_help(page: &mut String, text: &str) {
    for part in text.split("\n\n") {
        let Some((title, lines)) = part.split_once(":\n") else { continue };
        let lines = lines.lines().map(|line| line.strip_prefix("  ").unwrap_or(line));
        match title {
            "Examples" => {
                let _ = write!(page, "\n```sh\n{}\n```\n", lines.collect::<Vec<_>>().join("\n"));
            }
            _ => {
                let _ = write!(page, "\n{title}:\n\n```text\n{}\n```\n", lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(command: &Command, name: &str, page: &str, count: &mut usize) {
        let (_, after) = page.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no {name}"));
        let own = after.split("\n## ").next().unwrap_or_default();
        assert!(own.contains("\n```sh\n# "), "no example: {own}");
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let is_there = long.as_ref().is_none_or(|long| own.contains(long) || page.contains(&format!("`{long} ")));
            assert!(is_there || argument.get_id() == "version", "{name}: {long:?}");
            *count += 1;
        }
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            look(inner, &format!("{name} {}", inner.get_name()), page, count);
        }
    }

    #[test]
    fn the_page_has_each_command_that_help_shows_with_its_options_and_an_example() {
        let mut count = 0;
        look(&Cli::command(), "runner", &commands_page(), &mut count);
        assert!(count > 40, "{count}");
    }
}
