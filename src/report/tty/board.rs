//! What is known of a build under way, and the lines that show it; pure.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::event::{Event, Stamped, StepStatus};

use super::super::colour::{Colour, Paint};
use super::super::sanitize::sanitize;
use super::super::{ending, words};
use super::screen::Size;
use super::total::{Total, milliseconds};
use crate::columns::{fit, width};

/// As much of a step's last line is kept; no terminal is as wide.
const LINE_BYTES: usize = 4096;

/// Columns between a name, a time and a line.
const GAP: usize = 2;

/// Follows the events of a build.
#[derive(Debug)]
pub(super) struct Board {
    paint: Paint,
    /// Paths inside it are shown from there.
    folder: PathBuf,
    total: Total,
    /// Of the longest name so far, in columns.
    name_width: usize,
    running: Vec<Running>,
    /// Images of steps that are not running, until those are over.
    images: Vec<(String, String)>,
}

/// A step between its beginning and its end.
#[derive(Debug)]
struct Running {
    step: String,
    begun: SystemTime,
    attempt: u32,
    /// The last line that it printed and that is not blank, as it came.
    line: String,
    /// Bytes of its image so far, and how much of all that is.
    written: Option<(u64, Option<u8>)>,
    /// Its image.
    image: Option<String>,
}

impl Board {
    pub(super) fn new(paint: Paint, folder: PathBuf) -> Self {
        Self { paint, folder, total: Total::default(), name_width: 0, running: Vec::new(), images: Vec::new() }
    }

    /// Takes an event; gives the lines to put above what is running, if any.
    pub(super) fn event(&mut self, Stamped { time, event, .. }: &Stamped) -> Option<String> {
        match event {
            Event::BuildStarted { name, steps } => {
                self.total.begins(*time, *steps);
                Some(format!("{}: {steps} {}", sanitize(name), if *steps == 1 { "step" } else { "steps" }))
            }
            Event::StepStarted { step, attempt, reasons, .. } => {
                self.name_width = self.name_width.max(width(step));
                match self.running(step) {
                    Some(running) => (running.attempt, running.line) = (*attempt, String::new()),
                    None => self.running.push(Running {
                        step: step.clone(),
                        begun: *time,
                        attempt: *attempt,
                        line: words::why(reasons).map(|why| format!("runs: {why}")).unwrap_or_default(),
                        written: None,
                        image: None,
                    }),
                }
                None
            }
            Event::StepOutput { step, line, .. } => {
                self.running(step)?.printed(line);
                None
            }
            Event::SnapshotProgress { step, bytes, percent } => {
                self.running(step)?.written = Some((*bytes, *percent));
                None
            }
            Event::BuildEstimated { left_ms, untimed } => {
                self.total.estimated(*left_ms, *untimed);
                None
            }
            Event::SnapshotWritten { step, size, path, .. } => {
                let path = path.strip_prefix(&self.folder).unwrap_or(path);
                let image = format!("{}, {}", path.display(), words::size(*size));
                match self.running(step) {
                    Some(running) => running.image = Some(image),
                    // From the store: it never began.
                    None => self.images.push((step.clone(), image)),
                }
                None
            }
            Event::StepFinished { step, status, exit_code, duration_ms, reason, .. } => {
                Some(self.finished(step, *status, *exit_code, *duration_ms, reason.as_deref()))
            }
            Event::Warning { step, message } => {
                let lead = step.as_ref().map(|step| format!("{}: ", sanitize(step))).unwrap_or_default();
                let lines = message.lines().map(sanitize).collect::<Vec<_>>().join("\n");
                Some(self.paint.text(Some(Colour::Yellow), &format!("{lead}warning: {lines}")).into_owned())
            }
            Event::BuildFinished { .. } => None,
        }
    }

    fn running(&mut self, step: &str) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.step == step)
    }

    fn finished(
        &mut self,
        step: &str,
        status: StepStatus,
        exit_code: Option<i32>,
        duration_ms: u64,
        reason: Option<&str>,
    ) -> String {
        self.total.is_over(status);
        self.name_width = self.name_width.max(width(step));
        let at = self.running.iter().position(|running| running.step == step);
        let image = match at {
            Some(at) => self.running.remove(at).image,
            None => {
                let at = self.images.iter().position(|(known, _)| known == step);
                at.map(|at| self.images.swap_remove(at).1)
            }
        };
        // All of a long reason is told at the end.
        let (colour, text) =
            ending::of_step(status, exit_code, duration_ms, reason.and_then(|reason| reason.lines().next()));
        let image = image.map(|image| format!(": {}", sanitize(&image))).unwrap_or_default();
        let text = format!("{}{image}", sanitize(&text));
        let name = sanitize(step);
        let padding = " ".repeat(self.name_width.saturating_sub(width(&name)) + GAP);
        format!("{name}{padding}{}", self.paint.text(Some(colour), &text))
    }

    /// The lines that show what is running now, the last of them the total; none as wide as the terminal, and fewer than
    /// it has rows.
    pub(super) fn frame(&self, now: SystemTime, size: Size) -> Vec<String> {
        let columns = size.columns.saturating_sub(1);
        let bold = |line: String| self.paint.text(Some(Colour::Bold), &fit(&line, columns)).into_owned();
        let total: Vec<String> = self.total.lines(self.running.len(), now, columns).into_iter().map(bold).collect();
        let room = size.rows.saturating_sub(total.len() + 1);
        let shown = if self.running.len() > room { room.saturating_sub(1) } else { self.running.len() };
        let mut lines: Vec<String> =
            self.running[..shown].iter().map(|running| self.row(running, now, columns)).collect();
        let hidden = self.running.len() - shown;
        if hidden > 0 && room > 0 {
            lines.push(fit(&format!("… and {hidden} more"), columns));
        }
        lines.extend(total);
        lines
    }

    fn row(&self, running: &Running, now: SystemTime, columns: usize) -> String {
        let name_width = self.name_width.min((columns / 3).max(8));
        let name = fit(&running.step, name_width.min(columns));
        let time = format!("{:>6}", words::clock(milliseconds(running.begun, now)));
        let lead = width(&name).max(name_width) + GAP + width(&time) + GAP;
        if lead >= columns {
            return fit(&format!("{name} {time}"), columns);
        }
        let padding = " ".repeat(name_width.saturating_sub(width(&name)) + GAP);
        let name = self.paint.text(Some(Colour::Cyan), &name);
        let time = self.paint.text(Some(Colour::Faint), &time);
        format!("{name}{padding}{time}{}{}", " ".repeat(GAP), fit(&running.now(columns - lead), columns - lead))
            .trim_end()
            .to_owned()
    }
}

impl Running {
    fn printed(&mut self, line: &str) {
        let short = if line.len() > LINE_BYTES { line.rsplit('\r').next().unwrap_or(line) } else { line };
        if short.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return;
        }
        self.line.clear();
        self.line.push_str(&short[..short.floor_char_boundary(LINE_BYTES.min(short.len()))]);
    }

    /// What it does now, as far as that is known; in fewer words where these have no room.
    fn now(&self, columns: usize) -> String {
        let again = if self.attempt > 1 { format!("(try {}) ", self.attempt) } else { String::new() };
        let Some((bytes, percent)) = self.written else { return format!("{again}{}", sanitize(&self.line)) };
        let size = words::size(bytes);
        let (long, short) = match percent {
            Some(percent) => (format!("{percent}% of the image, {size}"), format!("{percent}%, {size}")),
            None => (format!("{size} of the image written"), size),
        };
        again + if width(&long) <= columns { &long } else { &short }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::super::script::{finished, output, stamp, started};
    use super::*;
    use crate::event::Stream;

    fn at(milliseconds: u64) -> SystemTime {
        stamp(milliseconds, Event::BuildStarted { name: String::new(), steps: 0 }).time
    }

    fn size(columns: usize, rows: usize) -> Size {
        Size { columns, rows }
    }

    /// Three steps begun, one of them a snapshot, and one over.
    fn board() -> Board {
        let mut board = Board::new(Paint(false), "/work".into());
        let progress = Event::SnapshotProgress { step: "base-layer".into(), bytes: 3 << 20, percent: Some(41) };
        for (milliseconds, event) in [
            (0, Event::BuildStarted { name: "sdk".into(), steps: 9 }),
            (0, started("packages", "base", 1)),
            (100, finished("packages", "base", StepStatus::Ran, 100)),
            (200, started("base-layer", "base", 1)),
            (300, started("compile-everything", "sdk", 1)),
            (400, output("compile-everything", Stream::Stdout, "[ 50%] Building CXX object lib/日本語/long/name.o")),
            (400, output("compile-everything", Stream::Stdout, "")),
            (450, started("again", "sdk", 1)),
            (460, started("again", "sdk", 2)),
            (500, progress),
        ] {
            board.event(&stamp(milliseconds, event));
        }
        board
    }

    #[test]
    fn at_80_columns_each_step_has_its_time_and_its_last_line() {
        assert_eq!(
            board().frame(at(65_300), size(80, 24)),
            [
                "base-layer           1m05s  41% of the image, 3.0 MiB",
                "compile-everything   1m05s  [ 50%] Building CXX object lib/日本語/long/name.o",
                "again                1m05s  (try 2)",
                "1m05s elapsed, 1 done, 3 running, 5 left",
            ]
        );
    }

    #[test]
    fn at_40_columns_names_and_lines_are_cut_and_the_total_takes_two_lines() {
        assert_eq!(
            board().frame(at(12_300), size(40, 24)),
            [
                "base-layer      12.1s  41%, 3.0 MiB",
                "compile-ever…   12.0s  [ 50%] Building…",
                "again           11.8s  (try 2)",
                "12.3s elapsed, 1 done, 3 running,",
                "5 left",
            ]
        );
    }

    #[test]
    fn an_image_tells_its_share_once_that_is_known_and_its_size_in_any_case() {
        let mut board = board();
        for (percent, columns, told) in [
            (None, 80, "2.5 GiB of the image written"),
            (Some(7), 80, "7% of the image, 2.5 GiB"),
            (None, 40, "2.5 GiB"),
            (Some(99), 40, "99%, 2.5 GiB"),
            (Some(99), 28, "99%, 2.…"),
        ] {
            board.event(&stamp(500, Event::SnapshotProgress { step: "base-layer".into(), bytes: 5 << 29, percent }));
            let frame = board.frame(at(1_000), size(columns, 24));
            assert!(frame[0].ends_with(&format!("0.8s  {told}")), "{frame:#?}");
        }
    }

    #[test]
    fn a_wide_name_leaves_the_image_its_columns() {
        let mut board = board();
        board.event(&stamp(600, started("日本語の長い名前のステップ", "base", 1)));
        let progress =
            Event::SnapshotProgress {
                step: "日本語の長い名前のステップ".into(), bytes: 1 << 20, percent: Some(5)
            };
        board.event(&stamp(700, progress));
        for (columns, line) in [
            (80, "日本語の長い名前のステップ    0.4s  5% of the image, 1.0 MiB"),
            (40, "日本語の長い…    0.4s  5%, 1.0 MiB"),
        ] {
            let frame = board.frame(at(1_000), size(columns, 24));
            assert_eq!(frame[3], line);
        }
    }

    #[test]
    fn what_has_no_row_is_counted() {
        let frame = board().frame(at(1_000), size(80, 4));
        assert_eq!(frame.len(), 3);
        assert!(frame[0].starts_with("base-layer") && frame[1] == "… and 2 more", "{frame:?}");
    }

    #[test]
    fn a_finished_step_is_one_line_and_a_snapshot_tells_its_image() {
        let mut board = board();
        let mut failed = finished("compile-everything", "sdk", StepStatus::Failed, 900);
        if let Event::StepFinished { reason, .. } = &mut failed {
            *reason = Some("one\ntwo".into());
        }
        let line = board.event(&stamp(600, failed));
        assert_eq!(line.as_deref(), Some("compile-everything  failed after 0.90s: one"));
        let written = Event::SnapshotWritten {
            step: "base-layer".into(),
            digest: "sha256:00".into(),
            size: 1_572_864,
            path: "/work/out/base.squashfs".into(),
            cached: false,
        };
        assert_eq!(board.event(&stamp(700, written)), None);
        let line = board.event(&stamp(800, finished("base-layer", "base", StepStatus::Ran, 600)));
        assert_eq!(line.as_deref(), Some("base-layer          done in 0.60s: out/base.squashfs, 1.5 MiB"));
    }

    proptest! {
        #[test]
        fn no_line_is_as_wide_as_the_terminal_and_none_has_an_escape(
            bytes: Vec<u8>, line in "\\PC*", sequences in "[\u{1b}\\[0-9;mJH\r\t日é]*",
            columns in 1..100usize, rows in 2..12usize, left_ms: u64, untimed in 0..2usize,
        ) {
            let mut board = board();
            board.event(&stamp(800, Event::BuildEstimated { left_ms, untimed }));
            for text in [&*String::from_utf8_lossy(&bytes), &line, &sequences] {
                board.event(&stamp(900, output("again", Stream::Stdout, text)));
                let frame = board.frame(at(900) + Duration::from_secs(1), size(columns, rows));
                prop_assert!(frame.len() < rows.max(3));
                for line in frame {
                    prop_assert!(width(&line) < columns || line.is_empty(), "{:?}", line);
                    prop_assert!(line.chars().all(|c| !c.is_control()));
                }
            }
        }
    }
}
