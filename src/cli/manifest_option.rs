//! Options of other tools that name the file to build, such as `-f` of Compose and kubectl: their refusal says how runner
//! takes the manifest.

use clap::Parser as _;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// The options, with those of other commands of runner.
const OPTIONS: [&str; 4] = ["-f", "--file", "-m", "--manifest"];

/// Returns the parsed command line of this process. Ends the process if it is wrong, or asks for help or the version.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| with_fix(error).exit())
}

/// Adds the fix to the refusal of an option that names a manifest.
fn with_fix(mut error: clap::Error) -> clap::Error {
    let is_ours =
        |value: &ContextValue| matches!(value, ContextValue::String(name) if OPTIONS.contains(&name.as_str()));
    if error.kind() != ErrorKind::UnknownArgument || !error.get(ContextKind::InvalidArg).is_some_and(is_ours) {
        return error;
    }
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return error };
    let usage = usage.to_string();
    let words: Vec<&str> = usage.split_whitespace().skip(1).collect();
    let fix = match words.as_slice() {
        ["runner", "run" | "shell", ..] => "name the manifest with `-m MANIFEST`".to_owned(),
        ["runner", command, .., "[MANIFEST]"] => {
            format!("name the manifest without an option: `runner {command} MANIFEST`")
        }
        ["runner", "[OPTIONS]", ..] => {
            "name the manifest without an option, behind the command: `runner apply MANIFEST`".to_owned()
        }
        _ => return error,
    };
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(fix)]));
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        with_fix(Cli::try_parse_from(line.split(' ')).unwrap_err()).to_string()
    }

    #[test]
    fn an_option_of_another_tool_for_the_manifest_is_refused_with_the_way_to_name_it() {
        for (line, fix) in [
            ("runner apply -f a.yaml", "name the manifest without an option: `runner apply MANIFEST`"),
            ("runner plan --file a.yaml --json", "`runner plan MANIFEST`"),
            ("runner validate --file=a.yaml", "`runner validate MANIFEST`"),
            ("runner lock -m a.yaml", "`runner lock MANIFEST`"),
            ("runner graph -fa.yaml", "`runner graph MANIFEST`"),
            ("runner run c -f a.yaml -- true", "name the manifest with `-m MANIFEST`"),
            ("runner shell c --file a.yaml", "name the manifest with `-m MANIFEST`"),
            ("runner -f a.yaml apply", "behind the command: `runner apply MANIFEST`"),
        ] {
            let text = refusal(line);
            assert!(text.contains("tip: name the manifest") && text.contains(fix), "{line}: {text}");
            assert!(!text.contains("use '--"), "{line}: {text}");
        }
    }

    #[test]
    fn another_unknown_option_gets_no_such_fix() {
        for line in ["runner apply -x", "runner apply --fil a", "runner store ls -f a", "runner doctor -f a"] {
            assert!(!refusal(line).contains("name the manifest"), "{line}");
        }
    }
}
