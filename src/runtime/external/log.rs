//! What a runtime says of its failure: its log in JSON, a line a message.

use serde::Deserialize;

use crate::runtime::Outcome;

/// A line of the log, as runc and crun write it with `--log-format json`.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

/// A process that could not be started, by the runtime's log, else by what its program ended with.
pub fn not_started(log: &str, ended: &Outcome) -> Outcome {
    let errors = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let last = errors.filter(|line| matches!(line.level.as_str(), "error" | "fatal")).last();
    let why = match last {
        Some(line) => line.msg,
        None => match ended {
            Outcome::Signaled { signal } => format!("the runtime was killed by signal {signal}, and says nothing"),
            ended => format!("the runtime ended with {}, and says nothing", ended.exit_code()),
        },
    };
    let code = code(&why);
    Outcome::NotStarted { why, code }
}

/// 127 where there is no such command, 126 where it may not be executed, else 125, as Docker tells them apart: by words.
fn code(why: &str) -> i32 {
    let is_about_command =
        why.contains("exec: \"") || why.contains("executable file") || why.contains("open executable");
    if !is_about_command {
        125
    } else if why.contains("not found") || why.contains("no such file or directory") || why.contains("No such file") {
        127
    } else {
        126
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(log: &str) -> (String, i32) {
        match not_started(log, &Outcome::Exited { code: 1 }) {
            Outcome::NotStarted { why, code } => (why, code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_error_is_the_reason_and_its_words_give_the_code() {
        for (message, code) in [
            (
                r#"runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"#,
                127,
            ),
            (r#"unable to start container process: exec: \"/bin/x\": stat /bin/x: no such file or directory"#, 127),
            (r#"runc create failed: unable to start container process: exec: \"/bin/noexec\": permission denied"#, 126),
            ("executable file `nope` not found in $PATH: No such file or directory", 127),
            ("open executable: Permission denied", 126),
            ("runc create failed: unable to start container process: error during container init: error mounting", 125),
        ] {
            let log = format!(
                "{{\"level\":\"warning\",\"msg\":\"w\",\"time\":\"t\"}}\nnot json\n{{\"level\":\"error\",\"msg\":\"{message}\"}}\n"
            );
            assert_eq!(told(&log), (message.replace('\\', ""), code));
        }
    }

    #[test]
    fn a_runtime_that_says_nothing_is_told_by_how_it_ended() {
        assert_eq!(told(""), ("the runtime ended with 1, and says nothing".to_owned(), 125));
    }
}
