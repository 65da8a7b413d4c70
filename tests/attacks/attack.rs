//! One attack: its row of the threat model, how it is tried, and its verdict.

use crate::lab::Lab;

/// An attack, tried with one runtime at a time.
pub struct Attack {
    /// The row of the threat model that it belongs to: `C1`, `H3`, `low`, or `contained` for an attack that never broke out.
    pub row: &'static str,
    /// Its name, for the command line and for SECURITY.md.
    pub name: &'static str,
    /// The attack, in a few words.
    pub summary: &'static str,
    /// Tries it, and judges by the state of the host or by the output of the step.
    pub run: fn(&Lab) -> Verdict,
}

/// The result of an attack: contained, or one of [`Failure`].
pub type Verdict = Result<(), Failure>;

/// The reason for which an attack does not count as contained.
#[derive(Debug)]
pub enum Failure {
    /// It got through; the evidence.
    GotOut(String),
    /// It was not tried, so its result is unknown.
    NotTried(String),
}

/// Returns the end of a text, where causes stand, on one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = line.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
    line[start..].to_owned()
}

/// Returns the verdict on an attack that got through, with the evidence.
pub fn got_out(evidence: impl AsRef<str>) -> Failure {
    Failure::GotOut(shortened(evidence.as_ref()))
}

/// Returns the verdict on an attack with an unknown result.
pub fn not_tried(reason: impl AsRef<str>) -> Failure {
    Failure::NotTried(shortened(reason.as_ref()))
}

/// Fails with this evidence unless the host is as it should be.
pub fn safe(is_so: bool, evidence: impl AsRef<str>) -> Verdict {
    if is_so { Ok(()) } else { Err(got_out(evidence)) }
}

/// Fails with this reason unless the attack was really tried.
pub fn tried(is_so: bool, reason: impl AsRef<str>) -> Verdict {
    if is_so { Ok(()) } else { Err(not_tried(reason)) }
}
