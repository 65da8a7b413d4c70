//! Tests of the board: the text of its lines at several widths.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::{ImportMethod, ImportStage, ImportStatus, Stream};
use crate::report::script::{finished, output, stamp, started};

fn at(milliseconds: u64) -> SystemTime {
    stamp(milliseconds, Event::BuildStarted { name: String::new(), steps: 0 }).time
}

fn size(columns: usize, rows: usize) -> Size {
    Size { columns, rows }
}

/// Returns a board of three running steps, one of them a snapshot, and one finished step.
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
fn a_push_shows_its_progress_and_then_the_name_to_pull_by() {
    let mut board = board();
    board.event(&stamp(600, Event::PushProgress { step: "base-layer".into(), bytes: 5 << 20, percent: 62 }));
    let lines = board.frame(at(65_300), size(80, 24));
    assert_eq!(lines[0], "base-layer           1m05s  62% pushed, 5.0 MiB sent");
    let pushed = |changed| Event::ImagePushed {
        step: "base-layer".into(),
        image: "ghcr.io/o/n:v1@sha256:0".into(),
        digest: "sha256:0".into(),
        sent: 8 << 20,
        changed,
    };
    let mut line = |changed| board.event(&stamp(700, pushed(changed))).unwrap();
    assert_eq!(line(true), "base-layer          pushed ghcr.io/o/n:v1@sha256:0 (8.0 MiB sent)");
    assert_eq!(line(false), "base-layer          the registry has ghcr.io/o/n:v1@sha256:0");
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
fn an_image_shows_its_size_and_its_share_if_that_is_known() {
    let mut board = board();
    for (percent, columns, text) in [
        (None, 80, "2.5 GiB of the image written"),
        (Some(7), 80, "7% of the image, 2.5 GiB"),
        (None, 40, "2.5 GiB"),
        (Some(99), 40, "99%, 2.5 GiB"),
        (Some(99), 28, "99%, 2.…"),
    ] {
        board.event(&stamp(500, Event::SnapshotProgress { step: "base-layer".into(), bytes: 5 << 29, percent }));
        let frame = board.frame(at(1_000), size(columns, 24));
        assert!(frame[0].ends_with(&format!("0.8s  {text}")), "{frame:#?}");
    }
}

#[test]
fn a_step_that_waits_for_a_cache_says_so_and_its_time_starts_after_the_wait() {
    let mut board = board();
    board.event(&stamp(0, started("docs-tools", "docs", 1)));
    board.event(&stamp(100, Event::StepWaits { step: "docs-tools".into(), cache: "apt".into() }));
    let line = |board: &mut Board, milliseconds| board.frame(at(milliseconds), size(80, 24))[3].clone();
    assert_eq!(line(&mut board, 900), "docs-tools            0.9s  waits for the cache apt, which another step uses");
    board.event(&stamp(5_000, Event::StepHasTurn { step: "docs-tools".into() }));
    assert_eq!(line(&mut board, 5_300).trim_end(), "docs-tools            0.3s");
}

#[test]
fn a_checkpoint_is_shown_while_it_is_copied_written_and_restored() {
    let mut board = board();
    let progress =
        |step: &str, stage, percent| Event::CheckpointProgress { step: step.into(), stage, bytes: 3 << 20, percent };
    board.event(&stamp(500, progress("compile-everything", CheckpointStage::Copied, None)));
    board.event(&stamp(500, progress("again", CheckpointStage::Restored, None)));
    board.event(&stamp(500, progress("packages", CheckpointStage::Written, Some(41))));
    board.event(&stamp(600, progress("packages", CheckpointStage::Written, Some(42))));
    let frame = board.frame(at(1_000), size(80, 24));
    assert_eq!(
        frame[1..4],
        [
            "compile-everything    0.7s  copying a checkpoint, 3.0 MiB",
            "again                 0.5s  restoring a checkpoint, 3.0 MiB",
            "packages              0.5s  42% of its checkpoint, 3.0 MiB",
        ]
    );
    assert_eq!(frame[4], "1.0s elapsed, 1 done, 3 running, 5 left");
    let narrow = board.frame(at(1_000), size(40, 24));
    assert!(narrow[1].ends_with("copying 3.0…") || narrow[1].ends_with("copying 3.0 MiB"), "{narrow:#?}");
    let written = board.event(&stamp(700, Event::CheckpointWritten { step: "packages".into(), size: 7 << 20 }));
    assert_eq!(written.unwrap(), "packages            checkpoint stored (7.0 MiB)");
    let restored = Event::CheckpointRestored { step: "again".into(), after: "packages".into() };
    let restored = board.event(&stamp(700, restored)).unwrap();
    assert_eq!(restored, "again               continues from the checkpoint after packages");
    board.event(&stamp(700, progress("packages", CheckpointStage::Written, None)));
    board.event(&stamp(700, progress("packages", CheckpointStage::Discarded, None)));
    let frame = board.frame(at(1_000), size(80, 24));
    assert_eq!((frame.len(), frame[2].as_str()), (4, "again                 0.5s  (try 2)"));
}

#[test]
fn a_source_that_arrives_has_a_row_of_its_container_until_its_last_line() {
    let mut board = board();
    let (container, source) = ("base", "docker.io/library/debian:12");
    let method = ImportMethod::Pull;
    let progress = |stage, bytes, total| {
        let (container, source) = (container.into(), source.into());
        Event::ImportProgress { container, source, stage, bytes, total }
    };
    let digest = Some("sha256:07".to_owned());
    board.event(&stamp(
        500,
        Event::ImportStarted {
            container: container.into(),
            source: source.into(),
            method,
            digest: digest.clone(),
            size: Some(48 << 20),
        },
    ));
    let row = |board: &Board, columns| board.frame(at(1_000), size(columns, 24))[3].clone();
    assert_eq!(
        row(&board, 120),
        "base                  0.5s  pulling docker.io/library/debian:12 for the container base: 48.0 MiB"
    );
    for (stage, bytes, total, long, short) in [
        (
            ImportStage::Arrives,
            12 << 20,
            Some(48 << 20),
            "pulling docker.io/library/debian:12, 12.0 MiB of 48.0 MiB",
            "12.0 MiB of 48.0 MiB",
        ),
        (ImportStage::Unpacked, 3 << 20, None, "unpacking docker.io/library/debian:12, 3.0 MiB", "3.0 MiB"),
        (ImportStage::Written, 1, Some(2), "writing a layer of docker.io/library/debian:12, 50%", "50%"),
        (ImportStage::Written, 2, Some(2), "writing a layer of docker.io/library/debian:12, 99%", "99%"),
    ] {
        board.event(&stamp(600, progress(stage, bytes, total)));
        assert_eq!(row(&board, 120), format!("base                  0.5s  {long}"));
        assert!(row(&board, 50).ends_with(&format!("0.5s  {short}")), "{}", row(&board, 50));
    }
    let reason = "docker.io answered 429\u{1b}[2J".into();
    let waits = Event::RequestWaits { source: source.into(), wait_ms: 2_000, reason };
    let waits = board.event(&stamp(700, waits));
    assert_eq!(waits.as_deref(), Some("docker.io/library/debian:12: waits 2.00s: docker.io answered 429"));
    let finished = board.event(&stamp(
        800,
        Event::ImportFinished {
            container: container.into(),
            source: source.into(),
            method,
            status: ImportStatus::Done,
            digest,
            size: 48 << 20,
            duration_ms: 3_140,
        },
    ));
    let line = "pulled docker.io/library/debian:12 (sha256:07), 48.0 MiB in 3.14s";
    assert_eq!(finished.as_deref(), Some(line));
    assert_eq!(board.frame(at(1_000), size(80, 24)).len(), 4);
}

#[test]
fn a_wide_name_leaves_room_for_the_image() {
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
fn steps_without_a_row_are_counted() {
    let frame = board().frame(at(1_000), size(80, 4));
    assert_eq!(frame.len(), 3);
    assert!(frame[0].starts_with("base-layer") && frame[1] == "… and 2 more", "{frame:?}");
}

#[test]
fn a_finished_step_is_one_line_and_a_snapshot_shows_its_image() {
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
