//! The page of a report in a browser: everything that a person looks for is there, in a wide window and a narrow one, light and
//! dark.
//!
//! `cargo test --locked --test page` runs it; `cargo test` alone does not, because it needs Chromium (`apt-get install
//! chromium`).
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod browser;
#[path = "../host/built.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod built;
#[path = "../host/caller_signals.rs"]
mod caller_signals;
#[path = "../host/project.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod project;
#[path = "../host/runtime.rs"]
#[expect(dead_code, unused_macros, reason = "other tests use the rest")]
mod runtime;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::built::{Gate, Running, project};

const LOOK: &str = include_str!("look.js");

const LONG: &str = "a-step-whose-name-is-so-long-that-no-window-of-a-telephone-has-room-for-all-of-it";

const MANIFEST: &str = r#"
mounts: { $GATE }
containers:
  base: { rootfs: $TOOLS }
  left: { rootfs: { snapshot: layer }, mounts: [gate] }
  right: { rootfs: $TOOLS, mounts: [gate] }
steps:
  - { name: write, container: base, run: "echo '<b>&amp;</b>' > /file" }
  - { name: layer, container: base, snapshot: { output: out/layer.squashfs } }
  - { name: one, container: left, run: "echo '</pre><script>document.title = 1</script>'; sh /gate/meet one" }
  - { name: image, container: left, snapshot: { mode: full, output: out/a-folder/of-a-long-name/image.squashfs } }
  - { name: two, container: right, run: "head -c 2000 /dev/zero | tr '\\0' x; echo; sh /gate/meet two" }
  - { name: $LONG, container: right, run: "echo '<img src=http://192.0.2.1/x.png>'; exit 7" }
  - { name: never, container: right, run: "true" }
"#;

#[test]
fn a_report_is_whole_and_readable_in_a_wide_window_and_a_narrow_one_in_light_and_in_dark() {
    let project = project(&MANIFEST.replace("$LONG", LONG));
    let gate = Gate::new(&project);
    let first = project.runner(&["apply", "--target", "layer"]);
    assert_eq!(first.code, 0, "{first}");
    let running = Running::start(&project, &["-j", "4", "--keep-going", "--report", "report.html"]);
    // Both have begun before either ends.
    for step in ["one", "two"] {
        gate.await_step(step);
    }
    for step in ["one", "two"] {
        gate.open(step);
    }
    let built = running.end();
    assert_eq!(built.run.code, 1, "{}", built.run);

    let mut browser = Browser::start(&project.path("browser"));
    let report = project.path("report.html");
    for (width, scheme, background) in [(1280, "light", "rgb(255, 255, 255)"), (1280, "dark", "rgb(13, 17, 23)")] {
        browser.open(&report, width, scheme);
        look(&mut browser, width, background);
    }
    browser.open(&report, 390, "light");
    look(&mut browser, 390, "rgb(255, 255, 255)");
    browser.close();
}

#[track_caller]
fn look(browser: &mut Browser, width: u32, background: &str) {
    let seen = browser.value(LOOK);
    for method in ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"] {
        assert_eq!(browser.events(method), Vec::<&Value>::new());
    }
    let loaded: Vec<&str> = browser
        .events("Network.requestWillBeSent")
        .iter()
        .map(|request| request["request"]["url"].as_str().unwrap())
        .collect();
    assert!(loaded.len() == 1 && loaded[0].ends_with("/report.html"), "{loaded:?}");

    assert_eq!(seen["width"], width);
    assert_eq!(seen["whole"], seen["room"], "something is wider than the window");
    assert_eq!((&seen["wide"], &seen["faint"]), (&json!([]), &json!([])));
    assert_eq!(seen["background"], background);

    let rows = json!({
        "write": "cached", "layer": "cached", "one": "ran", "image": "ran", "two": "ran", LONG: "failed",
        "never": "skipped",
    });
    assert_eq!(seen["rows"], rows);
    let colours = seen["colours"].as_object().unwrap();
    let different: std::collections::BTreeSet<&str> = colours.values().map(|c| c.as_str().unwrap()).collect();
    assert_eq!((colours.len(), different.len()), (4, 4), "{colours:?}");
    let fresh =
        [("write", "#step-write"), ("layer", "#step-layer")].map(|(name, hash)| json!([name, hash, colours["cached"]]));
    assert_eq!(seen["fresh"], json!(fresh));
    for text in ["base", "left", "right", "snapshot: layer", LONG] {
        assert!(seen["graph"].as_array().unwrap().contains(&json!(text)), "{text}: {:#}", seen["graph"]);
    }
    let legend = [
        "ran ran in this build",
        "cached taken from the store, did not run",
        "failed ran and failed",
        "skipped did not begin",
        "step in the timeline",
        "snapshot in the timeline",
    ];
    assert_eq!(seen["legend"], json!(legend));
    for text in ["snapshot is the root of", "in the store", "ran", "failed", "skipped"] {
        assert!(seen["graph"].as_array().unwrap().contains(&json!(text)), "{text}: {:#}", seen["graph"]);
    }
    let stored = "taken from the store: nothing that it depends on has changed";
    for (step, command, why) in [
        ("write", "echo '<b>&amp;</b>' > /file", stored),
        ("layer", "snapshot: layer → out/layer.squashfs", stored),
        ("one", "echo '</pre><script>document.title = 1</script>'; sh /gate/meet one", "why it ran: "),
        (LONG, "echo '<img src=http://192.0.2.1/x.png>'; exit 7", "exit code 7"),
    ] {
        let about = seen["about"][step].as_str().unwrap();
        assert!(about.contains(command) && about.contains(why), "{about}");
    }
    timeline(&seen);
    logs(&seen["logs"]);
}

/// A bar for each step that ran, within the axis; in a lane one after the other, and parallel steps in two.
#[track_caller]
fn timeline(seen: &Value) {
    let number = |value: &Value| value.as_f64().unwrap();
    let [from, to] = [0, 1].map(|end| number(&seen["axis"][end]));
    let mut lane_of = std::collections::BTreeMap::new();
    let mut floor = 0.0;
    for (lane, bars) in seen["lanes"].as_array().unwrap().iter().enumerate() {
        let bars = bars.as_array().unwrap();
        for bar in bars {
            let name = bar["name"].as_str().unwrap();
            assert_eq!(lane_of.insert(name, (lane, number(&bar["left"]), number(&bar["right"]))), None, "{bar:#}");
            assert_eq!(
                (&bar["hash"], &bar["colour"]),
                (&json!(format!("#step-{name}")), &seen["colours"][seen["rows"][name].as_str().unwrap()])
            );
            assert!(from - 0.5 <= number(&bar["left"]) && number(&bar["right"]) <= to + 0.5, "{from} {to} {bar:#}");
            assert!(number(&bar["top"]) >= floor, "{floor} {bar:#}");
        }
        for pair in bars.windows(2) {
            assert!(number(&pair[0]["right"]) <= number(&pair[1]["left"]) + 0.5, "{pair:#?}");
        }
        floor = number(&bars[0]["bottom"]);
    }
    let mut names: Vec<&str> = lane_of.keys().copied().collect();
    names.sort_unstable();
    assert_eq!(names, [LONG, "image", "one", "two"]);
    let ((one, left, right), (two, begin, end)) = (lane_of["one"], lane_of["two"]);
    assert!(one != two && left < end && begin < right, "{lane_of:?}");
}

/// The log of the failed step is open, the others unfold; the output of a step is text.
#[track_caller]
fn logs(logs: &Value) {
    let logs = logs.as_array().unwrap();
    for (text, is_open) in [
        ("<script>document.title = 1</script>", false),
        ("xxxxxxxxxx", false),
        ("<img src=http://192.0.2.1/x.png>", true),
    ] {
        let log = logs.iter().find(|log| log["text"].as_str().unwrap().contains(text));
        let log = log.unwrap_or_else(|| panic!("{text}: {logs:#?}"));
        let states = (&log["before"], &log["after"]);
        assert_eq!(states, (&json!([is_open, is_open]), &json!([!is_open, !is_open])), "{text}");
    }
    assert_eq!(logs.len(), 3);
}
