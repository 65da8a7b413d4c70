//! The table of all attacks, its last lines in the forms that people and CI systems count.

use std::fmt::Write;

use crate::attack::{Failure, Verdict};

/// An attack that was tried with one runtime.
pub struct Row {
    pub row: &'static str,
    pub name: &'static str,
    pub summary: &'static str,
    pub runtime: String,
    pub verdict: Verdict,
}

/// The order of the threat model.
const ROWS: [&str; 5] = ["C", "H", "M", "low", "contained"];

impl Row {
    pub fn order(&self) -> (usize, &str, &str, &str) {
        let group =
            ROWS.iter().position(|group| self.row.starts_with(group) && (group.len() > 1 || self.row.len() < 3));
        (group.unwrap_or(ROWS.len()), self.row, self.name, &self.runtime)
    }
}

/// Returns the whole table, and its totals.
pub fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let width = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max().unwrap_or(0).max(7);
    let (name, summary, runtime) = (width(|row| row.name), width(|row| row.summary), width(|row| &row.runtime));
    let mut line = |row: &str, columns: [&str; 3], verdict: &str| {
        let [first, second, third] = columns;
        let _ = writeln!(text, "{row:<9}  {first:<name$}  {second:<summary$}  {third:<runtime$}  {verdict}");
    };
    line("row", ["attack", "what it tries", "runtime"], "verdict");
    for row in rows {
        let verdict = match &row.verdict {
            Ok(()) => "contained".to_owned(),
            Err(Failure::GotOut(evidence)) => format!("GOT OUT: {evidence}"),
            Err(Failure::NotTried(reason)) => format!("NOT TRIED: {reason}"),
        };
        line(row.row, [row.name, row.summary, &row.runtime], &verdict);
    }
    let out = rows.iter().filter(|row| matches!(row.verdict, Err(Failure::GotOut(_)))).count();
    let untried = rows.iter().filter(|row| matches!(row.verdict, Err(Failure::NotTried(_)))).count();
    let passed = rows.len() - out - untried;
    if untried > 0 {
        let _ = writeln!(text, "\n{untried} attacks could not be tried");
    }
    let _ = writeln!(text, "\n{} attacks tried, {out} got out", rows.len() - untried);
    let result = if passed == rows.len() { "ok" } else { "FAILED" };
    let _ = writeln!(
        text,
        "\ntest result: {result}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n",
        out + untried
    );
    text
}
