//! The one HTTP client: requests that are retried, redirected safely and bounded, and downloads that are verified.
//!
//! - A request is tried again after 408, 429 (as late as `Retry-After` asks), 5xx and a broken connection; only once more where
//!   nobody listens on a port of this host, or it has no DNS. A wait of more than a second is reported ([`WaitReport`]).
//! - A redirect never leads from https to http, and credentials are sent only to the server that they are for.
//! - A body that is read into memory has a limit; a larger one is written to a file while it is hashed ([`Download`]), and a
//!   broken download continues where it ended.
//! - A server that sends nothing, or next to nothing, for a minute is given up.
//! - A proxy comes from `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, the trusted authorities from `SSL_CERT_FILE` or
//!   the system.
//! - A flag ends a request that waits, within a tenth of a second.

mod certificates;
mod client;
mod download;
mod error;
mod proxy;
mod redirect;
mod reply;
mod retry;
mod sent_file;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Options, Request, RequestBody, WaitReport};
pub use download::Download;
pub use error::{HttpError, Problem};
pub use proxy::is_loopback;
pub use redirect::{Origin, join, shown_url};
pub use reply::Reply;
pub use sent_file::SentFile;
pub use ureq::http::{Method, Uri, header};
