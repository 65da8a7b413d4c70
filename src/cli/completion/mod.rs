//! Completes the last word of a command line, by the definition of the commands, for shells. Pure.
//!
//! The name of an option's or argument's value selects the candidates: a `STEP` is one of the manifest that the line names.

mod line;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;

pub use line::words;

/// The manifest of a line that names none.
const MANIFEST: &str = "build.yaml";

/// Names of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// The names of its steps.
    Steps,
    /// The names of its containers.
    Containers,
    /// The names of both.
    ContainersAndSteps,
    /// The names of its snapshots.
    Snapshots,
}

/// Files that the shell itself completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Any file.
    Any,
    /// Directories alone.
    Directories,
}

/// The words that a line may end with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Completion {
    /// The beginning of the last word that is not part of a value: an option and its `=`.
    pub before: String,
    /// The remaining part of the last word, as far as it is typed.
    pub begun: String,
    /// Commands, options and values that need no manifest, each with a few words about it.
    pub candidates: Vec<(String, String)>,
    /// The names of the manifest.
    pub names: Option<Names>,
    /// Files.
    pub files: Option<Files>,
    /// The manifest that the line names.
    pub manifest: PathBuf,
    /// The variables that the line sets.
    pub sets: Vec<(String, String)>,
}

/// Returns the possible ends of the last of these words, which come after `runner`.
pub fn complete(words: &[OsString]) -> Completion {
    let mut command = Cli::command();
    command.build();
    let Some((last, words)) = words.split_last() else { return Completion::default() };
    let mut line = Line {
        command: &command,
        place: 1,
        open: None,
        is_escaped: false,
        found: Completion { manifest: PathBuf::from(MANIFEST), ..Completion::default() },
    };
    words.iter().for_each(|word| line.read(word));
    line.end(last)
}

/// Returns the completion script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    match shell {
        Shell::Bash => include_bytes!("runner.bash").to_vec(),
        Shell::Zsh => include_bytes!("runner.zsh").to_vec(),
        Shell::Fish => include_bytes!("runner.fish").to_vec(),
        // The scripts of other shells complete commands and options alone.
        _ => {
            // Into memory first: clap_complete panics where its output fails, as a closed pipe does.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "runner", &mut script);
            script
        }
    }
}

/// A line that is read from left to right.
struct Line<'c> {
    command: &'c Command,
    /// The next positional argument, from 1.
    place: usize,
    /// The option whose value is the next word.
    open: Option<&'c Arg>,
    /// Whether a `--` has been read.
    is_escaped: bool,
    found: Completion,
}

impl<'c> Line<'c> {
    fn read(&mut self, word: &OsStr) {
        let text = word.to_str().unwrap_or_default();
        if let Some(option) = self.open.take() {
            self.note(option, word);
        } else if !self.is_escaped && text == "--" {
            self.is_escaped = true;
        } else if let Some(long) = text.strip_prefix("--").filter(|_| !self.is_escaped) {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            self.option(|option| option.get_long() == Some(name), value);
        } else if let Some(short) = text.strip_prefix('-').filter(|short| !self.is_escaped && !short.is_empty()) {
            self.shorts(short);
        } else if let Some(inner) = self.command.find_subcommand(word).filter(|_| self.place == 1) {
            self.command = inner;
        } else if let Some(argument) = self.positional() {
            self.note(argument, word);
            self.place += usize::from(!matches!(argument.get_action(), ArgAction::Append));
        }
    }

    /// Reads an option, and its value if it is in the same word.
    fn option(&mut self, is_it: impl Fn(&Arg) -> bool, value: Option<&str>) {
        let option = self.command.get_opts().find(|option| is_it(option));
        match (option, value) {
            (Some(option), Some(value)) => self.note(option, OsStr::new(value)),
            (option, _) => self.open = option,
        }
    }

    /// Reads options of a letter each, of which the last may have its value.
    fn shorts(&mut self, letters: &str) {
        for (at, letter) in letters.char_indices() {
            if self.command.get_opts().any(|option| option.get_short() == Some(letter)) {
                let value = &letters[at + letter.len_utf8()..];
                let value = value.strip_prefix('=').unwrap_or(value);
                return self.option(|option| option.get_short() == Some(letter), Some(value).filter(|v| !v.is_empty()));
            }
        }
    }

    /// Records a value that selects the names.
    fn note(&mut self, argument: &Arg, value: &OsStr) {
        match value_name(argument) {
            "MANIFEST" => self.found.manifest = PathBuf::from(value),
            "NAME=VALUE" => {
                let set = value.to_str().and_then(|text| text.split_once('='));
                self.found.sets.extend(set.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            _ => {}
        }
    }

    /// Returns the next positional argument.
    fn positional(&self) -> Option<&'c Arg> {
        let is_next = |argument: &&Arg| {
            if self.is_escaped { argument.is_last_set() } else { argument.get_index() == Some(self.place) }
        };
        self.command.get_positionals().find(is_next).filter(|argument| self.is_escaped == argument.is_last_set())
    }

    /// Returns the words that the line may end with, where this is its last word.
    fn end(mut self, word: &OsStr) -> Completion {
        let Some(text) = word.to_str() else { return self.found };
        text.clone_into(&mut self.found.begun);
        if let Some(option) = self.open {
            self.values(option);
        } else if let Some((name, value)) = text.strip_prefix("--").and_then(|long| long.split_once('='))
            && !self.is_escaped
        {
            self.found.before = format!("--{name}=");
            value.clone_into(&mut self.found.begun);
            if let Some(option) = self.command.get_opts().find(|option| option.get_long() == Some(name)) {
                self.values(option);
            }
        } else if text.starts_with('-') && !self.is_escaped {
            let options = self.command.get_arguments().filter(|option| !option.is_hide_set());
            let options = options.filter_map(|option| Some((format!("--{}", option.get_long()?), about(option))));
            self.found.candidates.extend(options);
        } else {
            if self.place == 1 && !self.is_escaped {
                let commands = self.command.get_subcommands().filter(|inner| !inner.is_hide_set());
                let about = |inner: &Command| inner.get_about().map(ToString::to_string).unwrap_or_default();
                self.found.candidates.extend(commands.map(|inner| (inner.get_name().to_owned(), about(inner))));
            }
            if let Some(argument) = self.positional() {
                self.values(argument);
            }
        }
        self.found
    }

    /// Adds the values that an option or argument takes.
    fn values(&mut self, argument: &Arg) {
        let possible = argument.get_possible_values();
        let possible = possible.iter().filter(|value| !value.is_hide_set());
        let about = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string);
        let possible = possible.map(|value| (value.get_name().to_owned(), about(value).unwrap_or_default()));
        self.found.candidates.extend(possible);
        match value_name(argument) {
            "STEP" => self.found.names = Some(Names::Steps),
            "CONTAINER" => self.found.names = Some(Names::Containers),
            "CONTAINER|STEP" => self.found.names = Some(Names::ContainersAndSteps),
            "LAYER" => self.found.names = Some(Names::Snapshots),
            "LAYER|FILE" | "OLD" | "NEW" => {
                (self.found.names, self.found.files) = (Some(Names::Snapshots), Some(Files::Any));
            }
            "FILE" | "MANIFEST" => self.found.files = Some(Files::Any),
            "DIR" => self.found.files = Some(Files::Directories),
            "RUNTIME" => {
                let runtimes = ["embedded", "runc", "crun"].map(|name| (name.to_owned(), String::new()));
                self.found.candidates.extend(runtimes);
                self.found.files = Some(Files::Any);
            }
            _ => {}
        }
    }
}

fn value_name(argument: &Arg) -> &str {
    argument.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str())
}

/// Returns the help of an option, behind the name of its value.
fn about(option: &Arg) -> String {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    if option.get_action().takes_values() { format!("<{}> {help}", value_name(option)) } else { help }
}

#[cfg(test)]
mod tests;
