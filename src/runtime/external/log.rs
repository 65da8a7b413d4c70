//! Reads the reason of a runtime's failure from its log: JSON, one message a line.

use serde::Deserialize;

use crate::runtime::{Outcome, not_executed};

/// A line of the log, in the format of runc and crun with `--log-format json`.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// Returns the outcome of a process that could not be started, from the runtime's log, or else from how its program ended.
pub fn not_started(log: &str, ended: &Outcome) -> Outcome {
    let mut errors = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let why = match errors.find(|line| matches!(line.level.as_str(), "error" | "fatal")) {
        Some(line) => line.msg,
        None => match ended {
            Outcome::Signaled { signal } => format!("signal {signal} killed the runtime, which logged no error"),
            ended => format!("the runtime ended with {}, and logged no error", ended.exit_code()),
        },
    };
    match about_command(&why) {
        Some((name, error)) => not_executed(name, (!is_not_found(error)).then_some(error)),
        None => Outcome::NotStarted { why, code: 125 },
    }
}

/// Returns the command that a message names, and its error: runtimes report both in a text alone.
fn about_command(why: &str) -> Option<(&str, &str)> {
    // runc: exec: "NAME": executable file not found in $PATH
    if let Some((_, rest)) = why.split_once("exec: \"") {
        return rest.split_once("\": ");
    }
    // runc: unable to start container process: exec NAME: permission denied
    if let Some((_, rest)) = why.split_once("container process: exec ") {
        return rest.split_once(": ");
    }
    // crun: executable file `NAME` not found in $PATH: No such file or directory
    if let Some((_, rest)) = why.split_once("executable file `") {
        return rest.split_once("` ");
    }
    None
}

fn is_not_found(error: &str) -> bool {
    let error = error.to_lowercase();
    error.contains("not found") || error.contains("no such file or directory") || error.contains("not a directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(message: &str) -> (String, i32) {
        let message = serde_json::to_string(message).unwrap();
        let log = format!(
            "{{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}}\nnot json\n{{\"level\":\"error\",\"msg\":{message}}}\n"
        );
        match not_started(&log, &Outcome::Exited { code: 1 }) {
            Outcome::NotStarted { why, code } => (why, code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_that_cannot_be_executed_has_the_embedded_runtimes_message() {
        let runc = "runc create failed: unable to start container process: ";
        let missing = "nope does not exist, or is not in PATH, or its interpreter does not exist";
        for message in [
            format!("{runc}exec: \"nope\": executable file not found in $PATH"),
            format!("{runc}exec: \"nope\": stat nope: no such file or directory"),
            "executable file `nope` not found in $PATH: No such file or directory".to_owned(),
        ] {
            assert_eq!(reported(&message), (missing.to_owned(), 127), "{message}");
        }
        for message in [format!("{runc}exec: \"/x\": permission denied"), format!("{runc}exec /x: permission denied")] {
            assert_eq!(reported(&message), ("/x cannot be executed: Permission denied".to_owned(), 126), "{message}");
        }
    }

    #[test]
    fn any_other_failure_has_the_runtimes_own_message() {
        let message = "runc create failed: error during container init: error mounting \"proc\"";
        assert_eq!(reported(message), (message.to_owned(), 125));
        let silent = |ended| not_started("", &ended);
        let expected = |why: &str| Outcome::NotStarted { why: why.into(), code: 125 };
        assert_eq!(silent(Outcome::Exited { code: 1 }), expected("the runtime ended with 1, and logged no error"));
        let killed = expected("signal 9 killed the runtime, which logged no error");
        assert_eq!(silent(Outcome::Signaled { signal: 9 }), killed);
    }
}
