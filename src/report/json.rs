//! One JSON object a line: an event's fields and the time when it happened.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::event::{Event, Stamped};

use super::Reporter;

/// Keeps nothing between events.
#[derive(Debug)]
pub(super) struct Json;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

impl Reporter for Json {
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        let time = humantime::format_rfc3339_millis(stamped.time).to_string();
        let event = in_utf8(&stamped.event);
        // One write for a line: a reader never sees half of it followed by someone else's.
        let mut line = serde_json::to_vec(&Line { time, event: event.as_ref().unwrap_or(&stamped.event) })?;
        line.push(b'\n');
        out.write_all(&line)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// The event with what is not UTF-8 in its paths replaced, if there is any: JSON is UTF-8, and a build must not lose
/// its events over the name of a folder.
fn in_utf8(event: &Event) -> Option<Event> {
    let path = match event {
        Event::SnapshotWritten { path, .. } => path,
        Event::StepFinished { log: Some(log), .. } => log,
        _ => return None,
    };
    if path.to_str().is_some() {
        return None;
    }
    let mut event = event.clone();
    if let Event::SnapshotWritten { path, .. } | Event::StepFinished { log: Some(path), .. } = &mut event {
        *path = replaced(path);
    }
    Some(event)
}

fn replaced(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::Mode;
    use super::super::script::{failing, show, stamp};
    use super::*;
    use crate::event::{Events, Stream};

    fn lines(events: Vec<Stamped>) -> Vec<Value> {
        show(events, Mode::Json).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_event_is_a_line_with_its_time() {
        let lines = lines(failing());
        assert_eq!(
            lines[..3],
            [
                json!({"event": "build_started", "time": "2023-11-14T22:13:20.000Z", "name": "sdk", "steps": 3}),
                json!({"event": "step_started", "time": "2023-11-14T22:13:20.250Z", "step": "hello",
                       "container": "sdk", "attempt": 1}),
                json!({"event": "step_output", "time": "2023-11-14T22:13:20.500Z", "step": "hello",
                       "stream": "stderr", "line": "hello.c:1: error"}),
            ]
        );
        assert_eq!(
            lines[lines.len() - 1],
            json!({"event": "build_finished", "time": "2023-11-14T22:13:21.250Z", "status": "failed", "ran": 0,
                   "cached": 0, "failed": 1, "skipped": 1, "duration_ms": 1250})
        );
    }

    #[test]
    fn a_path_that_is_not_utf8_is_replaced_and_not_lost() {
        let path = PathBuf::from(OsStr::from_bytes(b"/out/\xff.squashfs"));
        let event =
            Event::SnapshotWritten { step: "a".into(), digest: "sha256:0".into(), size: 1, path, cached: false };
        assert_eq!(lines(vec![stamp(0, event)])[0]["path"], "/out/\u{fffd}.squashfs");
    }

    proptest! {
        #[test]
        fn lines_always_parse_whatever_a_step_prints(output: Vec<u8>, name in "\\PC*") {
            let line = String::from_utf8_lossy(&output).into_owned();
            let (events, receiver) = Events::channel();
            events.send(Event::StepOutput { step: name.clone(), stream: Stream::Stdout, line: line.clone() });
            events.send(Event::Warning { step: Some(name), message: line.clone() });
            drop(events);
            let mut out = Vec::new();
            super::super::run(receiver, Mode::Json, &mut out).unwrap();
            let out = String::from_utf8(out).unwrap();
            let values: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(values.len(), 2);
            prop_assert_eq!(&values[0]["line"], &json!(line));
            prop_assert_eq!(&values[1]["message"], &json!(line));
            let escape = out.contains('\u{1b}');
            prop_assert!(!escape);
        }
    }
}
