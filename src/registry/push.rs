//! Pushes blobs and manifests: only those that the registry lacks.

use std::fs::File;

use super::repository::Repository;
use super::token::{Action, Server, query};
use super::{RegistryError, Resolved};
use crate::digest::Digest;
use crate::http::{HttpError, Method, Origin, Problem, Reply, Request, RequestBody, Uri, header, join};

/// An upload that broke is begun again as often: a registry does not always continue one.
const UPLOADS: u32 = 3;

/// A blob to push.
#[derive(Debug, Clone, Copy)]
pub struct PushedBlob<'f> {
    /// The digest of its content.
    pub digest: Digest,
    /// The content.
    pub file: &'f File,
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
    /// Puts a blob into the repository.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn push_blob(&self, blob: &PushedBlob<'_>) -> Result<Pushed, RegistryError> {
        let server = self.own()?;
        let url = server.endpoint.url(&format!("blobs/{}", blob.digest));
        let head = self.call(server, &Request { method: Method::HEAD, ..Request::get(url) }, &[200, 404])?;
        if head.status == 200 {
            return Ok(Pushed::Existing);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.upload(server, blob) {
                Err(RegistryError::Http(error)) if tries < UPLOADS && is_worth_another(&error) => {}
                result => return result,
            }
        }
    }

    fn upload(&self, server: &Server<'_>, blob: &PushedBlob<'_>) -> Result<Pushed, RegistryError> {
        let digest = blob.digest.to_string();
        let mount = blob.mount_from.map(|from| format!("?{}", query(&[("mount", &digest), ("from", from)])));
        let url = server.endpoint.url(&format!("blobs/uploads/{}", mount.unwrap_or_default()));
        let begin = Request { method: Method::POST, body: RequestBody::Bytes(&[]), ..Request::get(url) };
        let begun = self.call(server, &begin, &[201, 202])?;
        if begun.status == 201 {
            return Ok(Pushed::Mounted);
        }
        let problem = |problem: &str| RegistryError::Protocol {
            registry: server.endpoint.registry.clone(),
            problem: problem.to_owned(),
        };
        let location = begun.header(header::LOCATION).and_then(|location| join(&begun.uri, location));
        let location = location.ok_or_else(|| problem("it begins an upload without an address for it"))?;
        let begin_uri: Option<Uri> = begin.url.parse().ok();
        if begin_uri.as_ref().and_then(Uri::scheme) == Some(&ureq::http::uri::Scheme::HTTPS)
            && location.scheme_str() != Some("https")
        {
            return Err(problem("it wants an upload without https"));
        }
        let separator = if location.query().is_some() { '&' } else { '?' };
        let url = format!("{location}{separator}{}", query(&[("digest", &digest)]));
        let headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let put = Request { method: Method::PUT, headers, body: RequestBody::File(blob.file), ..Request::get(url) };
        // Only the registry gets the credentials, and not a server that it leads to.
        let is_own = begin_uri.as_ref().and_then(Origin::of) == Origin::of(&location);
        if is_own {
            self.call(server, &put, &[201])?;
        } else {
            let reply = server.client.send(&put)?;
            if reply.status != 201 {
                return Err(server.client.failed(&put, reply.into_problem()).into());
            }
        }
        Ok(Pushed::Uploaded)
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
        let stored = header::HeaderName::from_static("docker-content-digest");
        match reply.header(stored).filter(|stored| *stored != digest.to_string()) {
            Some(stored) => {
                let problem = format!("it stored the manifest as {}, and it is {digest}", stored.escape_debug());
                Err(RegistryError::Protocol { registry: server.endpoint.registry.clone(), problem })
            }
            None => Ok(Resolved { digest }),
        }
    }

    /// Makes a call that changes the repository, and expects one of these statuses.
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

fn is_worth_another(error: &HttpError) -> bool {
    matches!(*error.problem, Problem::Connection { .. } | Problem::Timeout { .. })
        || matches!(error.status(), Some(400 | 404 | 416))
}
