//! The answers of servers, whose bodies are read with bounds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{self, HeaderMap, Uri};
use ureq::{Body, Timeout};

use super::{Problem, retry};

/// The bytes a second below which a server counts as silent.
const MIN_RATE: u64 = 1 << 10;

/// The largest explanation of an error that is read.
const MAX_DETAIL: u64 = 64 << 10;

/// An answer of a server. Its status is not a temporary one, and no redirect.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The URL that gave the answer, after redirects.
    pub uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) reading: Reading,
}

/// The conditions under which a body is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) host: String,
    pub(super) timeout: Duration,
    pub(super) stop: Arc<AtomicBool>,
}

impl Reply {
    /// Returns a header's value, if it is text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns all values of a header that are text.
    fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the announced size of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH).and_then(|value| value.parse().ok())
    }

    /// Returns the name and port of the server.
    pub fn host(&self) -> &str {
        &self.reading.host
    }

    /// Reads the body into memory, `limit` bytes at most.
    pub(super) fn read(&mut self, limit: u64) -> Result<Vec<u8>, Problem> {
        let too_large = || Problem::TooLarge { host: self.reading.host.clone(), limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let reading = self.reading.clone();
        reading.each(&mut self.body, |part| {
            if (bytes.len() + part.len()) as u64 > limit {
                return Err(Problem::TooLarge { host: reading.host.clone(), limit });
            }
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Passes the body on, part by part.
    pub(super) fn each(&mut self, take: impl FnMut(&[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        self.reading.clone().each(&mut self.body, take)
    }

    /// Returns the answer as the problem of a request that expected another status.
    pub fn into_problem(mut self) -> Problem {
        let body = self.read(MAX_DETAIL).unwrap_or_default();
        self.problem_with(&body)
    }

    /// Returns the same of an answer whose body was read.
    pub fn problem_with(&self, body: &[u8]) -> Problem {
        let detail = detail(body).unwrap_or_default();
        let retry_after = self.header(RETRY_AFTER).and_then(|value| retry::retry_after(value, SystemTime::now()));
        let challenges = self.headers(WWW_AUTHENTICATE).map(str::to_owned).collect();
        Problem::Status { host: self.reading.host.clone(), status: self.status, detail, retry_after, challenges }
    }

    pub(super) fn refuse_temporary(self) -> Result<Self, Problem> {
        if retry::is_temporary(self.status) { Err(self.into_problem()) } else { Ok(self) }
    }
}

impl Reading {
    /// Reads a body and passes it on. Ends where the server sends too slowly, or the build is interrupted.
    fn each(&self, body: &mut Body, mut take: impl FnMut(&[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        let mut reader = body.as_reader();
        let mut buffer = vec![0; 128 << 10];
        let (mut since, mut received) = (Instant::now(), 0_u64);
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Err(Problem::Interrupted);
            }
            let count = match io::Read::read(&mut reader, &mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.problem(error.into())),
            };
            take(&buffer[..count])?;
            received += count as u64;
            if since.elapsed() >= self.timeout {
                if received < MIN_RATE * self.timeout.as_secs().max(1) {
                    return Err(self.too_slow("send more than 1 KiB a second"));
                }
                (since, received) = (Instant::now(), 0);
            }
        }
    }

    fn too_slow(&self, missing: &'static str) -> Problem {
        Problem::Timeout { host: self.host.clone(), missing, limit: self.timeout }
    }

    fn unknown_host(&self) -> Problem {
        Problem::UnknownHost(retry::without_port(&self.host).to_owned())
    }

    /// Returns an error of ureq in our words.
    pub(super) fn problem(&self, error: ureq::Error) -> Problem {
        let host = self.host.clone();
        match error {
            ureq::Error::HostNotFound => self.unknown_host(),
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => self.too_slow("accept a connection"),
            ureq::Error::Timeout(_) => self.too_slow("send anything"),
            ureq::Error::Io(source) => match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidCertificate(problem)) => {
                    Problem::Certificate { host, problem: certificate(problem) }
                }
                // The error of getaddrinfo(3) has no kind.
                _ => match source.to_string() {
                    text if text.starts_with("failed to lookup") && text.contains("Temporary") => {
                        Problem::NoDns { host: retry::without_port(&self.host).to_owned() }
                    }
                    text if text.starts_with("failed to lookup") => self.unknown_host(),
                    _ => Problem::Connection { host, source },
                },
            },
            ureq::Error::Rustls(rustls::Error::InvalidCertificate(problem)) => {
                Problem::Certificate { host, problem: certificate(&problem) }
            }
            ureq::Error::ConnectProxyFailed(reason) => {
                Problem::Connection { host, source: io::Error::other(format!("the proxy refuses it: {reason}")) }
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Problem::Url(error.to_string()),
            error => Problem::Protocol { host, problem: error.to_string() },
        }
    }
}

/// Returns the explanation in the body of an error: the messages of a registry's JSON, or a short text.
fn detail(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let message = match &json {
        Some(json) => {
            let errors = json.get("errors").and_then(|errors| errors.as_array());
            let of = |error: &serde_json::Value| error.get("message").and_then(|text| text.as_str()).map(str::to_owned);
            let all: Vec<String> = errors.into_iter().flatten().filter_map(of).collect();
            if all.is_empty() { json.get("message")?.as_str()?.to_owned() } else { all.join("; ") }
        }
        None if text.starts_with('<') => return None,
        None => text.lines().next()?.to_owned(),
    };
    Some(message.chars().take(300).collect::<String>().escape_debug().to_string())
}

/// Returns the problem of a certificate, in words that fit after a colon.
fn certificate(problem: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    match problem {
        UnknownIssuer => "this host trusts no authority that signed it".to_owned(),
        Expired | ExpiredContext { .. } => "it has expired".to_owned(),
        NotValidYet | NotValidYetContext { .. } => "it is not valid yet; check the time of this host".to_owned(),
        NotValidForName | NotValidForNameContext { .. } => "it is for another name".to_owned(),
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is that of an authority, which cannot be a server's own; let the authority sign one for the server"
                .to_owned()
        }
        other => other.to_string(),
    }
}
