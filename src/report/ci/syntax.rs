//! The commands that CI systems read in a job's log, and text without such commands.

use std::borrow::Cow;

use super::Ci;

/// Returns the line that opens a group of that name and title.
pub(super) fn begin(ci: Ci, name: &str, title: &str, seconds: u64) -> String {
    match ci {
        // <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>
        Ci::GitHub => format!("::group::{}\n", data(title)),
        // <https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections>
        Ci::GitLab => format!("\u{1b}[0Ksection_start:{seconds}:{name}\r\u{1b}[0K{title}\n"),
    }
}

/// Returns the line that closes a group.
pub(super) fn end(ci: Ci, name: &str, seconds: u64) -> String {
    match ci {
        Ci::GitHub => "::endgroup::\n".to_owned(),
        Ci::GitLab => format!("\u{1b}[0Ksection_end:{seconds}:{name}\r\u{1b}[0K\n"),
    }
}

/// Returns the line that reports an error, at a line of a file if there is one.
pub(super) fn error(ci: Ci, place: Option<(&str, usize)>, title: &str, message: &str) -> String {
    match (ci, place) {
        (Ci::GitHub, Some((file, line))) => {
            format!("::error file={},line={line},title={}::{}\n", property(file), property(title), data(message))
        }
        (Ci::GitHub, None) => format!("::error title={}::{}\n", property(title), data(message)),
        (Ci::GitLab, Some((file, line))) => format!("\u{1b}[31m{file}:{line}: {title}: {message}\u{1b}[0m\n"),
        (Ci::GitLab, None) => format!("\u{1b}[31m{title}: {message}\u{1b}[0m\n"),
    }
}

/// Returns the lines with every command of the CI system broken. Otherwise a step could hide its output, or worse.
pub(super) fn harmless(ci: Ci, text: &str) -> Cow<'_, str> {
    // GitHub reads `::` at the beginning of a line, and an older form anywhere; GitLab's commands need an escape
    // sequence, and none comes this far.
    if ci == Ci::GitLab || !(text.contains("::") || text.contains("##[")) {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        let line = line.replace("##[", "#\u{200b}#[");
        match line.trim_start().starts_with("::") {
            true => line.replacen("::", ":\u{200b}:", 1),
            false => line,
        }
    };
    Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_step_is_no_command() {
        for (text, harmless_text) in [
            ("a :: b", "a :: b"),
            ("::add-mask::x", ":\u{200b}:add-mask::x"),
            ("one\n \t::stop-commands::x\n", "one\n \t:\u{200b}:stop-commands::x\n"),
            ("a ##[group]b", "a #\u{200b}#[group]b"),
        ] {
            assert_eq!(harmless(Ci::GitHub, text), harmless_text);
        }
    }

    #[test]
    fn an_annotation_names_its_line_and_is_one_line() {
        assert_eq!(
            error(Ci::GitHub, Some(("a,b.yaml", 7)), "step x: failed", "50%\nexit code 1"),
            "::error file=a%2Cb.yaml,line=7,title=step x%3A failed::50%25%0Aexit code 1\n"
        );
        assert_eq!(error(Ci::GitHub, None, "t", "m"), "::error title=t::m\n");
        assert_eq!(error(Ci::GitLab, Some(("b.yaml", 7)), "t", "m"), "\u{1b}[31mb.yaml:7: t: m\u{1b}[0m\n");
    }
}
