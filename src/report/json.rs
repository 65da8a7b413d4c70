//! Events as JSON, one object a line: the event's fields and its time.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;

use crate::escape;
use crate::event::{Event, Stamped};

use super::Reporter;

/// Writes events as JSON lines. It reuses the time's text, since many lines have the same millisecond, and the line's
/// buffer.
#[derive(Debug, Default)]
pub(super) struct Json {
    milliseconds: u128,
    time: String,
    line: Vec<u8>,
}

/// One line of `runner apply --progress json` or of its `--log-file`: `event` is the kind of the event, and `time` is
/// its time. Later versions may add fields and events, so a reader ignores those that it does not know.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "runner event")]
struct Line<'a> {
    /// The time of the event: RFC 3339, in UTC, with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    time: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

impl Reporter for Json {
    fn event(&mut self, stamped: &Stamped, out: &mut dyn Write) -> io::Result<()> {
        let milliseconds = stamped.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        if self.time.is_empty() || self.milliseconds != milliseconds {
            (self.milliseconds, self.time) = (milliseconds, humantime::format_rfc3339_millis(stamped.time).to_string());
        }
        // One write for a line: a reader never sees half of it followed by another writer's line.
        self.line.clear();
        match &stamped.event {
            // Most lines by far are output of steps, so they are written without serde's generic path.
            Event::StepOutput { step, stream, line } => {
                self.line.extend_from_slice(b"{\"time\":\"");
                self.line.extend_from_slice(self.time.as_bytes());
                self.line.extend_from_slice(b"\",\"event\":\"step_output\",\"step\":");
                serde_json::to_writer(&mut self.line, step)?;
                self.line.extend_from_slice(b",\"stream\":");
                serde_json::to_writer(&mut self.line, stream)?;
                self.line.extend_from_slice(b",\"line\":");
                serde_json::to_writer(&mut self.line, line)?;
                self.line.push(b'}');
            }
            event => {
                let replaced = in_utf8(event);
                let event = replaced.as_ref().unwrap_or(event);
                serde_json::to_writer(&mut self.line, &Line { time: &self.time, event })?;
            }
        }
        self.line.push(b'\n');
        match str::from_utf8(&self.line).map(escape::json) {
            Ok(Cow::Owned(escaped)) => out.write_all(escaped.as_bytes()),
            _ => out.write_all(&self.line),
        }
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the text of `schemas/events.v1.schema.json`: the JSON Schema (draft 2020-12) of a line, generated from the
/// types that write it.
pub fn events_schema_text() -> String {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let schema = settings.into_generator().into_root_schema_for::<Line<'_>>().to_value();
    // Printing a value of strings, numbers and maps cannot fail; its plain form is the same schema.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_else(|_| schema.to_string());
    text.push('\n');
    text
}

/// Returns the event with the bytes of its paths that are not UTF-8 replaced, if it has any: JSON is UTF-8, and a
/// build must not lose its events because of a directory's name.
fn in_utf8(event: &Event) -> Option<Event> {
    let path = match event {
        Event::SnapshotWritten { path, .. } | Event::ExportWritten { path, .. } => path,
        Event::StepFinished { log: Some(log), .. } => log,
        _ => return None,
    };
    if path.to_str().is_some() {
        return None;
    }
    let mut event = event.clone();
    if let Event::SnapshotWritten { path, .. }
    | Event::ExportWritten { path, .. }
    | Event::StepFinished { log: Some(path), .. } = &mut event
    {
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

    use super::super::script::{failing, passing, show, stamp};
    use super::super::{Mode, ReportOutputs};
    use super::*;
    use crate::event::{CheckpointStage, Events, ImportMethod, ImportStage, ImportStatus, Stream};

    fn lines(events: Vec<Stamped>) -> Vec<Value> {
        show(events, Mode::Json).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn control_characters_are_escaped_in_output_and_in_warnings() {
        let text = "\u{9b}31m \u{85} \u{7f} \u{202e} \u{1b}[2J é";
        let output = Event::StepOutput { step: "s".into(), stream: Stream::Stdout, line: text.into() };
        let warning = Event::Warning { step: None, message: text.into() };
        for (event, field) in [(output, "line"), (warning, "message")] {
            let shown = show(vec![stamp(0, event)], Mode::Json);
            assert!(shown.trim_end().chars().all(|c| !crate::escape::is_hidden(c)), "{shown:?}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()[field], text);
        }
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
    fn a_line_of_a_step_is_serialized_like_any_other_event() {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let event = Event::StepOutput { step: "a\"b".into(), stream, line: "c\\d\u{1b}é".into() };
            let stamped = stamp(7, event);
            let line = Line { time: "2023-11-14T22:13:20.007Z", event: &stamped.event };
            assert_eq!(
                show(vec![Stamped::new(stamped.time, stamped.event.clone())], Mode::Json),
                serde_json::to_string(&line).unwrap() + "\n"
            );
        }
    }

    #[test]
    fn a_path_that_is_not_utf8_is_replaced_and_not_lost() {
        let path = PathBuf::from(OsStr::from_bytes(b"/out/\xff.squashfs"));
        let event =
            Event::SnapshotWritten { step: "a".into(), digest: "sha256:0".into(), size: 1, path, cached: false };
        assert_eq!(lines(vec![stamp(0, event)])[0]["path"], "/out/\u{fffd}.squashfs");
    }

    #[test]
    fn the_committed_schema_matches_the_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/events.v1.schema.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == events_schema_text(), "run `runner schema events > schemas/events.v1.schema.json`");
    }

    #[test]
    fn lines_match_the_schema_and_changed_lines_do_not() {
        let schema = serde_json::from_str(&events_schema_text()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let progress = |percent| Event::SnapshotProgress { step: "image".into(), bytes: 7, percent };
        let checkpoint = Event::CheckpointProgress {
            step: "packages".into(),
            stage: CheckpointStage::Written,
            bytes: 7,
            percent: Some(1),
        };
        let arrives = |total| Event::ImportProgress {
            container: "base".into(),
            source: "debian:12".into(),
            stage: ImportStage::Arrives,
            bytes: 3,
            total,
        };
        let others = [
            progress(None),
            progress(Some(99)),
            checkpoint,
            Event::PushProgress { step: "image".into(), bytes: 7, percent: 99 },
            Event::ImagePushed {
                step: "image".into(),
                image: "ghcr.io/o/n:v1@sha256:0".into(),
                digest: "sha256:0".into(),
                sent: 7,
                changed: true,
            },
            Event::CheckpointWritten { step: "packages".into(), size: 7 },
            Event::CheckpointRestored { step: "last".into(), after: "packages".into() },
            Event::BuildEstimated { left_ms: 7, untimed: 0 },
            Event::ImportStarted {
                container: "base".into(),
                source: "docker.io/library/debian:12".into(),
                method: ImportMethod::Pull,
                digest: Some("sha256:0".into()),
                size: Some(7),
            },
            arrives(None),
            arrives(Some(7)),
            Event::RequestWaits { source: "debian:12".into(), wait_ms: 2_000, reason: "it answered 429".into() },
            Event::ImportFinished {
                container: "base".into(),
                source: "https://example.org/x.tar".into(),
                method: ImportMethod::Download,
                status: ImportStatus::Done,
                digest: Some("sha256:0".into()),
                size: 7,
                duration_ms: 1,
            },
            Event::StepWaits { step: "packages".into(), cache: "/var/cache/apt".into() },
            Event::StepHasTurn { step: "packages".into() },
        ];
        let others = Vec::from(others.map(|event| stamp(0, event)));
        for line in [passing(), failing(), others].into_iter().flat_map(lines) {
            assert!(validator.is_valid(&line), "{line}: {:?}", validator.iter_errors(&line).collect::<Vec<_>>());
            for key in line.as_object().unwrap().keys() {
                let mut without = line.clone();
                without.as_object_mut().unwrap().remove(key);
                let of_import = line["event"] == "import_started" && key == "size" || key == "digest";
                let is_import = line["event"].as_str().is_some_and(|event| event.starts_with("import_"));
                let is_push = line["event"] == "push_progress";
                let optional = (["log", "percent", "total"].contains(&key.as_str()) && !is_push)
                    || (key == "reason" && line["event"] == "step_finished")
                    || (is_import && of_import)
                    || (key == "step" && line["event"] == "warning");
                assert_eq!(validator.is_valid(&without), optional, "{line} without {key}");
            }
        }
        let beyond = json!({"event": "snapshot_progress", "time": "2023-11-14T22:13:20.000Z", "step": "image", "bytes": 7,
                            "percent": 100});
        assert!(!validator.is_valid(&beyond));
        assert!(!validator.is_valid(&json!({"event": "step_begun", "time": "2023-11-14T22:13:20.000Z"})));
    }

    proptest! {
        #[test]
        fn lines_parse_for_any_output_of_a_step(output: Vec<u8>, name in "\\PC*") {
            let line = String::from_utf8_lossy(&output).into_owned();
            let (events, receiver) = Events::channel();
            events.send(Event::StepOutput { step: name.clone(), stream: Stream::Stdout, line: line.clone() });
            events.send(Event::Warning { step: Some(name), message: line.clone() });
            drop(events);
            let mut out = Vec::new();
            super::super::run(receiver, Mode::Json, &mut out, ReportOutputs::default()).display.unwrap();
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
