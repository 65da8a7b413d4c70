//! The decision which failures are tried again, and when.

use std::io;
use std::time::{Duration, SystemTime};

use super::{Problem, proxy};

/// The number of tries of a request.
const MAX_TRIES: u32 = 5;

/// The number of tries where this host itself answers: that nobody listens here, or that it has no DNS. That rarely changes in the
/// seconds of a longer wait.
const MAX_LOCAL_TRIES: u32 = 2;

/// The longest time that a server can make a build wait by `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Returns the time to wait before the next try; none where another try would end the same. `tries` is the number of
/// tries so far, and `first` the wait after the first one, which doubles each time.
pub(super) fn delay(problem: &Problem, tries: u32, first: Duration) -> Option<Duration> {
    if tries >= if is_local(problem) { MAX_LOCAL_TRIES } else { MAX_TRIES } {
        return None;
    }
    let backoff = first * 2_u32.pow(tries.saturating_sub(1));
    match problem {
        Problem::Connection { .. } | Problem::NoDns { .. } | Problem::Timeout { .. } | Problem::Size { .. } => {
            Some(backoff)
        }
        Problem::Status { status: 408 | 429 | 500..=599, retry_after, .. } => match retry_after {
            Some(after) if *after > MAX_RETRY_AFTER => None,
            Some(after) => Some(backoff.max(*after)),
            None => Some(backoff),
        },
        _ => None,
    }
}

/// Returns whether a problem is of this host alone: nobody listens on a port of it, or it has no DNS.
fn is_local(problem: &Problem) -> bool {
    match problem {
        Problem::NoDns { .. } => true,
        Problem::Connection { host, source } => {
            source.kind() == io::ErrorKind::ConnectionRefused && proxy::is_loopback(without_port(host))
        }
        _ => false,
    }
}

/// Returns the name of a server without its port.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether an answer with that status may be followed by a better one.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Parses a `Retry-After`: seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(http_date(value)?);
    Some(at.duration_since(now).unwrap_or_default())
}

/// Parses the form of dates that RFC 9110 prescribes, `Sun, 06 Nov 1994 08:49:37 GMT`, into seconds since 1970.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (day, year): (u8, u16) = (day.parse().ok()?, year.parse().ok()?);
    // humantime checks each field, and knows the calendar.
    let at = humantime::parse_rfc3339(&format!("{year:04}-{month:02}-{day:02}T{time}Z")).ok()?;
    at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> Problem {
        let retry_after = retry_after.map(Duration::from_secs);
        Problem::Status { host: "h".to_owned(), status, detail: String::new(), retry_after, challenges: Vec::new() }
    }

    #[test]
    fn temporary_failures_are_tried_again_with_longer_and_longer_waits() {
        let second = Duration::from_secs(1);
        let waits: Vec<_> = (1..=5).map(|tries| delay(&status(503, None), tries, second)).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), None].map(|wait| wait.map(Duration::from_secs)));
        for last in [200, 301, 400, 401, 403, 404, 409, 416] {
            assert_eq!(delay(&status(last, None), 1, second), None, "{last}");
            assert!(!is_temporary(last));
        }
        assert_eq!(delay(&Problem::Interrupted, 1, second), None);
    }

    #[test]
    fn nobody_on_this_host_and_no_dns_are_tried_twice_and_an_unknown_name_and_a_certificate_once() {
        let half = Duration::from_millis(500);
        let refused =
            |host: &str| Problem::Connection { host: host.to_owned(), source: io::ErrorKind::ConnectionRefused.into() };
        let reset =
            Problem::Connection { host: "localhost:5000".to_owned(), source: io::ErrorKind::ConnectionReset.into() };
        let (host, problem) = ("h".to_owned(), "it has expired".to_owned());
        let cases = [
            (refused("localhost:5000"), 2),
            (refused("127.0.0.1:1"), 2),
            (refused("[::1]:5000"), 2),
            (Problem::NoDns { host: host.clone() }, 2),
            (Problem::UnknownHost(host.clone()), 1),
            (Problem::Certificate { host, problem }, 1),
            (refused("registry.example.org"), 5),
            (reset, 5),
        ];
        for (problem, all) in cases {
            let tries = (1..=5).take_while(|tries| delay(&problem, *tries, half).is_some()).count() + 1;
            assert_eq!(tries, all, "{problem:?}");
        }
    }

    #[test]
    fn a_wait_is_as_long_as_the_server_asks_and_a_minute_at_most() {
        let second = Duration::from_secs(1);
        assert_eq!(delay(&status(429, Some(7)), 1, second), Some(7 * second));
        assert_eq!(delay(&status(429, Some(0)), 2, second), Some(2 * second));
        assert_eq!(delay(&status(429, Some(3600)), 1, second), None);
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 10);
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sat, 05 Nov 1994 08:49:37 GMT", now), Some(Duration::ZERO));
        for broken in
            ["", "-1", "soon", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "é é é é é GMT"]
        {
            assert_eq!(retry_after(broken, now), None, "{broken}");
        }
    }
}
