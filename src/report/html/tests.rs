//! Tests of the page of scripted builds.

use proptest::prelude::*;

use super::super::script::{failing, finished, passing, stamp, started};
use super::*;
use crate::cache::key::Reason;
use crate::event::{Event, Stamped};
use crate::graph::Graph;
use crate::model::{Action, Compression, Snapshot, SnapshotMode};
use crate::plan::{Plan, fixture};

fn record(events: Vec<Stamped>) -> Record {
    let mut record = Record::default();
    events.iter().for_each(|stamped| record.event(stamped));
    record
}

/// The tags of the page itself.
const TAGS: [&str; 28] = [
    "a", "body", "br", "circle", "code", "defs", "details", "div", "h1", "h2", "html", "marker", "p", "path", "pre",
    "rect", "span", "strong", "style", "summary", "svg", "table", "td", "text", "th", "title", "tr", "g",
];

/// Returns whether each opened tag is closed, and each tag is one of the page's own.
fn is_well_formed(page: &str) -> bool {
    let body = &page[page.find("<body>").unwrap()..];
    let mut open = Vec::new();
    for part in body.split('<').skip(1) {
        let Some((tag, _)) = part.split_once('>') else { return false };
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap_or_default();
        if !TAGS.contains(&name) {
            return false;
        }
        if tag.starts_with('/') {
            if name != "html" && open.pop() != Some(name) {
                return false;
            }
        } else if name != "br" && !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.is_empty()
}

#[test]
fn parallel_steps_have_a_lane_each_and_cached_ones_a_badge() {
    let mut events = passing();
    events.truncate(2);
    events.extend([
        stamp(0, started("one", "c", 1)),
        stamp(10, started("two", "c", 1)),
        stamp(100, finished("one", "c", StepStatus::Ran, 100)),
        stamp(200, started("three", "c", 1)),
        stamp(400, finished("three", "c", StepStatus::Ran, 200)),
        stamp(500, finished("two", "c", StepStatus::Failed, 490)),
    ]);
    let page = page(&record(events), None);
    let lanes: Vec<&str> = page.lines().filter(|line| line.starts_with("<div class=\"lane\">")).collect();
    assert_eq!(lanes.len(), 2, "{page}");
    assert!(lanes[0].contains("#step-one") && lanes[0].contains("#step-three"), "{page}");
    assert!(lanes[0].contains("left:40.000%;width:40.000%") && lanes[1].contains("class=\"bar failed\""), "{page}");
    assert!(page.contains("<span class=\"badge cached\">cached</span>"), "{page}");
    let fresh = page.lines().filter(|line| line.starts_with("<a class=\"badge cached\" href=\"#step-")).count();
    assert_eq!(fresh, 1, "{page}");
    assert!(is_well_formed(&page), "{page}");
}

#[test]
fn a_log_is_folded_unless_its_step_failed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hello.log");
    std::fs::write(&path, "\n</pre><script>alert(1)</script>\u{1b}[2J\n").unwrap();
    let mut events = failing();
    for stamped in &mut events {
        if let Event::StepFinished { log: Some(log), .. } = &mut stamped.event {
            log.clone_from(&path);
        }
    }
    let build = fixture::build(&[("hello", 0, &[]), ("image", 0, &[0])]);
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    let context = ReportContext { graph, manifest: "a&b.yaml".into(), lines: [("hello".to_owned(), 7)].into() };
    let page = page(&record(events), Some(&context));
    let log = "<details open><summary class=\"faint\">2 lines</summary><pre>\n\n\
               &lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;</pre>";
    assert!(page.contains(log) && page.contains("a&amp;b.yaml:7"), "{page}");
    assert!(page.contains("g-dot g-failed") && page.contains("g-dot g-skipped"), "{page}");
    assert!(is_well_formed(&page), "{page}");
}

#[test]
fn each_step_shows_its_command_and_why_it_ran_or_that_it_was_cached() {
    let mut build = fixture::build(&[("tools", 0, &[]), ("packages", 0, &[0]), ("base-layer", 0, &[1])]);
    build.steps[0].action = Action::Exec(vec!["cc".into(), "a b".into()]);
    build.steps[1].action = Action::Run("\nset -e\necho '<b>'\n".into());
    let (mode, output) = (SnapshotMode::Layer, Some("/work/out/base.squashfs".into()));
    build.steps[2].action =
        Action::Snapshot(Snapshot { mode, output, compression: Compression::Zstd, level: None, subtree: None });
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    let context = ReportContext { graph, manifest: "build.yaml".into(), lines: Default::default() };
    let mut events = passing();
    for stamped in &mut events {
        if let Event::StepStarted { step, reasons, .. } = &mut stamped.event {
            reasons.push(if step == "packages" { Reason::NeverBuilt } else { Reason::Always { step: "a<b".into() } });
        }
    }
    let page = page(&record(events), Some(&context));
    for text in [
        "<strong>tools</strong><div><code>cc &#39;a b&#39;</code></div><div class=\"faint\">taken from the store: nothing \
         that it depends on has changed</div>",
        "<details class=\"command\"><summary><code>set -e …</code></summary><pre>\nset -e\necho \
         &#39;&lt;b&gt;&#39;</pre></details><div class=\"faint\">why it ran: never built</div>",
        "<div><code>snapshot: layer → out/base.squashfs</code></div><div class=\"faint\">why it ran: step a&lt;b runs \
         always</div>",
    ] {
        assert!(page.contains(text), "{text}\n{page}");
    }
    assert!(is_well_formed(&page), "{page}");
}

#[test]
fn the_legend_explains_the_badges_and_bars_that_are_on_the_page_and_no_others() {
    let legend = |events| {
        let page = page(&record(events), None);
        let (_, after) = page.split_once("<div class=\"legend faint\">").unwrap_or_else(|| panic!("{page}"));
        let (legend, _) = after.split_once("</div>").unwrap();
        legend.lines().map(|line| line.replace("<span>", "").replace("</span>", "")).collect::<Vec<_>>()
    };
    assert_eq!(
        legend(passing()),
        [
            "<span class=\"badge ran\">ran ran in this build",
            "<span class=\"badge cached\">cached taken from the store, did not run",
            "<span class=\"sample\"> step in the timeline",
            "<span class=\"sample snapshot\"> snapshot in the timeline",
        ]
    );
    assert_eq!(
        legend(failing()),
        [
            "<span class=\"badge failed\">failed ran and failed",
            "<span class=\"badge skipped\">skipped did not begin",
            "<span class=\"sample\"> step in the timeline",
        ]
    );
    assert!(!page(&record(Vec::new()), None).contains("class=\"legend"));
}

#[test]
fn the_axis_has_at_most_ten_round_numbers() {
    for whole in [1, 9, 10, 999, 6_730, 61_000, 3_600_000, 90_000_000, 1 << 50] {
        let tick = tick(whole);
        assert!(tick > 0 && whole / tick <= 10, "{whole} {tick}");
    }
    assert_eq!([axis(1500, 500), axis(5000, 1000), axis(90_000, 30_000)], ["1.5s", "5s", "1m30s"]);
}

proptest! {
    #[test]
    fn the_page_is_well_formed_for_any_text_of_a_step(text in "[<>&\"'/a-z=\u{1b}\n \u{202e}é]{0,40}") {
        let mut events = failing();
        for stamped in &mut events {
            if let Event::StepFinished { reason, .. } = &mut stamped.event {
                *reason = Some(text.clone());
            }
        }
        events.insert(1, stamp(0, Event::Warning { step: None, message: text.clone() }));
        events.insert(2, stamp(0, Event::Warning { step: Some("hello".into()), message: text.clone() }));
        events[0].event = Event::BuildStarted { name: text, steps: 3 };
        let page = page(&record(events), None);
        prop_assert!(is_well_formed(&page), "{}", page);
    }
}
