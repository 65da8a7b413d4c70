//! A repository of a registry, to pull from: its mirrors first.

use std::collections::HashMap;
use std::fs::File;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::endpoint::Endpoint;
use super::token::{Action, Server};
use super::{Registries, RegistryError};
use crate::digest::Digest;
use crate::http::{Download, Problem, Request, header};
use crate::oci::{Blobs, ImageName, LayerBlob, MANIFEST_TYPES, MAX_DOCUMENT, Version};

/// A repository with the image that is pulled or pushed.
#[derive(Debug)]
pub struct Repository<'r> {
    pub(super) name: ImageName,
    registries: &'r Registries,
    /// The mirrors, and the registry itself at the end.
    servers: Vec<Server<'r>>,
    /// The documents that a tag led to.
    documents: Mutex<HashMap<Digest, Vec<u8>>>,
}

/// The image that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of its first document.
    pub digest: Digest,
}

impl<'r> Repository<'r> {
    /// Returns the repository of an image.
    pub fn new(registries: &'r Registries, name: ImageName) -> Self {
        let endpoints = Endpoint::all(&name, &registries.options);
        let image = name.to_string();
        let servers = endpoints.into_iter().map(|endpoint| Server::new(registries, endpoint, &image)).collect();
        Self { name, registries, servers, documents: Mutex::default() }
    }

    /// Returns the registry's own server.
    pub(super) fn own(&self) -> Result<&Server<'r>, RegistryError> {
        let none =
            || RegistryError::Protocol { registry: self.name.registry.clone(), problem: "it has no server".to_owned() };
        self.servers.last().ok_or_else(none)
    }

    /// Returns the image that the name leads to: at once where the name has a digest.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn resolve(&self) -> Result<Resolved, RegistryError> {
        let tag = match &self.name.version {
            Version::Digest(digest) => return Ok(Resolved { digest: *digest }),
            Version::Tag(tag) => tag,
        };
        let bytes = self.first_of(|server| self.get(server, &format!("manifests/{tag}"), true))?;
        let digest = Digest::of_bytes(&bytes);
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, bytes);
        Ok(Resolved { digest })
    }

    /// Asks the servers one after the other, until one has it. The error is the registry's own.
    fn first_of<T>(&self, call: impl Fn(&Server<'r>) -> Result<T, RegistryError>) -> Result<T, RegistryError> {
        let own = self.own()?;
        for server in self.servers.iter().take(self.servers.len() - 1) {
            let mirror = server.endpoint.mirror.as_deref().unwrap_or(&server.endpoint.registry);
            if self.registries.is_unreachable(mirror) {
                continue;
            }
            match call(server) {
                Err(error) if !error.is_interruption() => {
                    self.registries.failed_mirror(mirror, &self.name.registry, &error);
                }
                result => return result,
            }
        }
        call(own)
    }

    fn get(&self, server: &Server<'r>, call: &str, is_manifest: bool) -> Result<Vec<u8>, RegistryError> {
        let name = self.name.to_string();
        let accept = if is_manifest { MANIFEST_TYPES.join(", ") } else { "*/*".to_owned() };
        let fetched = server.authorized(Action::Pull, &name, |authorization| {
            let headers = vec![(header::ACCEPT, accept.clone())];
            let request = Request { headers, authorization, ..Request::get(server.endpoint.url(call)) };
            let (reply, bytes) = server.client.fetch(&request, MAX_DOCUMENT)?;
            if reply.status == 200 {
                Ok(bytes)
            } else {
                Err(server.client.failed(&request, reply.problem_with(&bytes)))
            }
        });
        fetched.map_err(|error| self.not_found(server, error))
    }

    fn not_found(&self, server: &Server<'r>, error: RegistryError) -> RegistryError {
        match &error {
            RegistryError::Http(http) if http.status() == Some(404) => {
                RegistryError::NotFound { registry: server.endpoint.registry.clone(), name: self.name.to_string() }
            }
            _ => error,
        }
    }
}

impl Blobs for Repository<'_> {
    type Error = RegistryError;

    fn document(&self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>, RegistryError> {
        let known = self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let call = format!("{}/{digest}", if is_manifest { "manifests" } else { "blobs" });
        // A mirror with another content is no mirror: the next one is asked.
        self.first_of(|server| {
            let bytes = self.get(server, &call, is_manifest)?;
            match Digest::of_bytes(&bytes) {
                found if found == *digest => Ok(bytes),
                found => {
                    let host = server.endpoint.registry.clone();
                    let request = Request::get(server.endpoint.url(&call));
                    Err(server.client.failed(&request, Problem::Digest { host, expected: *digest, found }).into())
                }
            }
        })
    }

    fn layer(
        &self,
        layer: &LayerBlob,
        into: &File,
        progress: &dyn Fn(u64) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let name = self.name.to_string();
        self.first_of(|server| {
            let received = server.authorized(Action::Pull, &name, |authorization| {
                let url = server.endpoint.url(&format!("blobs/{}", layer.digest));
                let request = Request { authorization, ..Request::get(url) };
                let (digest, size) = (Some(layer.digest), Some(layer.size));
                let download = Download { request, digest, size, limit: layer.size };
                server.client.download(&download, into, &|count, _| progress(count))
            });
            received.map(drop).map_err(|error| self.not_found(server, error))
        })
    }
}
