//! Pushes blobs and manifests: only those that the registry lacks.

use std::ops::ControlFlow;

use super::repository::Repository;
use super::token::{Action, Server, query};
use super::{RegistryError, Resolved};
use crate::digest::Digest;
use crate::http::{HttpError, Method, Origin, Problem, Reply, Request, RequestBody, SentFile, Uri, header, join};
use crate::oci::{FilePart, MANIFEST_TYPES};

/// An upload that broke is begun again as often: a registry does not always continue one.
const UPLOADS: u32 = 3;

/// The header with the digest of the content that the registry stored, or has.
const STORED: header::HeaderName = header::HeaderName::from_static("docker-content-digest");

/// A blob to push.
#[derive(Debug, Clone, Copy)]
pub struct PushedBlob<'f> {
    /// The digest of its content.
    pub digest: Digest,
    /// The content.
    pub content: &'f FilePart,
    /// A repository of the same registry that may have it.
    pub mount_from: Option<&'f str>,
}

/// The way in which a blob came into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existing,
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl Repository<'_> {
    /// Puts a blob into the repository. `progress` gets the number of bytes that were sent, and may end the push.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn push_blob(
        &self,
        blob: &PushedBlob<'_>,
        progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
    ) -> Result<Pushed, RegistryError> {
        let server = self.own()?;
        let url = server.endpoint.url(&format!("blobs/{}", blob.digest));
        let head = self.call(server, &Request { method: Method::HEAD, ..Request::get(url) }, &[200, 404])?;
        if head.status == 200 {
            return Ok(Pushed::Existing);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.upload(server, blob, progress) {
                Err(RegistryError::Http(error)) if tries < UPLOADS && is_worth_another(&error) => {}
                result => return result,
            }
        }
    }

    fn upload(
        &self,
        server: &Server<'_>,
        blob: &PushedBlob<'_>,
        progress: &(dyn Fn(u64) -> ControlFlow<()> + Sync),
    ) -> Result<Pushed, RegistryError> {
        let digest = blob.digest.to_string();
        let begun = match blob.mount_from {
            None => self.begin_upload(server, None)?,
            Some(from) => match self.begin_upload(server, Some(&query(&[("mount", &digest), ("from", from)]))) {
                // The user may push here, and may not read there.
                Err(error) if is_refusal(&error) => self.begin_upload(server, None)?,
                begun => begun?,
            },
        };
        if begun.status == 201 {
            return Ok(Pushed::Mounted);
        }
        let location = begun.header(header::LOCATION).and_then(|location| join(&begun.uri, location));
        let location = location.ok_or_else(|| protocol(server, "it begins an upload without an address for it"))?;
        if begun.uri.scheme_str() == Some("https") && location.scheme_str() != Some("https") {
            return Err(protocol(server, "it wants an upload without https"));
        }
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = format!("{location}{separator}{}", query(&[("digest", &digest)]));
        let headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let FilePart { file, offset, size } = blob.content;
        let body = RequestBody::File(SentFile { file, offset: *offset, size: *size, progress });
        let put = Request { method: Method::PUT, headers, body, ..Request::get(url) };
        // Only the registry gets the credentials, and not a server that it leads to.
        let own: Option<Uri> = server.endpoint.url("").parse().ok();
        let reply = if own.as_ref().and_then(Origin::of) == Origin::of(&location) {
            self.call(server, &put, &[201])?
        } else {
            let reply = server.client.send(&put)?;
            if reply.status != 201 {
                return Err(server.client.failed(&put, reply.into_problem()).into());
            }
            reply
        };
        expect_digest(server, &reply, "the blob", &blob.digest)?;
        Ok(Pushed::Uploaded)
    }

    /// Begins an upload, or asks to take the blob from another repository.
    fn begin_upload(&self, server: &Server<'_>, mount: Option<&str>) -> Result<Reply, RegistryError> {
        let url = server
            .endpoint
            .url(&format!("blobs/uploads/{}", mount.map(|mount| format!("?{mount}")).unwrap_or_default()));
        let begin = Request { method: Method::POST, body: RequestBody::Bytes(&[]), ..Request::get(url) };
        // Only a mount may end here.
        let expected: &[u16] = if mount.is_some() { &[201, 202] } else { &[202] };
        self.call(server, &begin, expected).map_err(|error| match &error {
            RegistryError::Http(http) if http.status() == Some(404) => RegistryError::NoRepository {
                registry: server.endpoint.registry.clone(),
                repository: server.endpoint.repository.clone(),
            },
            _ => error,
        })
    }

    /// Returns the digest of the manifest under the tag of the name; none where there is none, or the registry does not say it.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn tagged(&self) -> Result<Option<Digest>, RegistryError> {
        let server = self.own()?;
        let url = server.endpoint.url(&format!("manifests/{}", self.name.version));
        let headers = vec![(header::ACCEPT, MANIFEST_TYPES.join(", "))];
        let head = Request { method: Method::HEAD, headers, ..Request::get(url) };
        let reply = self.call(server, &head, &[200, 404])?;
        Ok(reply.header(STORED).filter(|_| reply.status == 200).and_then(|digest| digest.parse().ok()))
    }

    /// Puts a manifest or an index under the version of the name, and under its digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn push_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Resolved, RegistryError> {
        let server = self.own()?;
        let digest = Digest::of_bytes(bytes);
        let url = server.endpoint.url(&format!("manifests/{}", self.name.version));
        let headers = vec![(header::CONTENT_TYPE, media_type.to_owned())];
        let put = Request { method: Method::PUT, headers, body: RequestBody::Bytes(bytes), ..Request::get(url) };
        let reply = self.call(server, &put, &[201])?;
        expect_digest(server, &reply, "the manifest", &digest)?;
        Ok(Resolved { digest })
    }

    /// Makes a call that changes the repository, or that a change begins with, and expects one of these statuses.
    fn call(&self, server: &Server<'_>, request: &Request<'_>, expected: &[u16]) -> Result<Reply, RegistryError> {
        let name = self.name.to_string();
        server.authorized(Action::Push, &name, |authorization| {
            let request = Request { authorization, ..request.clone() };
            let reply = server.client.send(&request)?;
            if expected.contains(&reply.status) {
                Ok(reply)
            } else {
                Err(server.client.failed(&request, reply.into_problem()))
            }
        })
    }
}

/// Refuses the answer to an upload if it names another digest. A registry may leave it out.
fn expect_digest(server: &Server<'_>, reply: &Reply, content: &str, digest: &Digest) -> Result<(), RegistryError> {
    match reply.header(STORED).filter(|stored| *stored != digest.to_string()) {
        Some(stored) => {
            let stored: String = stored.chars().take(200).collect();
            Err(protocol(server, &format!("it stored {content} as {}, and it is {digest}", stored.escape_debug())))
        }
        None => Ok(()),
    }
}

fn protocol(server: &Server<'_>, problem: &str) -> RegistryError {
    RegistryError::Protocol { registry: server.endpoint.registry.clone(), problem: problem.to_owned() }
}

/// Whether the registry refuses a request that another one may do without.
fn is_refusal(error: &RegistryError) -> bool {
    match error {
        RegistryError::Denied { .. } | RegistryError::NoRepository { .. } => true,
        RegistryError::Http(error) => error.status().is_some_and(|status| (400..500).contains(&status)),
        _ => false,
    }
}

fn is_worth_another(error: &HttpError) -> bool {
    matches!(*error.problem, Problem::Connection { .. } | Problem::Timeout { .. })
        || matches!(error.status(), Some(400 | 404 | 416))
}
