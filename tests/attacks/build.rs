//! A build that has ended: its exit code, the output of its steps and the reasons for which they failed.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use serde_json::Value;

use crate::attack::{Failure, Verdict, got_out, not_tried, tried};

/// A finished run of runner.
pub struct Build {
    /// Its exit code; 128 and the number of the signal that ended it; -1 where it hung and was killed.
    pub code: i32,
    pub pid: u32,
    pub stdout: String,
    pub stderr: String,
    events: Vec<Value>,
}

impl Build {
    pub fn new(pid: u32, status: Option<ExitStatus>, stdout: String, stderr: String) -> Self {
        let code =
            status.map_or(-1, |status| status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1));
        let events = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Self { code, pid, stdout, stderr, events }
    }

    fn of(&self, kind: &str, step: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event"] == kind && event["step"] == step)
    }

    /// Returns the output of a step, by line.
    pub fn lines(&self, step: &str) -> Vec<&str> {
        self.of("step_output", step).filter_map(|event| event["line"].as_str()).collect()
    }

    /// Returns whether a step printed this line.
    pub fn printed(&self, step: &str, line: &str) -> bool {
        self.lines(step).contains(&line)
    }

    /// Returns `ran`, `failed`, `skipped`; empty where the step was not reached.
    pub fn status(&self, step: &str) -> &str {
        self.of("step_finished", step).next().and_then(|event| event["status"].as_str()).unwrap_or_default()
    }

    /// Returns why a step failed, in words.
    pub fn reason(&self, step: &str) -> &str {
        self.of("step_finished", step).next().and_then(|event| event["reason"].as_str()).unwrap_or_default()
    }

    /// Returns the lines of a step that begin with one of these words: evidence of an attack that got through.
    pub fn evidence(&self, step: &str, words: &[&str]) -> Vec<&str> {
        let begins = |line: &&str| words.iter().any(|word| line.starts_with(word));
        self.lines(step).into_iter().filter(begins).collect()
    }

    /// Fails with the evidence where a step printed a line that begins with one of these words.
    pub fn without(&self, step: &str, words: &[&str]) -> Verdict {
        let evidence = self.evidence(step, words);
        let some = || evidence.iter().take(6).copied().collect::<Vec<_>>().join("; ");
        if evidence.is_empty() {
            Ok(())
        } else {
            Err(got_out(format!("{step}: {} ({} lines)", some(), evidence.len())))
        }
    }

    /// Fails unless a step printed this line, and runner did not hang.
    pub fn tried(&self, step: &str, line: &str) -> Verdict {
        self.did_not_hang()?;
        tried(self.printed(step, line), format!("{step} never printed {line:?}: {self}"))
    }

    /// Fails unless runner ended by itself.
    pub fn did_not_hang(&self) -> Verdict {
        if self.code == -1 { Err(got_out(format!("runner hung: {self}"))) } else { Ok(()) }
    }

    /// Fails unless the build succeeded.
    pub fn succeeded(&self) -> Result<&Self, Failure> {
        if self.code == 0 { Ok(self) } else { Err(not_tried(self.to_string())) }
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.code)?;
        for event in self.events.iter().filter(|event| event["event"] == "step_finished") {
            if event["status"] == "failed" {
                write!(f, "; {} failed: {}", event["step"], event["reason"])?;
            }
        }
        for line in self.stdout.lines().filter(|line| !line.starts_with('{')).chain(self.stderr.lines()) {
            write!(f, "; {line}")?;
        }
        Ok(())
    }
}
