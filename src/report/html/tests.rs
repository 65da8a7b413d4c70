//! The page of scripted builds.

use proptest::prelude::*;

use super::super::script::{failing, finished, passing, stamp, started};
use super::*;
use crate::event::{Event, Stamped};
use crate::graph::Graph;
use crate::plan::{Plan, fixture};

fn record(events: Vec<Stamped>) -> Record {
    let mut record = Record::default();
    events.iter().for_each(|stamped| record.event(stamped));
    record
}

/// What the page itself has of tags.
const TAGS: [&str; 28] = [
    "a", "body", "br", "circle", "code", "defs", "details", "div", "h1", "h2", "html", "marker", "p", "path", "pre",
    "rect", "span", "strong", "style", "summary", "svg", "table", "td", "text", "th", "title", "tr", "g",
];

/// Whether each tag that is opened is closed, and each is one of the page's own.
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
fn steps_that_run_at_once_have_a_lane_each_and_cached_ones_are_told_apart() {
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
fn a_log_can_be_unfolded_and_that_of_a_failed_step_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello.log");
    std::fs::write(&path, "\n</pre><script>alert(1)</script>\u{1b}[2J\n").unwrap();
    let mut events = failing();
    for stamped in &mut events {
        if let Event::StepFinished { log: Some(log), .. } = &mut stamped.event {
            log.clone_from(&path);
        }
    }
    let build = fixture::build(&[("hello", 0, &[]), ("image", 0, &[0])]);
    let graph = Graph::new(&build, &Plan::new(&build, &[]));
    let outline = ReportContext { graph, manifest: "a&b.yaml".into(), lines: [("hello".to_owned(), 7)].into() };
    let page = page(&record(events), Some(&outline));
    let log = "<details open><summary class=\"faint\">2 lines</summary><pre>\n\n\
               &lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;</pre>";
    assert!(page.contains(log) && page.contains("a&amp;b.yaml:7"), "{page}");
    assert!(page.contains("g-dot g-failed") && page.contains("g-dot g-skipped"), "{page}");
    assert!(is_well_formed(&page), "{page}");
}

#[test]
fn the_axis_has_round_numbers_and_not_too_many() {
    for whole in [1, 9, 10, 999, 6_730, 61_000, 3_600_000, 90_000_000, 1 << 50] {
        let tick = tick(whole);
        assert!(tick > 0 && whole / tick <= 10, "{whole} {tick}");
    }
    assert_eq!([axis(1500, 500), axis(5000, 1000), axis(90_000, 30_000)], ["1.5s", "5s", "1m30s"]);
}

proptest! {
    #[test]
    fn whatever_a_step_says_the_page_is_well_formed(text in "[<>&\"'/a-z=\u{1b}\n \u{202e}é]{0,40}") {
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
