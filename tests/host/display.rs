//! A build shown on a terminal: no output of a step, however wild, breaks the screen or the log.

use std::fs::File;
use std::io::Read;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::pty::{Winsize, openpty};

use crate::built::{Gate, project, wait_for};
use crate::project::Project;

/// A terminal's screen, with runner on it.
struct Screen {
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<JoinHandle<()>>,
    runner: Child,
}

impl Screen {
    fn start(project: &Project, columns: u16, rows: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let mut command = project.command(&[&["apply"], arguments].concat());
        command.env("TERM", "xterm").envs(variables.iter().copied());
        let runner = command.stdout(Stdio::from(pty.slave)).stderr(Stdio::piped()).spawn().unwrap();
        // The command has the terminal's end open until it is dropped.
        drop(command);
        let (rows, columns) = (NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let shown = Arc::clone(&screen);
        let reader = thread::spawn(move || read(pty.master, &shown));
        Self { screen, reader: Some(reader), runner }
    }

    fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap();
        screen.screen().contents().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen has a line that contains the text.
    #[track_caller]
    fn await_line(&self, text: &str) {
        wait_for(&format!("{text:?} on the screen"), || {
            self.lines().iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Returns the screen after the end, and the exit code.
    fn end(mut self) -> (Vec<String>, Option<i32>) {
        let status = self.runner.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let screen = self.screen.lock().unwrap();
        let lines = screen.screen().contents().lines().map(|line| line.trim_end().to_owned()).collect();
        (lines, status.code())
    }
}

impl Drop for Screen {
    /// A test that fails must not leave runner waiting for ever.
    fn drop(&mut self) {
        let _ = self.runner.kill();
        let _ = self.runner.wait();
    }
}

fn read(master: OwnedFd, screen: &Mutex<vt100::Parser>) {
    let mut master = File::from(master);
    let mut buffer = [0; 4096];
    // EIO, see pty(7), when no process has the other end open any more.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        screen.lock().unwrap().process(&buffer[..length]);
    }
}

const WILD: &str = r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps:
  - name: wild
    run: |
      printf '\377\376 not UTF-8 \200\n'
      head -c 1000000 /dev/zero | tr '\0' x; echo
      for i in 1 2 3; do printf '%d0%%\r' $i; done; echo
      printf '\033[2J\033[H\033[31mred 日本語 and more of it that is too long for the line\033[0m\n'
      sh /gate/meet shown
      printf 'no end'
"#;

#[test]
fn any_output_of_a_step_is_right_on_a_screen_of_80_or_40_columns_and_whole_in_the_log() {
    for (columns, line) in
        [(80, "red 日本語 and more of it that is too long for the line"), (40, "red 日本語 and more of")]
    {
        let project = project(WILD);
        let gate = Gate::new(&project);
        let terminal = Screen::start(&project, columns, 10, &[], &[]);
        gate.await_step("shown");
        terminal.await_line(line);
        // Lines that are painted at once may arrive in two reads.
        terminal.await_line("0 done, 1 running, 0 left");
        let lines = terminal.lines();
        let first = format!("{}: 1 step", project.path("").file_name().unwrap().to_str().unwrap());
        assert_eq!(lines[0], first, "{lines:#?}");
        assert!(lines[1].starts_with("wild"), "{lines:#?}");
        assert!(lines[2].ends_with("0 done, 1 running, 0 left"), "{lines:#?}");
        assert_eq!(lines.len(), 3, "{lines:#?}");
        gate.open("shown");
        let (lines, code) = terminal.end();
        assert_eq!((code, lines.len()), (Some(0), 3), "{lines:#?}");
        assert!(lines[1].starts_with("wild  done in ") && lines[2].ends_with(": 1 ran"), "{lines:#?}");
        let mut log = b"\xff\xfe not UTF-8 \x80\n".to_vec();
        log.extend(vec![b'x'; 1_000_000]);
        log.extend("\n10%\r20%\r30%\r\n\u{1b}[2J\u{1b}[H\u{1b}[31mred 日本語 and more of it that is too long for the line\u{1b}[0m\nno end".bytes());
        let build = std::fs::read_dir(project.path("store/logs")).unwrap().next().unwrap().unwrap();
        assert!(std::fs::read(build.path().join("wild.log")).unwrap() == log, "the log differs");
    }
}

#[test]
fn parallel_steps_have_a_line_each_and_a_failure_is_shown_at_the_end() {
    let project = project(
        r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps:
  - { name: one, run: "echo first; sh /gate/meet one", needs: [] }
  - { name: two, run: "echo second; sh /gate/meet two", needs: [] }
  - { name: bad, run: "echo third; sh /gate/meet bad; exit 7", needs: [] }
"#,
    );
    let gate = Gate::new(&project);
    let terminal = Screen::start(&project, 80, 24, &["-j", "8"], &[]);
    for text in ["first", "second", "third", "0 done, 3 running, 0 left"] {
        terminal.await_line(text);
    }
    gate.open("two");
    terminal.await_line("1 done, 2 running, 0 left");
    let lines = terminal.lines();
    assert!(lines[1].starts_with("two  done in "), "{lines:#?}");
    gate.open("one");
    terminal.await_line("2 done, 1 running, 0 left");
    gate.open("bad");
    let (lines, code) = terminal.end();
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(lines[3].starts_with("bad  failed after ") && lines[3].ends_with(": exit code 7"), "{lines:#?}");
    assert_eq!(lines[4..7], ["", "  × step bad failed: exit code 7", "   ╭─[build.yaml:8:13]"], "{lines:#?}");
    assert!(lines.contains(&"  | third".to_owned()), "{lines:#?}");
}

#[test]
fn a_dumb_terminal_has_plain_lines() {
    let project = project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: a, run: echo hello }]\n");
    let (lines, code) = Screen::start(&project, 80, 24, &[], &[("TERM", "dumb")]).end();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines.contains(&"a * started in c".to_owned()) && lines.contains(&"a | hello".to_owned()), "{lines:#?}");
}

const PROGRESS: &str = r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps:
  - name: fetch
    run: |
      printf 'Get:1 file\r\n'
      printf '\r 10%% [downloading]\r' >&2; sh /gate/meet ten
      printf ' 20%% [downloading]' >&2; sh /gate/meet twenty
      printf '\r                  \r' >&2; sh /gate/meet blank
      printf '100%%\n' >&2; sh /gate/meet end
"#;

#[test]
fn a_line_that_grows_by_carriage_returns_is_shown_while_it_grows_and_is_one_line_elsewhere() {
    for columns in [80, 40] {
        let project = project(PROGRESS);
        let gate = Gate::new(&project);
        let log = project.path("events.jsonl");
        let terminal = Screen::start(&project, columns, 10, &["--log-file", log.to_str().unwrap()], &[]);
        for (place, line) in [
            ("ten", "  10% [downloading]"),
            ("twenty", "  20% [downloading]"),
            ("blank", "  20% [downloading]"),
            ("end", "  100%"),
        ] {
            gate.await_step(place);
            terminal.await_line(line);
            let lines = terminal.lines();
            assert_eq!(lines.len(), 3, "{lines:#?}");
            gate.open(place);
        }
        let (lines, code) = terminal.end();
        assert_eq!(code, Some(0), "{lines:#?}");
        let text = std::fs::read_to_string(log).unwrap();
        let printed: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let printed: Vec<&str> = printed.iter().filter_map(|event| event["line"].as_str()).collect();
        assert_eq!(printed, ["Get:1 file", "\r 10% [downloading]\r 20% [downloading]\r                  \r100%"]);
    }
}
