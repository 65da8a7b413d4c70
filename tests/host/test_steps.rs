//! Tests as steps: each on the root that the other steps leave, cached alone, and stopped by no other test.

use std::fs;

use serde_json::{Value, json};

use crate::built::{Built, project};
use crate::project::Project;

/// Each test looks for what the others could leave, and two of them come before the steps that they test.
const MANIFEST: &str = r"
containers: { c: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /tmp }] } }
steps:
  - { name: early, test: true, run: 'cat /made /tail; ls /tmp /mine; echo mine > /mine/file; rm /made' }
  - { name: fails, test: true, run: 'echo mine > /mine/file; echo no; exit 7' }
  - { name: make, run: 'echo made > /made; mkdir /mine' }
  - { name: layer, snapshot: { output: layer.squashfs } }
  - { name: tail, run: 'echo tail > /tail; echo left > /tmp/left' }
  - { name: late, test: true, run: 'cat /made /tail; ls /tmp /mine' }
";

fn ends(built: &Built) -> Vec<(&str, &str)> {
    let names = ["make", "layer", "tail", "early", "fails", "late"];
    names.into_iter().map(|step| (step, built.status(step))).collect()
}

fn tests(built: &Built) -> Value {
    built.all("build_finished")[0]["tests"].clone()
}

#[test]
fn each_test_starts_from_the_root_of_the_other_steps_and_is_cached_alone_until_that_changes() {
    let project = project(MANIFEST);
    let first = Built::of(&project, &[]);
    let built = [("make", "ran"), ("layer", "ran"), ("tail", "ran")];
    let ended = |early: &'static str, fails: &'static str, late: &'static str| {
        [("early", early), ("fails", fails), ("late", late)]
    };
    assert_eq!((first.run.code, ends(&first)), (1, [built, ended("ran", "failed", "ran")].concat()), "{}", first.run);
    assert_eq!(project.leftovers(first.run.pid), Vec::<String>::new());
    for test in ["early", "late"] {
        assert_eq!(first.lines(test)[..2], ["made", "tail"], "{}", first.text(test));
        assert_eq!(first.text(test).lines().count(), 5, "{}", first.text(test));
        assert_eq!(first.ending(test)["test"], json!(true));
    }
    assert_eq!((first.text("fails"), first.ending("fails")["exit_code"].as_i64()), ("no\n".into(), Some(7)));
    assert_eq!(tests(&first), json!({ "passed": 2, "cached": 0, "failed": 1, "skipped": 0 }));
    assert_eq!(first.ending("make").get("test"), None);
    // The step after the snapshot runs again, and leaves the same root.
    let cached = [("make", "cached"), ("layer", "cached"), ("tail", "ran")];
    let again = Built::of(&project, &[]);
    assert_eq!((again.run.code, ends(&again)), (1, [cached, ended("cached", "failed", "cached")].concat()));
    assert_eq!(tests(&again), json!({ "passed": 2, "cached": 2, "failed": 1, "skipped": 0 }));
    let edit = |old: &str, new: &str| {
        let text = fs::read_to_string(project.path("build.yaml")).unwrap();
        assert!(text.contains(old));
        project.write("build.yaml", &text.replace(old, new));
    };
    edit("exit 7", "exit 0");
    let mended = Built::succeed(&project);
    assert_eq!(ends(&mended), [cached, ended("cached", "ran", "cached")].concat(), "{}", mended.run);
    edit("echo tail >", "echo other >");
    let changed = Built::succeed(&project);
    assert_eq!(ends(&changed), [cached, ended("ran", "ran", "ran")].concat(), "{}", changed.run);
    edit("run: 'echo other", "cache: true, run: 'echo other");
    Built::succeed(&project);
    let all = Built::succeed(&project);
    assert!(all.all("step_finished").iter().all(|event| event["status"] == "cached"), "{}", all.run);
    let uncached = Built::of(&project, &["--no-cache"]);
    assert_eq!(ends(&uncached), [built, ended("ran", "ran", "ran")].concat(), "{}", uncached.run);
}

#[test]
fn a_test_that_fails_skips_only_the_steps_that_need_it() {
    let project = project(
        "
containers: { c: { rootfs: $TOOLS }, d: { rootfs: $TOOLS }, e: { rootfs: $TOOLS } }
steps:
  - { name: make, container: c, run: echo made > /made }
  - { name: layer, container: c, snapshot: { output: layer.squashfs } }
  - { name: bad, container: c, test: true, run: exit 1 }
  - { name: good, container: c, test: true, run: cat /made }
  - { name: after-bad, container: c, test: true, needs: [bad], run: ':' }
  - { name: release, container: e, needs: [bad], run: ':' }
  - { name: other, container: d, needs: [layer, good], run: ':' }
  - { name: last, container: d, snapshot: { output: last.squashfs } }
",
    );
    let built = Built::of(&project, &[]);
    assert_eq!(built.run.code, 1, "{}", built.run);
    for (step, status) in [
        ("bad", "failed"),
        ("good", "ran"),
        ("after-bad", "skipped"),
        ("release", "skipped"),
        ("other", "ran"),
        ("last", "ran"),
    ] {
        assert_eq!(built.status(step), status, "{step}: {}", built.run);
    }
    assert_eq!(built.reason("release"), "bad failed");
    assert!(project.path("layer.squashfs").exists() && project.path("last.squashfs").exists());
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn tests_alone_run_with_what_they_need_and_no_other_step_waits_for_them() {
    let project = project(&format!("{MANIFEST}  - {{ name: end, run: 'sleep 0.1' }}\n").replace("exit 7", "exit 0"));
    let built = Built::of(&project, &["-j", "1"]);
    let started = built.all("step_started").into_iter().map(|event| event["step"].as_str().unwrap());
    let started: Vec<&str> = started.collect();
    assert_eq!(started[..5], ["make", "layer", "tail", "end", "c:tested"], "{}", built.run);
    let alone = |arguments: &[&str]| {
        let run = project.runner(&[&["test", "--progress", "json"], arguments].concat());
        let built = Built::from_run(run);
        let mut ended: Vec<String> =
            built.all("step_finished").iter().map(|event| format!("{} {}", event["step"], event["status"])).collect();
        ended.retain(|end| !end.contains("cached"));
        (built.run.code, ended.join(", ").replace('"', ""))
    };
    assert_eq!(alone(&["--target", "late"]), (0, "tail ran, end ran, c:tested ran".to_owned()));
    let (code, ended) = alone(&["--no-cache", "-j", "1"]);
    assert!(code == 0 && ended.starts_with("make ran, layer ran, tail ran, end ran, c:tested ran, "), "{ended}");
    assert!(["early", "fails", "late"].iter().all(|test| ended.contains(test)), "{ended}");
    let refused = project.runner(&["test", "--target", "make"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.starts_with("error: the step `make` is no test\n"), "{refused}");
}

#[test]
fn plan_graph_lock_and_reports_show_tests_as_tests() {
    let project = project(MANIFEST);
    let plan = project.runner(&["plan"]).stdout;
    let line = |step: &str| plan.lines().find(|line| line.contains(&format!(" {step} "))).unwrap().to_owned();
    assert!(line("early").contains("test: cat /made") && !line("make").contains("test:"), "{plan}");
    assert!(line("c:tested").contains("snapshot: layer"), "{plan}");
    let plan: Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
    let tests: Vec<&Value> =
        plan["steps"].as_array().unwrap().iter().filter(|step| step["test"] == json!(true)).collect();
    assert_eq!(tests.iter().map(|step| step["name"].as_str().unwrap()).collect::<Vec<_>>(), ["early", "fails", "late"]);
    assert_eq!((&tests[0]["needs"], &tests[0]["container"]), (&json!(["c:tested"]), &json!("c")));
    assert!(project.runner(&["graph"]).stdout.contains("c (tests)"));
    assert!(project.runner(&["validate"]).stdout.contains("1 container, 6 steps"));
    let built = project.runner(&["apply", "--report", "r.xml", "--report", "r.html", "--report", "r.json"]);
    assert_eq!(built.code, 1, "{built}");
    assert!(built.stdout.contains("tests: 2 passed, 1 failed"), "{built}");
    let xml = fs::read_to_string(project.path("r.xml")).unwrap();
    assert!(xml.contains(r#"<testsuite name="c tests" tests="3""#), "{xml}");
    assert!(xml.contains(r#"<testcase name="fails" classname="c tests""#), "{xml}");
    assert!(xml.contains("<failure message=\"exit code 7\">exit code 7\nno</failure>"), "{xml}");
    let locked = project.runner(&["lock"]);
    assert_eq!(locked.code, 0, "{locked}");
    let lock = fs::read_to_string(project.path("runner.lock")).unwrap();
    assert!(lock.contains("step = \"layer\"") && !lock.contains("tested"), "{lock}");
    for command in [&["lock", "--check"][..], &["verify"]] {
        let run = project.runner(command);
        assert!(run.code == 0 && !run.stdout.contains("early"), "{run}");
    }
    let locked = project.runner(&["apply", "--locked"]);
    assert_eq!(locked.code, 1, "{locked}");
}

#[test]
fn tests_of_containers_without_changes_start_from_the_containers_own_root() {
    let project: Project = project(
        "
containers:
  base: { rootfs: $TOOLS }
  fixed: { rootfs: $TOOLS, read_only: true }
  on: { rootfs: { snapshot: layer } }
steps:
  - { name: make, container: base, run: echo made > /made }
  - { name: layer, container: base, snapshot: {} }
  - { name: on-snapshot, container: on, test: true, run: 'cat /made; echo more > /made' }
  - { name: again, container: on, test: true, run: 'cat /made' }
  - { name: look, container: fixed, run: ls / }
  - { name: read-only, container: fixed, test: true, run: '! touch /x' }
  - { name: every-time, container: on, test: true, always: true, retries: 1, run: '[ ! -e /tried ]; touch /tried; cat /made' }
",
    );
    let built = Built::succeed(&project);
    assert_eq!((built.text("on-snapshot"), built.text("again")), ("made\n".into(), "made\n".into()));
    let again = Built::succeed(&project);
    for (step, status) in [("on-snapshot", "cached"), ("read-only", "cached"), ("look", "ran"), ("every-time", "ran")] {
        assert_eq!(again.status(step), status, "{step}: {}", again.run);
    }
    assert!(again.all("step_finished").iter().all(|event| !event["step"].as_str().unwrap().contains(':')));
}

also_with_runc! {
    each_test_starts_from_the_root_of_the_other_steps_and_is_cached_alone_until_that_changes,
}
