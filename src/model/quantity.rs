//! Sizes, durations and numbers of processors as text.

use std::time::Duration;

/// A year: a longer timeout is a mistake, and would overflow the clock when added to it.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const TOO_LONG: &str = "it is more than a year";

const UNITS: [(&str, u128); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Parses a size, such as `10GiB`, `1.5GB` or `4096`, as bytes; more than 0.
///
/// # Errors
/// The form to write instead.
pub fn size(text: &str) -> Result<u64, String> {
    let wanted = || "write a number and a unit, such as 512MiB or 10GiB".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let scale = match unit {
        "" => 1,
        "K" | "M" | "G" | "T" | "k" | "m" | "g" | "t" => {
            let unit = unit.to_uppercase();
            return Err(format!("write {digits}{unit}iB (powers of 1024) or {digits}{unit}B (powers of 1000)"));
        }
        _ => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wanted)?.1,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 6 || whole.len() > 20 {
        return Err(wanted());
    }
    let too_large = || "it is more than 16 EiB".to_owned();
    let number: u128 = format!("{whole}{fraction}").parse().map_err(|_| wanted())?;
    let bytes = number.checked_mul(scale).ok_or_else(too_large)? / 10_u128.pow(fraction.len() as u32);
    match u64::try_from(bytes) {
        Ok(0) => Err("it must be more than 0".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(too_large()),
    }
}

/// Returns a size as a manifest would write it: in the largest unit that divides it, binary units first.
pub fn size_text(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u128)| bytes > 0 && u128::from(bytes) % scale == 0;
    let (binary, others) = UNITS.split_at(4);
    let found = binary.iter().rev().find(fits).or_else(|| others.iter().rev().skip(1).find(fits));
    let (unit, scale) = found.unwrap_or(&("B", 1));
    format!("{}{unit}", u128::from(bytes) / scale)
}

/// Parses a duration, such as `90s`, `10m` or `1h 30m`; more than 0.
///
/// # Errors
/// The form to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_none(text) {
        Err(help) if help == TOO_LONG => Err(format!("{TOO_LONG}; leave it out for no limit")),
        Ok(Duration::ZERO) => Err("it must be more than 0; leave it out for no limit".to_owned()),
        other => other,
    }
}

/// Parses a duration that may be 0, such as `90s` or `0s`.
///
/// # Errors
/// The form to write instead.
pub fn duration_or_none(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > MAX_DURATION => Err(TOO_LONG.to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("write its unit: {text}s or {text}m"))
        }
        Err(_) => Err("write a number and a unit, such as 90s, 10m or 1h 30m".to_owned()),
    }
}

/// Parses a number of processors, such as `1.5`, as thousandths; at least 10, the smallest share of the kernel's
/// scheduler.
///
/// # Errors
/// The form to write instead.
pub fn millicpus(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(cpus) if (0.01..=1_000_000.0).contains(&cpus) =>
        {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked above")]
            Ok((cpus * 1000.0).round() as u64)
        }
        Ok(_) => Err("it must be from 0.01 to 1000000".to_owned()),
        Err(_) => Err("write a number, such as 2 or 1.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, millicpus, size, size_text};
    use std::time::Duration;

    #[test]
    fn a_written_size_parses_to_the_same_number() {
        let sizes = [(64 << 20, "64MiB"), (3 << 29, "1536MiB"), (10_000_000, "10MB"), (4097, "4097B"), (0, "0B")];
        for (bytes, text) in sizes {
            assert_eq!(size_text(bytes), text);
            assert!(bytes == 0 || size(text) == Ok(bytes));
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units_and_fractions() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("10MB"), Ok(10_000_000));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("7b"), Ok(7));
    }

    #[test]
    fn an_invalid_size_is_refused_with_the_form_to_write() {
        assert_eq!(size("10G"), Err("write 10GiB (powers of 1024) or 10GB (powers of 1000)".to_owned()));
        for bad in [
            "",
            "GiB",
            "-1GiB",
            "1..5GiB",
            "1e3",
            "10 parsecs",
            ".5GiB",
            "0",
            "0.1B",
            "999999999999TiB",
            "\u{e9}",
            "1\u{e9}",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(size(&"9".repeat(1000)).is_err());
    }

    #[test]
    fn durations_need_a_unit_and_have_a_maximum() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("90"), Err("write its unit: 90s or 90m".to_owned()));
        for bad in ["", "0s", "2 years", "soon", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        assert_eq!(millicpus("1.5"), Ok(1500));
        assert_eq!(millicpus("2"), Ok(2000));
        for bad in ["", "0", "-1", "NaN", "inf", "two", "1e300"] {
            assert!(millicpus(bad).is_err(), "{bad}");
        }
    }
}
