//! Numbers of several samples, and the table that shows them.

use std::fmt::Write;
use std::time::Instant;

use crate::Result;

/// The median and the extremes of several samples.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    /// Returns the figure of at least one sample.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self { median: samples[samples.len() / 2], least: samples[0], most: samples[samples.len() - 1] }
    }

    fn show(self, unit: &str) -> String {
        let digits = if self.median < 10.0 { 2 } else { 1 };
        format!("{:.digits$} {unit} ({:.digits$}–{:.digits$})", self.median, self.least, self.most)
    }
}

/// The value to be reached.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub most: f64,
    pub unit: &'static str,
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    cells: [String; 5],
}

impl Row {
    pub fn new(name: &str, ours: Figure, theirs: Option<Figure>, target: Target) -> Self {
        let ratio = theirs.map(|theirs| format!("{:.1}×", theirs.median / ours.median));
        let theirs = theirs.map(|theirs| theirs.show(target.unit));
        let reached = if ours.median <= target.most { "reached" } else { "missed" };
        let target_cell = format!("≤ {} {}: {reached}", target.most, target.unit);
        let none = || "—".to_owned();
        let ours = ours.show(target.unit);
        Self { cells: [name.into(), ours, theirs.unwrap_or_else(none), ratio.unwrap_or_else(none), target_cell] }
    }
}

/// Returns a Markdown table with columns that also line up as text.
pub fn table(rows: &[Row]) -> String {
    let head = ["median (least–most)", "runner", "runc run a step", "ratio", "target"].map(String::from);
    let lines: Vec<&[String; 5]> = std::iter::once(&head).chain(rows.iter().map(|row| &row.cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Returns how long a function took, in milliseconds, and its result.
pub fn timed<T>(what: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let begun = Instant::now();
    let given = what()?;
    Ok((begun.elapsed().as_secs_f64() * 1e3, given))
}
