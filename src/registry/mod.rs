//! Pulls images from registries and pushes to them, by the four calls of the OCI distribution spec.
//!
//! - **Names**: a tag leads to a digest ([`Repository::resolve`]), and everything else is asked for by digest and checked.
//! - **Credentials** are those of Docker and of containers' tools, by their files and helpers ([`credentials`]); they go to the
//!   registry that they are for and to the token service that it names, and nowhere else.
//! - **Mirrors** of `runner.toml` are asked before the registry ([`RegistryOptions`]).
//! - **http** without TLS is for registries on this host alone.
//! - Layers arrive in parallel, a few at a time, and each is taken in its order as soon as it is there ([`each_layer`]).

mod challenge;
pub mod credentials;
mod endpoint;
mod error;
mod parallel;
mod push;
mod repository;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use error::RegistryError;
pub use parallel::each_layer;
pub use push::{Pushed, PushedBlob};
pub use repository::{Repository, Resolved};

/// The settings for registries, by the name of the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryOptions {
    /// The settings of each registry that has some.
    pub registries: BTreeMap<String, RegistrySettings>,
}

/// The settings for one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The registries that are asked before it, in order: a host, a port and perhaps the beginning of repositories there.
    pub mirrors: Vec<String>,
    /// A file of certificate authorities that are trusted beside the usual ones.
    pub ca: Option<PathBuf>,
}

/// Everything that all calls to registries share.
#[derive(Debug)]
pub struct Registries {
    options: RegistryOptions,
    http: crate::http::Options,
    credentials: credentials::Sources,
    stop: Arc<AtomicBool>,
}

impl Registries {
    /// Makes one with these settings. Calls end when `stop` becomes true.
    pub fn new(
        options: RegistryOptions,
        http: crate::http::Options,
        credentials: credentials::Sources,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { options, http, credentials, stop }
    }

    /// Returns a client for requests that are none to a registry.
    pub fn client(&self) -> crate::http::Client {
        crate::http::Client::new(self.http.clone(), Arc::clone(&self.stop))
    }
}
