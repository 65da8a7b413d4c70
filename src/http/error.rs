//! The ways in which a request fails, with the host, the cause and the fix.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;

/// A request that failed for good.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} {url}", if *is_upload { "send to" } else { "get" })]
pub struct HttpError {
    /// The URL without credentials and query, which may contain secrets.
    pub url: String,
    /// Whether the request was to change something on the server.
    pub is_upload: bool,
    /// The cause.
    #[source]
    pub problem: Box<Problem>,
}

/// The cause of a failed request.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The URL is not one of a web server.
    #[error("it is not a URL of a web server: {0}")]
    Url(String),
    /// The server's name has no address.
    #[error("the name {0} cannot be found")]
    UnknownHost(String),
    /// No server for names answers.
    #[error("the name {host} cannot be looked up: no DNS server answers")]
    NoDns {
        /// The server.
        host: String,
    },
    /// There is no connection to the server, or it broke each time.
    #[error("the connection to {host} failed")]
    Connection {
        /// The server.
        host: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The server did not answer in time, or stopped sending.
    #[error("{host} did not {missing} within {} seconds", limit.as_secs())]
    Timeout {
        /// The server.
        host: String,
        /// The missing part, in words that fit after "did not".
        missing: &'static str,
        /// The time that runner waited.
        limit: Duration,
    },
    /// The server has no certificate that this host trusts.
    #[error("the certificate of {host} is not trusted: {problem}")]
    Certificate {
        /// The server.
        host: String,
        /// The problem.
        problem: String,
    },
    /// The server's answer is not HTTP.
    #[error("the answer of {host} is broken: {problem}")]
    Protocol {
        /// The server.
        host: String,
        /// The problem.
        problem: String,
    },
    /// The server answered with an error.
    #[error("{host} answered {status}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    Status {
        /// The server.
        host: String,
        /// The status code.
        status: u16,
        /// The server's own explanation, if it has one.
        detail: String,
        /// The time after which the server asked to try again.
        retry_after: Option<Duration>,
        /// The values of `WWW-Authenticate`: how it wants to be asked.
        challenges: Vec<String>,
    },
    /// A redirect that is not followed.
    #[error("{host} redirects {problem}")]
    Redirect {
        /// The server.
        host: String,
        /// The problem, in words that fit after "redirects".
        problem: String,
    },
    /// The body is larger than it may be.
    #[error("{host} sends more than {limit} bytes")]
    TooLarge {
        /// The server.
        host: String,
        /// The limit.
        limit: u64,
    },
    /// The body has another size than announced.
    #[error("{host} sent {found} bytes, and {expected} were expected")]
    Size {
        /// The server.
        host: String,
        /// The expected size.
        expected: u64,
        /// The size of the body.
        found: u64,
    },
    /// The body has another digest than it must have.
    #[error("{host} sent content with the digest {found}, and {expected} was expected")]
    Digest {
        /// The server.
        host: String,
        /// The digest that the content must have.
        expected: Digest,
        /// The digest of the body.
        found: Digest,
    },
    /// The proxy that a variable names cannot be used.
    #[error("the proxy of the variable {variable} cannot be used: {problem}")]
    Proxy {
        /// The name of the variable.
        variable: String,
        /// The problem.
        problem: String,
    },
    /// The certificates of trusted authorities cannot be read.
    #[error("cannot read the trusted certificates of {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The body cannot be written to a file, or the file to send cannot be read.
    #[error("cannot {action}")]
    File {
        /// The failed operation.
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The build was interrupted.
    #[error("it was interrupted")]
    Interrupted,
}

impl HttpError {
    /// Returns the fix, if one is known.
    pub fn hint(&self) -> Option<String> {
        let url = &self.url;
        let text = match &*self.problem {
            Problem::Url(_) => "write a URL that begins with https:// or http://".to_owned(),
            Problem::UnknownHost(host) | Problem::NoDns { host } => format!(
                "check the name, and this host's DNS with `getent hosts {host}`; behind a proxy, set the variable https_proxy"
            ),
            Problem::Connection { .. } | Problem::Timeout { .. } => format!(
                "check the connection with `curl -I {url}`; behind a proxy, set the variable https_proxy; then try again"
            ),
            Problem::Certificate { .. } => {
                "if the server has a certificate of an authority of your own, name its file: SSL_CERT_FILE=/path/ca.pem"
                    .to_owned()
            }
            Problem::Protocol { .. } => "check that the URL names a web server, and its port".to_owned(),
            Problem::Status { host, status, retry_after, .. } => status_hint(host, *status, *retry_after),
            Problem::Redirect { .. } => "write the URL that it leads to, if you trust it".to_owned(),
            Problem::TooLarge { .. } => "check the URL: the content there is not what runner expects".to_owned(),
            Problem::Size { .. } => "try again; if it stays so, a proxy or the server damages the content".to_owned(),
            Problem::Digest { found, .. } => format!(
                "if the new content is intended, write its digest {found}; else the server or a proxy damages it"
            ),
            Problem::Proxy { variable, .. } => format!("set {variable} to http://HOST:PORT, or unset it"),
            Problem::Certificates { .. } => {
                "install the package ca-certificates, or set SSL_CERT_FILE to a file of PEM certificates".to_owned()
            }
            Problem::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space with `runner store gc`, or use another store with --store DIRECTORY".to_owned()
            }
            Problem::File { .. } | Problem::Interrupted => return None,
        };
        Some(text)
    }

    /// Returns the status that the server answered.
    pub fn status(&self) -> Option<u16> {
        match *self.problem {
            Problem::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Returns whether the content is the cause, and not this host or the network.
    pub fn is_of_input(&self) -> bool {
        matches!(
            *self.problem,
            Problem::Url(_) | Problem::Digest { .. } | Problem::TooLarge { .. } | Problem::Redirect { .. }
        ) || matches!(self.status(), Some(400..=407 | 409..=428))
    }

    /// Returns whether there is no working connection to the server.
    pub fn is_of_connection(&self) -> bool {
        matches!(
            *self.problem,
            Problem::UnknownHost(_)
                | Problem::NoDns { .. }
                | Problem::Connection { .. }
                | Problem::Timeout { .. }
                | Problem::Certificate { .. }
        )
    }

    /// Returns whether the cause is the interruption of the build.
    pub fn is_interruption(&self) -> bool {
        matches!(*self.problem, Problem::Interrupted)
    }
}

fn status_hint(host: &str, status: u16, retry_after: Option<Duration>) -> String {
    match (status, retry_after) {
        (401 | 403, _) => {
            format!("check the name; if it is private, log in: `docker login {host}` or `skopeo login {host}`")
        }
        (404 | 410, _) => "check the name; it may have been removed there".to_owned(),
        (407, _) => "write the proxy's user and password into https_proxy: http://USER:PASSWORD@HOST:PORT".to_owned(),
        (429, Some(after)) => {
            format!("the server limits requests: try again in {} seconds, or log in there", after.as_secs())
        }
        (429, None) => "the server limits requests: try again later, or log in there".to_owned(),
        (500.., _) => "the server has a problem of its own: try again later".to_owned(),
        _ => "check the URL".to_owned(),
    }
}
