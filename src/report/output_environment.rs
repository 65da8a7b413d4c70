//! The environment that standard output belongs to (a terminal, a CI job, a file), and the display that fits it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use crate::settings::Progress;

use super::{Ci, Mode};

/// The properties of standard output and of the process's environment variables that decide how a build is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputEnvironment {
    /// Standard output is a terminal.
    pub terminal: bool,
    /// `TERM` is unset, or names a terminal without a movable cursor.
    pub dumb: bool,
    /// `NO_COLOR` has a value.
    pub no_colour: bool,
    /// `CLICOLOR_FORCE` has a value other than 0.
    pub force_colour: bool,
    /// The CI system that runs this process, if runner recognises it.
    pub ci: Option<Ci>,
    /// The summary file of a GitHub job.
    pub summary: Option<PathBuf>,
}

impl OutputEnvironment {
    /// Reads the environment of this process.
    pub fn of_stdout() -> Self {
        Self::new(io::stdout().is_terminal(), |name| std::env::var_os(name))
    }

    fn new(terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> Self {
        let given = |name| env(name).filter(|value| !value.is_empty());
        let yes = |name| given(name).is_some_and(|value| value == "true");
        let ci = match (yes("GITHUB_ACTIONS"), yes("GITLAB_CI")) {
            (true, _) => Some(Ci::GitHub),
            (false, true) => Some(Ci::GitLab),
            (false, false) => None,
        };
        let summary = given("GITHUB_STEP_SUMMARY").filter(|_| ci == Some(Ci::GitHub)).map(PathBuf::from);
        Self {
            ci,
            summary,
            terminal,
            dumb: given("TERM").is_none_or(|value| value == "dumb"),
            no_colour: given("NO_COLOR").is_some(),
            force_colour: given("CLICOLOR_FORCE").is_some_and(|value| value != "0"),
        }
    }

    /// Returns whether to print colours: as <https://no-color.org> says first, then as
    /// <https://bixense.com/clicolors> says.
    pub fn colour(&self) -> bool {
        !self.no_colour && (self.force_colour || self.terminal && !self.dumb)
    }

    /// Returns the display for the progress mode that the user chose.
    pub fn mode(&self, progress: Progress) -> Mode {
        let colour = self.colour();
        match (progress, self.ci) {
            (Progress::Auto, _) if self.terminal && !self.dumb => Mode::Tty { colour },
            (Progress::Auto, Some(ci)) => Mode::Groups { ci, colour },
            (Progress::Tty, _) => Mode::Tty { colour },
            (Progress::Auto | Progress::Plain, _) => Mode::Plain { colour },
            (Progress::Json, _) => Mode::Json,
            (Progress::Quiet, _) => Mode::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(terminal: bool, variables: &[(&str, &str)], progress: Progress) -> Mode {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        OutputEnvironment::new(terminal, value).mode(progress)
    }

    #[test]
    fn a_terminal_gets_the_live_display_and_other_outputs_get_plain_lines() {
        let xterm = ("TERM", "xterm");
        let (tty, plain) = (|colour| Mode::Tty { colour }, |colour| Mode::Plain { colour });
        for (terminal, variables, shown) in [
            (true, &[xterm][..], tty(true)),
            (true, &[xterm, ("NO_COLOR", "1")], tty(false)),
            (true, &[xterm, ("NO_COLOR", "")], tty(true)),
            (true, &[("TERM", "dumb")], plain(false)),
            (true, &[], plain(false)),
            (true, &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")], plain(true)),
            (false, &[xterm], plain(false)),
            (false, &[xterm, ("CLICOLOR_FORCE", "1")], plain(true)),
            (false, &[xterm, ("CLICOLOR_FORCE", "0")], plain(false)),
            (false, &[xterm, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], plain(false)),
        ] {
            assert_eq!(mode(terminal, variables, Progress::Auto), shown, "{terminal} {variables:?}");
        }
        let github = ("GITHUB_ACTIONS", "true");
        assert_eq!(mode(false, &[github], Progress::Auto), Mode::Groups { ci: Ci::GitHub, colour: false });
        assert_eq!(
            mode(false, &[("GITLAB_CI", "true")], Progress::Auto),
            Mode::Groups { ci: Ci::GitLab, colour: false }
        );
        assert_eq!(mode(false, &[github], Progress::Plain), plain(false));
        assert_eq!(mode(true, &[xterm], Progress::Plain), plain(true));
        assert_eq!(mode(false, &[xterm], Progress::Tty), tty(false));
        assert_eq!(mode(true, &[xterm], Progress::Json), Mode::Json);
        assert_eq!(mode(true, &[xterm], Progress::Quiet), Mode::Quiet);
    }
}
