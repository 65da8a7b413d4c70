//! Pulls images from registries and pushes to them, by the four calls of the OCI distribution spec.
//!
//! - **Names**: a tag leads to a digest ([`Repository::resolve`]), and everything else is asked for by digest and checked.
//! - **Credentials** are those of Docker and of containers' tools, by their files and helpers ([`credentials`]); they go to the
//!   registry that they are for and to the token service that it names, and nowhere else.
//! - **Mirrors** of `runner.toml` are asked before the registry ([`RegistryOptions`]). One that fails is reported once
//!   ([`Notices`]); one that cannot be reached is not asked again.
//! - **http** without TLS is for registries on this host alone.
//! - Layers arrive in parallel, a few at a time, and each is taken in its order as soon as it is there ([`each_layer`]).
//! - **Pushes** go to the registry itself, never to a mirror. Only the blobs that it lacks are sent, and the manifest is the last
//!   ([`Repository::push_image`]).

mod challenge;
pub mod credentials;
mod endpoint;
mod error;
mod parallel;
mod push;
mod push_image;
mod repository;
#[cfg(test)]
mod tests;
mod token;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use error::{PushError, RegistryError, SentCredentials};
pub use parallel::each_layer;
pub use push::{Pushed, PushedBlob};
pub use push_image::{PushProgress, PushReport};
pub use repository::{Repository, Resolved};

use crate::error::error_chain;
use crate::http::{Client, Options, WaitReport};
use crate::poison::lock;

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
    http: Options,
    credentials: credentials::Sources,
    stop: Arc<AtomicBool>,
    notices: Option<Arc<dyn Notices>>,
    mirrors: Mutex<FailedMirrors>,
}

/// The mirrors that have failed in this build.
#[derive(Debug, Default)]
struct FailedMirrors {
    reported: HashSet<String>,
    unreachable: HashSet<String>,
}

/// Receives facts about calls that a user who waits for them wants to know.
pub trait Notices: Debug + Send + Sync {
    /// A request for an image or a URL failed, and waits before it is tried again.
    fn waits(&self, source: &str, wait: Duration, reason: &str);

    /// A mirror of a registry failed, and the next server is asked.
    fn skips_mirror(&self, mirror: &str, registry: &str, why: &str);
}

impl Registries {
    /// Makes one with these settings. Calls end when `stop` becomes true.
    pub fn new(
        options: RegistryOptions,
        http: Options,
        credentials: credentials::Sources,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { options, http, credentials, stop, notices: None, mirrors: Mutex::default() }
    }

    /// Reports waits and failed mirrors.
    #[must_use]
    pub fn reporting(self, notices: Arc<dyn Notices>) -> Self {
        Self { notices: Some(notices), ..self }
    }

    /// Returns a client for requests that are none to a registry; its reports name this source.
    pub fn client_for(&self, source: &str) -> Client {
        Client::new(self.http_options(source), Arc::clone(&self.stop))
    }

    /// Returns the options of a client whose reports name this source.
    fn http_options(&self, source: &str) -> Options {
        let waits = self.notices.clone().map(|notices| {
            let source = source.to_owned();
            WaitReport::by(move |wait, reason| notices.waits(&source, wait, reason))
        });
        Options { waits: waits.unwrap_or_default(), ..self.http.clone() }
    }

    /// Returns whether a mirror could not be reached before.
    fn is_unreachable(&self, mirror: &str) -> bool {
        lock(&self.mirrors).unreachable.contains(mirror)
    }

    /// Notes that a mirror failed, and reports the first failure of each. That it does not have an image is none.
    fn failed_mirror(&self, mirror: &str, registry: &str, error: &RegistryError) {
        if matches!(error, RegistryError::NotFound { .. }) {
            return;
        }
        let is_first = {
            let mut mirrors = lock(&self.mirrors);
            if error.is_of_connection() {
                mirrors.unreachable.insert(mirror.to_owned());
            }
            mirrors.reported.insert(mirror.to_owned())
        };
        if let Some(notices) = self.notices.as_ref().filter(|_| is_first) {
            notices.skips_mirror(mirror, registry, &error_chain(error));
        }
    }
}
