//! The events of real builds, compared with their schema field by field, and written beside a display.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::built::{Built, Gate, Running, project, wait_for};
use crate::registry::FaultyRegistry;

const MANIFEST: &str = r#"
containers:
  c: { rootfs: $TOOLS }
  next: { rootfs: { snapshot: layer } }
steps:
  - { name: once, container: c, run: "printf 'out \\377'; echo err >&2" }
  - { name: layer, container: c, snapshot: {} }
  - { name: again, container: next, run: "false", retries: 1 }
  - { name: never, container: next, run: "true" }
"#;

/// Returns a build of a step that takes two seconds, with an estimate from the build before.
fn estimated() -> Built {
    let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: slow, run: sleep 2 }]\n");
    Built::succeed(&project);
    Built::of(&project, &["--no-cache"])
}

/// An image that takes some time, so that its progress is reported, and an export.
const LARGE: &str = r#"
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: large, run: "dd if=/dev/urandom of=/data bs=1M count=24" }
  - { name: image, snapshot: { compression: xz } }
  - { name: file, export: { format: files, path: /data, output: data } }
"#;

/// A step with a checkpoint after it, and one that fails.
const CHECKPOINT: &str = r#"
containers:
  c: { rootfs: $TOOLS, checkpoint: 1ms }
steps:
  - { name: slow, run: "echo > /file; sleep 0.1" }
  - { name: fails, run: "false" }
  - { name: layer, snapshot: {} }
"#;

/// Returns the properties that the schema has for each kind of event.
fn known(schema: &Value) -> Vec<(String, BTreeSet<String>)> {
    let common: Vec<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    let variants = schema["oneOf"].as_array().unwrap().iter().map(|variant| {
        let properties = variant["properties"].as_object().unwrap();
        let kind = properties["event"]["const"].as_str().unwrap().to_owned();
        for (name, property) in properties {
            let has_description = name == "event" || property.get("description").is_some();
            assert!(has_description, "{kind}.{name} has no description");
        }
        (kind, properties.keys().chain(&common).cloned().collect())
    });
    variants.collect()
}

/// One of the two steps waits for the other, which has locked the cache until the gate is open.
const WAITING: &str = r#"
mounts: { $GATE, cache: { type: cache, id: db, target: /db, sharing: locked } }
containers:
  a: { rootfs: $TOOLS, mounts: [gate, cache] }
  b: { rootfs: $TOOLS, mounts: [gate, cache] }
steps:
  - { name: one, container: a, run: sh /gate/meet turn }
  - { name: two, container: b, run: sh /gate/meet turn }
"#;

/// Returns a build that pushes an image to a registry that takes its time.
fn pushing() -> Vec<Value> {
    let registry = FaultyRegistry::start();
    registry.set(Some(Box::new(|request| {
        if request.method == "POST" {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        None
    })));
    let export = format!("export: {{ format: oci, push: '{}/x' }}", registry.server.address);
    let project =
        project(&format!("containers: {{ c: {{ rootfs: $TOOLS }} }}\nsteps: [{{ name: image, {export} }}]\n"));
    Built::succeed(&project).events
}

fn waiting() -> Vec<Value> {
    let project = project(WAITING);
    let gate = Gate::new(&project);
    let build = Running::start(&project, &["-j", "2", "--log-file", "events.jsonl"]);
    wait_for("a step to wait", || {
        let text = fs::read_to_string(project.path("events.jsonl")).unwrap_or_default();
        text.contains("\"step_waits\"").then_some(())
    });
    gate.open("turn");
    build.end().events
}

#[test]
fn each_event_of_a_build_is_as_the_schema_says_and_has_no_other_field() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/events.v1.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let known = known(&schema);
    let (failing, project) = (project(CHECKPOINT), project(MANIFEST));
    let first = Built::of(&project, &[]);
    let built = Built::of(&project, &["--no-cache"]);
    assert_eq!((first.run.code, built.run.code), (1, 1), "{}", built.run);
    let checkpoints = [(); 2].map(|()| Built::of(&failing, &[]).events);
    let (waiting, estimated, large, pushing) =
        (waiting(), estimated().events, Built::succeed(&crate::built::project(LARGE)).events, pushing());
    let pulled = crate::pulls::slow_events();
    let mut kinds = BTreeSet::new();
    for event in first
        .events
        .iter()
        .chain(&built.events)
        .chain(checkpoints.iter().flatten())
        .chain(&waiting)
        .chain(&estimated)
        .chain(&large)
        .chain(&pulled)
        .chain(&pushing)
    {
        let errors: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{event}: {errors:?}");
        let (kind, fields) = known.iter().find(|(kind, _)| event["event"] == *kind).unwrap();
        for field in event.as_object().unwrap().keys() {
            assert!(fields.contains(field), "{field} of {event}");
        }
        kinds.insert(kind.clone());
    }
    let all: BTreeSet<String> = known.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, all, "{}", built.run);
}

#[test]
fn the_log_file_has_the_events_with_any_display_and_after_its_end() {
    for mode in ["plain", "tty", "quiet", "json"] {
        let project = project(MANIFEST);
        let run = project.runner(&["apply", "--progress", mode, "--log-file", "events.jsonl"]);
        assert_eq!(run.code, 1, "{run}");
        let text = fs::read_to_string(project.path("events.jsonl")).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events[0]["event"], "build_started");
        assert_eq!(events[events.len() - 1]["event"], "build_finished");
        if mode == "json" {
            assert_eq!(text, run.stdout);
        }
    }
    let project = project(MANIFEST);
    let run =
        project.runner_in_shell("\"$@\" | head -n 1", &["apply", "--log-file", "events.jsonl", "--target", "once"]);
    assert_eq!(run.code, 0, "{run}");
    let text = fs::read_to_string(project.path("events.jsonl")).unwrap();
    assert!(text.lines().last().unwrap().contains("build_finished"), "{text}");
    let run = project.runner(&["apply", "--log-file", "no/such/folder"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{run}");
    assert!(
        run.stderr.contains("cannot write the log file no/such/folder: the directory no/such does not exist"),
        "{run}"
    );
    let run = project.runner(&["apply", "--log-file", "/dev/full", "--target", "once", "--progress", "quiet"]);
    assert_eq!((run.code, run.stdout.as_str()), (3, ""), "{run}");
    assert!(run.stderr.contains("write /dev/full: No space left on device"), "{run}");
}

#[test]
fn a_step_that_prints_nothing_has_its_exit_code_and_a_snapshot_has_none() {
    let project = project(
        "containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: silent, run: touch /f }, { name: layer, snapshot: {} }]\n",
    );
    let built = Built::succeed(&project);
    assert_eq!(built.ending("silent")["exit_code"], 0, "{}", built.run);
    assert_eq!(built.ending("layer")["exit_code"], Value::Null, "{}", built.run);
}

#[test]
fn the_remaining_time_is_reported_while_the_only_step_runs() {
    let built = estimated();
    let kinds: Vec<&str> = built.events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let place =
        |kind: &str| kinds.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(place("step_started") < place("build_estimated"), "{}", built.run);
    assert!(place("build_estimated") < place("step_finished"), "{}", built.run);
}

#[test]
fn a_step_whose_results_are_in_the_store_is_no_part_of_the_remaining_time() {
    let project = project(
        "containers: { c: { rootfs: $TOOLS }, cached: { rootfs: $TOOLS } }\n\
         steps:\n\
         - { name: slow, container: c, run: sleep 3 }\n\
         - { name: long, container: cached, run: sleep 0 }\n\
         - { name: layer, container: cached, snapshot: {} }\n",
    );
    Built::succeed(&project);
    let timings = fs::read_dir(project.store().join("timings")).unwrap().next().unwrap().unwrap().path();
    let mut stored: Value = serde_json::from_str(&fs::read_to_string(&timings).unwrap()).unwrap();
    const LONG: u64 = 1_000_000_000;
    stored["projects"][0]["steps"]["long"] = serde_json::json!({ "next_ms": LONG, "end_ms": LONG });
    fs::write(&timings, stored.to_string()).unwrap();
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    project.write("build.yaml", &manifest.replace("sleep 3", "sleep 3.0"));
    let built = Built::of(&project, &["--jobs", "1"]);
    let estimates = built.all("build_estimated");
    let left = estimates.last().unwrap_or_else(|| panic!("{}", built.run))["left_ms"].as_u64().unwrap();
    assert!(left < LONG, "{}", built.run);
    assert_eq!(built.ending("long")["status"], "cached", "{}", built.run);
}
