//! The messages of HTTP, of OCI images and of registries.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{compare, errno, every, shown, variant};
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::http::{HttpError, Problem};
use crate::oci::OciError;
use crate::pull::PullError;
use crate::registry::{PushError, RegistryError, SentCredentials};
use crate::store::StoreError;

fn http(problem: Problem) -> HttpError {
    HttpError {
        url: "https://registry.example.org/v2/o/n/manifests/1".into(),
        is_upload: false,
        problem: Box::new(problem),
    }
}

fn status(status: u16, detail: &str, retry_after: Option<u64>) -> Problem {
    let retry_after = retry_after.map(Duration::from_secs);
    Problem::Status { host: host(), status, detail: detail.into(), retry_after, challenges: Vec::new() }
}

fn host() -> String {
    "registry.example.org".into()
}

fn digests() -> (Digest, Digest) {
    (Digest::of_bytes(b"expected"), Digest::of_bytes(b"found"))
}

#[test]
fn every_error_of_http_says_where_why_and_what_to_do() {
    let (expected, found) = digests();
    let errors = every! {
        Problem::Url(_) => [Problem::Url("ftp://x".into())],
        Problem::UnknownHost(_) => [Problem::UnknownHost(host())],
        Problem::NoDns { .. } => [Problem::NoDns { host: host() }],
        Problem::Connection { .. } => [Problem::Connection { host: host(), source: errno(libc::ECONNREFUSED) }],
        Problem::Timeout { .. } => [Problem::Timeout { host: host(), missing: "send anything", limit: Duration::from_secs(60) }],
        Problem::Certificate { .. } => [Problem::Certificate { host: host(), problem: "this host trusts no authority that signed it".into() }],
        Problem::Protocol { .. } => [Problem::Protocol { host: host(), problem: "http status line is broken".into() }],
        Problem::Status { .. } => [
            status(401, "", None),
            status(403, "access denied", None),
            status(404, "", None),
            status(407, "", None),
            status(418, "", None),
            status(429, "", None),
            status(429, "slow down", Some(3600)),
            status(500, "", None),
        ],
        Problem::Redirect { .. } => [Problem::Redirect { host: host(), problem: "from https to http: http://x/y".into() }],
        Problem::TooLarge { .. } => [Problem::TooLarge { host: host(), limit: 4 << 20 }],
        Problem::Size { .. } => [Problem::Size { host: host(), expected: 7, found: 5 }],
        Problem::Digest { .. } => [Problem::Digest { host: host(), expected, found }],
        Problem::Proxy { .. } => [Problem::Proxy { variable: "https_proxy".into(), problem: "it is not a URL of a proxy".into() }],
        Problem::Certificates { .. } => [Problem::Certificates { path: "/etc/ca.pem".into(), source: errno(libc::ENOENT) }],
        Problem::File { .. } => [
            Problem::File { action: "write the download", source: errno(libc::ENOSPC) },
            Problem::File { action: "read the file to send", source: errno(libc::EIO) },
        ],
        Problem::Interrupted => [Problem::Interrupted],
    };
    let line = |problem: Problem| {
        let (name, error) = (variant(&problem), http(problem));
        let hint = error.hint();
        format!("{name}\n{}", Error::new(Exit::Host, error).with_hint(hint).render())
    };
    compare("http", errors.into_iter().map(line));
}

#[test]
fn every_error_of_an_image_says_where_why_and_what_to_do() {
    let path = || PathBuf::from("/work/images/debian");
    let (expected, found) = digests();
    let errors = every! {
        OciError::Read { .. } => [
            OciError::Read { path: path(), name: "blobs/sha256/0".into(), source: errno(libc::ENOENT) },
            OciError::Read { path: path(), name: "index.json".into(), source: errno(libc::EACCES) },
        ],
        OciError::NoLayout { .. } => [OciError::NoLayout {
            path: path(),
            problem: "it is an archive of `docker save`".into(),
            hint: "convert it: `skopeo copy docker-archive:/work/images/debian oci:DIRECTORY:TAG`".into(),
        }],
        OciError::Tag { .. } => [
            OciError::Tag { path: path(), problem: "no image with the tag `13`".into(), tags: vec!["11".into(), "12".into()] },
            OciError::Tag { path: path(), problem: "no image".into(), tags: Vec::new() },
        ],
        OciError::Platform { .. } => [OciError::Platform {
            wanted: "linux/s390x".into(),
            found: vec!["linux/amd64".into(), "linux/arm64/v8".into()],
        }],
        OciError::Document { .. } => [OciError::Document { name: "the manifest".into(), problem: "it has 501 layers, and 500 are the most".into() }],
        OciError::Digest { .. } => [OciError::Digest { expected, found }],
        OciError::Size { .. } => [OciError::Size { digest: expected, expected: 7, found: 5 }],
        OciError::Write(_) => [OciError::Write(errno(libc::ENOSPC)), OciError::Write(io::Error::other("it broke"))],
    };
    compare("oci", shown(errors, OciError::hint));
}

#[test]
fn every_error_of_a_registry_says_where_why_and_what_to_do() {
    let denied = |action, credentials: Option<&str>| RegistryError::Denied {
        registry: host(),
        action,
        name: "registry.example.org/o/n:1".into(),
        detail: "access denied".into(),
        credentials: credentials.map_or_else(
            || {
                let files = ["/root/.config/containers/auth.json", "/root/.docker/config.json"];
                SentCredentials::None(files.map(PathBuf::from).into())
            },
            |place| SentCredentials::Of(place.to_owned()),
        ),
    };
    let errors = every! {
        RegistryError::Http(_) => [RegistryError::Http(http(status(503, "", None)))],
        RegistryError::Oci(_) => [RegistryError::Oci(OciError::Document { name: "the manifest".into(), problem: "it is broken".into() })],
        RegistryError::Denied { .. } => [
            denied("pull", None),
            denied("push", None),
            denied("push", Some("/root/.docker/config.json")),
        ],
        RegistryError::NoRepository { .. } => [RegistryError::NoRepository { registry: host(), repository: "o/n".into() }],
        RegistryError::NotFound { .. } => [RegistryError::NotFound { registry: host(), name: "registry.example.org/o/n:1".into() }],
        RegistryError::Credentials { .. } => [RegistryError::Credentials { path: "/root/.docker/config.json".into(), problem: "it is broken in line 3".into() }],
        RegistryError::Helper { .. } => [RegistryError::Helper { program: "docker-credential-pass".into(), registry: host(), problem: "it is not in PATH".into() }],
        RegistryError::Protocol { .. } => [RegistryError::Protocol { registry: host(), problem: "its token service gives no token".into() }],
    };
    compare("registry", shown(errors, RegistryError::hint));
}

#[test]
fn every_error_of_finding_an_image_says_where_why_and_what_to_do() {
    let (expected, found) = digests();
    let container = || "base".to_owned();
    let errors = every! {
        PullError::Image { .. } => [PullError::Image {
            container: container(),
            source: Box::new(RegistryError::NotFound { registry: host(), name: "registry.example.org/o/n:1".into() }),
        }],
        PullError::Digest { .. } => [PullError::Digest { container: container(), expected, found }],
        PullError::NoDigest { .. } => [PullError::NoDigest { container: container(), url: "https://example.org/base.tar".into() }],
        PullError::Url { .. } => [PullError::Url { container: container(), source: http(status(404, "", None)) }],
        PullError::Download(_) => [PullError::Download(errno(libc::ENOSPC))],
        PullError::Store(_) => [PullError::Store(StoreError::ReadOnly { path: "/var/cache/runner".into() })],
    };
    compare("pull", shown(errors, PullError::hint));
}

#[test]
fn a_failed_push_says_which_image_where_why_and_what_to_do() {
    let errors = [
        RegistryError::NoRepository { registry: host(), repository: "o/n".into() },
        RegistryError::Http(HttpError { is_upload: true, ..http(status(413, "the blob is too large", None)) }),
        RegistryError::Protocol { registry: host(), problem: "it begins an upload without an address for it".into() },
    ];
    let error = |source| PushError { name: "registry.example.org/o/n:1".into(), source };
    compare("push", shown(errors.map(error).into(), PushError::hint));
}
