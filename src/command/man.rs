//! `runner man`: the manual pages, for packages.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;

use super::Stop;
use crate::cli::Cli;
use crate::error::{Error, Exit};

/// Writes `runner.1` and a page for each command into a folder, which is made where it is missing.
pub fn man(folder: &Path) -> Result<(), Stop> {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    let failed =
        |error| Error::new(Exit::Host, format!("cannot write manual pages into {}: {error}", folder.display()));
    written.map_err(failed).map_err(Stop::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command_that_help_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("man1");
        assert!(man(&path).is_ok());
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("runner-{}.1", command.get_name());
            let page = fs::read_to_string(path.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(page.contains("Example: runner"), "{page}");
        }
        assert!(path.join("runner.1").is_file());
        assert!(man(Path::new("/dev/null/man")).is_err());
    }
}
