//! The parts of the listings of the store: tables, ages, times and short digests.

use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::text_width::width;

/// The number of hexadecimal digits of a short digest.
const SHORT: usize = 12;

/// Returns the time in the format of RFC 3339, in whole seconds.
pub fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Returns the beginning of a digest, which is enough to name a layer.
pub fn short(digest: &Digest) -> String {
    digest.hex()[..SHORT].to_owned()
}

/// Returns the age of something: `12s ago`, `3d ago`.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    // Another clock may have set a time in the future.
    let seconds = now.duration_since(time).unwrap_or(Duration::ZERO).as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// Returns a table of the header and the rows, or, if the table is too wide for the terminal, a block of lines for each row.
pub fn table_or_blocks(
    header: &[&str],
    rows: Vec<Vec<String>>,
    columns: Option<usize>,
    block: impl Fn(&[String]) -> String,
) -> String {
    let mut all = vec![header.iter().map(|title| (*title).to_owned()).collect()];
    all.extend(rows);
    let table = table(&all);
    let fits = columns.is_none_or(|columns| table.lines().all(|line| width(line) <= columns));
    if fits { table } else { all[1..].iter().map(|row| block(row)).collect() }
}

/// Returns lines of columns, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_shown_in_its_largest_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        let ages =
            [0, 59, 60, 3599, 3600, 86_399, 86_400, 9_000_000].map(|age| ago(now - Duration::from_secs(age), now));
        assert_eq!(ages, ["0s ago", "59s ago", "1m ago", "59m ago", "1h ago", "23h ago", "1d ago", "104d ago"]);
        assert_eq!(ago(now + Duration::from_secs(5), now), "0s ago");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".into(), "B".into()], vec!["über".into(), "x".into()], vec!["-".into()]];
        assert_eq!(table(&rows), "A     B\nüber  x\n-\n");
    }

    #[test]
    fn a_table_that_is_too_wide_becomes_a_block_for_each_row() {
        let listing = |columns| {
            let rows = vec![vec!["one".into(), "two".into()], vec!["a".into(), "b".into()]];
            table_or_blocks(&["A", "B"], rows, columns, |row| format!("{}:\n  {}\n", row[0], row[1]))
        };
        assert_eq!(listing(None), "A    B\none  two\na    b\n");
        assert_eq!(listing(Some(8)), listing(None));
        assert_eq!(listing(Some(7)), "one:\n  two\na:\n  b\n");
    }
}
