//! Which results are taken from the store and which are not, and the reasons in the output.

mod at_once;
mod behaviour;
mod case;
mod forecast;
mod inputs;
mod killed;
mod moments;
mod outside_key;
mod own_files;
mod parents;
mod same;
mod table;
mod unordered;

use std::fs;

use serde_json::Value;

use crate::built::Built;
use crate::project::Project;

/// Returns the statuses of all steps, in the order of their names: `a=ran b=cached`.
pub fn statuses(built: &Built) -> String {
    let mut ended: Vec<String> = built
        .all("step_finished")
        .iter()
        .map(|event| format!("{}={}", event["step"].as_str().unwrap(), event["status"].as_str().unwrap()))
        .collect();
    ended.sort();
    ended.join(" ")
}

/// Returns why a step ran, by the event of its start; null where it did not run, or without a reason.
#[track_caller]
pub fn reasons(built: &Built, step: &str) -> Value {
    let started = built.all("step_started").into_iter().find(|event| event["step"] == step);
    started.map_or(Value::Null, |event| event["reasons"].clone())
}

/// Returns each step of the plan: its name, whether it is fresh, and why not.
#[track_caller]
pub fn planned(project: &Project) -> Vec<(String, bool, Value)> {
    let run = project.runner(&["plan", "--json"]);
    assert_eq!(run.code, 0, "{run}");
    let plan: Value = serde_json::from_str(&run.stdout).unwrap();
    let step = |step: &Value| {
        (step["name"].as_str().unwrap().to_owned(), step["fresh"].as_bool().unwrap(), step["reasons"].clone())
    };
    plan["steps"].as_array().unwrap().iter().map(step).collect()
}

/// Returns the digests of all snapshots, by step.
pub fn digests(built: &Built) -> Vec<(String, String)> {
    let written = built.all("snapshot_written");
    let mut digests: Vec<(String, String)> = written
        .iter()
        .map(|event| (event["step"].as_str().unwrap().to_owned(), event["digest"].as_str().unwrap().to_owned()))
        .collect();
    digests.sort();
    digests
}

/// Returns the messages of all warnings.
pub fn warnings(built: &Built) -> Vec<String> {
    built.all("warning").iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// Builds, and fails the test if that fails.
#[track_caller]
pub fn apply(project: &Project, arguments: &[&str]) -> Built {
    let built = Built::of(project, arguments);
    assert_eq!(built.run.code, 0, "{}", built.run);
    built
}

/// Changes the manifest.
#[track_caller]
pub fn edit(project: &Project, from: &str, to: &str) {
    let path = project.path("build.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Returns a number of the event of the build's end.
pub fn count(built: &Built, field: &str) -> u64 {
    built.events.last().unwrap()[field].as_u64().unwrap()
}
