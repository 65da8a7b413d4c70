//! Tests of the live display: a terminal's content after scripted events.

use std::cell::Cell;
use std::num::NonZeroU16;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::script::{failing, finished, output, passing, stamp, started};
use super::*;
use crate::event::{StepStatus, Stream};

/// A terminal, and a reporter that draws on it.
struct Stage {
    terminal: vt100::Parser,
    tty: Tty,
    size: Rc<Cell<Size>>,
}

impl Stage {
    fn new(columns: usize, rows: usize) -> Self {
        let size = Rc::new(Cell::new(Size { columns, rows }));
        let current = Rc::clone(&size);
        let tty = Tty::sized(false, None, Box::new(move || current.get()));
        let small = |number: usize| NonZeroU16::new(u16::try_from(number).unwrap()).unwrap();
        Self { terminal: vt100::Parser::new(small(rows), small(columns), 1000), tty, size }
    }

    fn act(&mut self, act: impl FnOnce(&mut Tty, &mut dyn Write) -> io::Result<()>) {
        let mut out = Vec::new();
        act(&mut self.tty, &mut out).unwrap();
        // The terminal driver changes line ends in this way.
        let text = String::from_utf8(out).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
        self.terminal.process(text.as_bytes());
    }

    fn event(&mut self, stamped: &Stamped) {
        self.act(|tty, out| tty.event(stamped, out));
    }

    fn draw(&mut self) {
        self.act(|tty, out| tty.draw(out));
    }

    fn lines(&self) -> Vec<String> {
        let text = self.terminal.screen().contents();
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

#[test]
fn after_a_build_only_finished_steps_and_the_totals_remain() {
    for drawn in [false, true] {
        let mut stage = Stage::new(80, 24);
        for stamped in passing() {
            stage.event(&stamped);
            if drawn && !matches!(stamped.event, Event::BuildFinished { .. }) {
                stage.draw();
                stage.draw();
            }
        }
        assert_eq!(
            stage.lines(),
            [
                "sdk: 3 steps",
                "tools  cached",
                "warning: no room",
                "left",
                "packages  done in 12.3s",
                "base-layer  done in 0.70s: /work/out/base.squashfs, 1.5 MiB",
                "build done in 13.1s: 2 ran, 1 cached",
            ]
        );
    }
}

#[test]
fn failures_are_shown_as_in_plain_mode() {
    let mut stage = Stage::new(80, 24);
    for stamped in failing() {
        stage.event(&stamped);
    }
    assert_eq!(
        stage.lines(),
        [
            "sdk: 3 steps",
            "hello  failed after 0.09s: exit code 2",
            "image  skipped: hello failed",
            "",
            "step hello failed: exit code 2",
            "  | hello.c:1: error",
            "  log: /store/logs/1/hello.log",
            "build failed in 1.25s: 0 ran, 1 failed, 1 skipped",
        ]
    );
}

#[test]
fn running_steps_are_drawn_in_place_below_the_finished_ones() {
    let mut stage = Stage::new(40, 8);
    stage.event(&stamp(0, Event::BuildStarted { name: "sdk".into(), steps: 30 }));
    for number in 0..20 {
        let step = format!("step{number}");
        stage.event(&stamp(0, started(&step, "c", 1)));
        stage.event(&stamp(0, output(&step, Stream::Stdout, "日本語\u{1b}[2J\u{1b}[H and so on and so on and on")));
        stage.draw();
        if number > 1 {
            let before = format!("step{}", number - 2);
            stage.event(&stamp(0, finished(&before, "c", StepStatus::Ran, 10)));
        }
        stage.draw();
    }
    let lines = stage.lines();
    assert_eq!(lines.len(), 8, "{lines:#?}");
    let finished: Vec<&str> = lines[..4].iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(finished, ["step14", "step15", "step16", "step17"], "{lines:#?}");
    assert!(lines[4].starts_with("step18") && lines[4].contains("日本語 and"), "{lines:#?}");
    assert!(lines[5].starts_with("step19"), "{lines:#?}");
    assert!(lines[6].contains("18 done, 2") && lines[7] == "10 left", "{lines:#?}");
}

#[test]
fn a_line_of_a_finished_step_that_wraps_replaces_all_text_below_it() {
    for reason in 1..50 {
        let mut stage = Stage::new(40, 12);
        stage.event(&stamp(0, Event::BuildStarted { name: "sdk".into(), steps: 9 }));
        for step in ["one", "two", "three"] {
            stage.event(&stamp(0, started(step, "c", 1)));
            stage.event(&stamp(0, output(step, Stream::Stdout, &"x".repeat(60))));
        }
        stage.draw();
        let mut failed = finished("one", "c", StepStatus::Failed, 10);
        if let Event::StepFinished { reason: shown, .. } = &mut failed {
            *shown = Some("y".repeat(reason));
        }
        stage.event(&stamp(0, failed));
        stage.draw();
        let lines = stage.lines();
        let whole = format!("one    failed after 0.01s: {}", "y".repeat(reason));
        // The terminal knows that it wrapped the line, and returns it as one.
        assert_eq!(lines[1], whole, "{lines:#?}");
        assert!(lines[2].starts_with("two"), "{lines:#?}");
    }
}

#[test]
fn lines_that_a_narrower_terminal_wrapped_are_replaced_whole() {
    let mut stage = Stage::new(80, 24);
    stage.event(&stamp(0, Event::BuildStarted { name: "sdk".into(), steps: 2 }));
    stage.event(&stamp(0, started("one", "c", 1)));
    stage.event(&stamp(0, output("one", Stream::Stdout, &"x".repeat(100))));
    stage.draw();
    stage.size.set(Size { columns: 40, rows: 24 });
    let mut out = Vec::new();
    stage.tty.draw(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    // The step's line of 79 columns has become two rows, the total's of 44 or so as well.
    assert!(text.starts_with("\u{1b}[?2026h\r\u{1b}[3A"), "{text:?}");
}

#[test]
fn output_between_two_drawings_draws_nothing() {
    let mut tty = Tty::sized(false, None, Box::new(|| Size { columns: 80, rows: 24 }));
    let mut out = Vec::new();
    tty.event(&stamp(0, started("a", "c", 1)), &mut out).unwrap();
    assert!(tty.draw_at().is_some_and(|at| at <= Instant::now()));
    tty.draw(&mut out).unwrap();
    let drawn = out.len();
    for _ in 0..1000 {
        tty.event(&stamp(0, output("a", Stream::Stdout, "line")), &mut out).unwrap();
    }
    assert_eq!(out.len(), drawn);
    assert!(tty.draw_at().is_some_and(|at| at > Instant::now()));
}

proptest! {
    #[test]
    fn the_total_is_the_last_line_for_any_output_of_a_step(
        texts in proptest::collection::vec("[\u{1b}\\[0-9;mJHABK\r\t日é😀\u{301}\u{fe0f}❤a ]{0,60}", 1..6),
        columns in 32..60usize,
    ) {
        let mut stage = Stage::new(columns, 10);
        stage.event(&stamp(0, Event::BuildStarted { name: "sdk".into(), steps: 2 }));
        stage.event(&stamp(0, started("one", "c", 1)));
        for text in &texts {
            stage.event(&stamp(0, output("one", Stream::Stdout, text)));
            stage.draw();
        }
        let lines = stage.lines();
        prop_assert_eq!(&lines[0], "sdk: 2 steps");
        prop_assert!(lines[1].starts_with("one"), "{:?}", lines);
        prop_assert!(lines.last().unwrap().ends_with("left"), "{:?}", lines);
        prop_assert!(lines.len() <= 4, "{:?}", lines);
    }
}
