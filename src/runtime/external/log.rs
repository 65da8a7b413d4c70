//! What a runtime says of its failure: its log in JSON, a line a message.

use serde::Deserialize;

use crate::runtime::{Outcome, not_executed};

/// A line of the log, as runc and crun write it with `--log-format json`.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// A process that could not be started, by the runtime's log, else by what its program ended with.
pub fn not_started(log: &str, ended: &Outcome) -> Outcome {
    let mut errors = log.lines().rev().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let why = match errors.find(|line| matches!(line.level.as_str(), "error" | "fatal")) {
        Some(line) => line.msg,
        None => match ended {
            Outcome::Signaled { signal } => format!("the runtime was killed by signal {signal}, and says nothing"),
            ended => format!("the runtime ended with {}, and says nothing", ended.exit_code()),
        },
    };
    match about_command(&why) {
        Some((name, error)) => not_executed(name, (!is_not_found(error)).then_some(error)),
        None => Outcome::NotStarted { why, code: 125 },
    }
}

/// The command that a message is about, and what went wrong with it: runtimes tell that by words alone.
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

    fn told(message: &str) -> (String, i32) {
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
    fn a_command_that_cannot_be_started_is_told_as_by_the_embedded_runtime() {
        let runc = "runc create failed: unable to start container process: ";
        let missing = "nope is not there, or not in PATH, or its interpreter is not there";
        for message in [
            format!("{runc}exec: \"nope\": executable file not found in $PATH"),
            format!("{runc}exec: \"nope\": stat nope: no such file or directory"),
            "executable file `nope` not found in $PATH: No such file or directory".to_owned(),
        ] {
            assert_eq!(told(&message), (missing.to_owned(), 127), "{message}");
        }
        for message in [format!("{runc}exec: \"/x\": permission denied"), format!("{runc}exec /x: permission denied")] {
            assert_eq!(told(&message), ("/x cannot be executed: Permission denied".to_owned(), 126), "{message}");
        }
    }

    #[test]
    fn anything_else_is_told_in_the_runtimes_own_words() {
        let message = "runc create failed: error during container init: error mounting \"proc\"";
        assert_eq!(told(message), (message.to_owned(), 125));
        let silent = |ended| not_started("", &ended);
        let expected = |why: &str| Outcome::NotStarted { why: why.into(), code: 125 };
        assert_eq!(silent(Outcome::Exited { code: 1 }), expected("the runtime ended with 1, and says nothing"));
        let killed = expected("the runtime was killed by signal 9, and says nothing");
        assert_eq!(silent(Outcome::Signaled { signal: 9 }), killed);
    }
}
