//! `runner man`: the manual pages, for packages.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::command_error::CommandError;
use crate::cli::Cli;
use crate::error::{Error, Exit};

/// What a help ends with, and the sections of man-pages(7) that these parts are in a manual page.
const SECTIONS: [(&str, &str); 3] = [
    (".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n"),
    ("\n\nEnvironment:\n", "\n.SH ENVIRONMENT\n"),
    ("\n\nExit codes:\n", "\n.SH EXIT STATUS\n"),
];

/// Writes `runner.1` and a page for each command into a folder, which is made where it is missing.
pub fn man(folder: &Path) -> Result<(), CommandError> {
    let mut command = Cli::command();
    command.build();
    let written = fs::create_dir_all(folder).and_then(|()| pages(&command, folder));
    let failed =
        |error| Error::new(Exit::Host, format!("cannot write manual pages into {}: {error}", folder.display()));
    written.map_err(failed).map_err(CommandError::from)
}

/// The pages of a command and of all below it that help shows.
fn pages(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let man = Man::new(command.clone()).source(concat!("runner ", env!("CARGO_PKG_VERSION"))).manual("runner");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for (help, section) in SECTIONS {
        page = page.replace(help, section);
    }
    fs::write(folder.join(man.get_filename()), page)?;
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).try_for_each(|inner| pages(inner, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page for the command, and for each below it.
    fn look(command: &clap::Command, name: &str, folder: &Path) -> usize {
        let page =
            fs::read_to_string(folder.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains("\n.SH EXAMPLES\n  # ") && !page.contains("EXTRA"), "{page}");
        assert!(page.contains(concat!("\"runner ", env!("CARGO_PKG_VERSION"), "\"")), "{page}");
        let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
        1 + shown.map(|inner| look(inner, &format!("{name}-{}", inner.get_name()), folder)).sum::<usize>()
    }

    #[test]
    fn there_is_a_page_with_examples_for_each_command_that_help_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("man1");
        assert!(man(&path).is_ok());
        let count = look(&Cli::command(), "runner", &path);
        assert_eq!(fs::read_dir(&path).unwrap().count(), count);
        let page = fs::read_to_string(path.join("runner.1")).unwrap();
        for section in ["ENVIRONMENT", "EXIT STATUS"] {
            assert!(page.contains(&format!("\n.SH {section}\n")), "{page}");
        }
        assert!(man(Path::new("/dev/null/man")).is_err());
    }
}
