//! The credentials of the caller for a registry: those of Docker's `config.json` and of containers' `auth.json`, and of the
//! credential helpers that these name.
//!
//! The files are asked in the order of skopeo and podman: `REGISTRY_AUTH_FILE`, `containers/auth.json` of the runtime directory
//! and of the configuration, then Docker's `config.json` (in `DOCKER_CONFIG` or `~/.docker`).
//!
//! A helper is a program `docker-credential-NAME` of the caller's `PATH`. It runs with few variables of the environment: `PATH`,
//! `HOME`, those of the session's bus and directories, and those of cloud providers (`AWS_`, `GOOGLE_`, `CLOUDSDK_`, `AZURE_`).

mod helper;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::RegistryError;
use crate::fs::regular;

/// The largest file of credentials.
const MAX_BYTES: u64 = 4 << 20;

/// The user name by which a helper says that the password is a token of an identity.
const TOKEN_USER: &str = "<token>";

/// The names under which files have the credentials of the default registry.
const DEFAULT_NAMES: [&str; 4] = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// The name under which helpers have them.
const DEFAULT_HELPER_NAME: &str = "https://index.docker.io/v1/";

/// The proof of an identity. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that gives tokens.
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user}, …)"),
            Self::Identity(_) => f.write_str("Identity(…)"),
        }
    }
}

impl Credentials {
    /// Returns them as the value of an `Authorization` of the scheme Basic.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            Self::Identity(_) => None,
        }
    }
}

/// The places where credentials are looked for.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The files, in order; a missing one has none.
    pub files: Vec<PathBuf>,
    /// The variables that helpers get.
    pub variables: BTreeMap<String, String>,
}

impl Sources {
    /// Returns those of this process's environment.
    pub fn of_environment() -> Self {
        let all: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::of(all, rustix::process::getuid().as_raw())
    }

    fn of(mut variables: BTreeMap<String, String>, uid: u32) -> Self {
        let directory = |name: &str| variables.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = |below: &str| directory("HOME").map(|home| home.join(below));
        let runtime = directory("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers/auth.json"));
        let config = directory("XDG_CONFIG_HOME").or_else(|| home(".config"));
        let files = [
            directory("REGISTRY_AUTH_FILE"),
            runtime.or_else(|| Some(format!("/run/containers/{uid}/auth.json").into())),
            config.map(|config| config.join("containers/auth.json")),
            directory("DOCKER_CONFIG").or_else(|| home(".docker")).map(|docker| docker.join("config.json")),
        ];
        let files = files.into_iter().flatten().collect();
        variables.retain(|name, _| helper::is_passed(name));
        Self { files, variables }
    }

    /// Returns the credentials for a repository of a registry, and the place that has them.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<(Credentials, String)>, RegistryError> {
        for path in &self.files {
            let Some(file) = read(path)? else { continue };
            if let Some(helper) = file.helper(registry) {
                let name = if DEFAULT_NAMES.contains(&registry) { DEFAULT_HELPER_NAME } else { registry };
                if let Some(found) = helper::get(&helper, name, &self.variables, stop)? {
                    return Ok(Some((found, format!("docker-credential-{helper}"))));
                }
            }
            if let Some(entry) = file.entry(registry, repository) {
                let wrong = |problem: String| RegistryError::Credentials { path: path.clone(), problem };
                if let Some(found) = entry.credentials().map_err(wrong)? {
                    return Ok(Some((found, path.display().to_string())));
                }
            }
        }
        Ok(None)
    }
}

/// A file of credentials; the keys that runner does not need are ignored.
#[derive(Debug, Default, Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl Entry {
    /// Returns its credentials; none where a helper has them.
    fn credentials(&self) -> Result<Option<Credentials>, String> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::Identity(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let decoded = BASE64_STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.ok_or("an `auth` in it is not Base64 of USER:PASSWORD")?;
            let (user, password) =
                decoded.split_once(':').ok_or("an `auth` in it has no colon between user and password")?;
            return Ok(Some(password_of(user, password.trim_end_matches('\0'))));
        }
        Ok(self.username.as_ref().zip(self.password.as_ref()).map(|(user, password)| password_of(user, password)))
    }
}

fn password_of(user: &str, password: &str) -> Credentials {
    match user {
        TOKEN_USER => Credentials::Identity(password.to_owned()),
        user => Credentials::Password { user: user.to_owned(), password: password.to_owned() },
    }
}

impl AuthFile {
    /// Returns the helper for a registry; its own before the one for all.
    fn helper(&self, registry: &str) -> Option<String> {
        let own =
            self.cred_helpers.iter().find(|(name, _)| is_name_of(host_of(name), registry)).map(|(_, helper)| helper);
        own.or(self.creds_store.as_ref()).filter(|helper| !helper.is_empty()).cloned()
    }

    /// Returns the entry for a repository: the one with the longest name, as `ghcr.io/o/n` before `ghcr.io`.
    fn entry(&self, registry: &str, repository: &str) -> Option<&Entry> {
        let fits = |name: &str| {
            let name = name.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            let (host, path) = name.split_once('/').unwrap_or((name, ""));
            // The keys of Docker end in the version of an old API.
            let path = if matches!(path, "v1" | "v2") { "" } else { path };
            let is_above = path.is_empty() || repository == path || repository.starts_with(&format!("{path}/"));
            (is_name_of(host, registry) && is_above).then_some(path.len())
        };
        let fitting = self.auths.iter().filter_map(|(name, entry)| Some((fits(name)?, entry)));
        fitting.max_by_key(|(length, _)| *length).map(|(_, entry)| entry)
    }
}

fn host_of(name: &str) -> &str {
    let name = name.trim_start_matches("https://").trim_start_matches("http://");
    name.split('/').next().unwrap_or(name)
}

/// Whether two names are of one registry: the default one has several.
fn is_name_of(name: &str, registry: &str) -> bool {
    name.eq_ignore_ascii_case(registry) || DEFAULT_NAMES.contains(&name) && DEFAULT_NAMES.contains(&registry)
}

fn read(path: &Path) -> Result<Option<AuthFile>, RegistryError> {
    let wrong = |problem: String| RegistryError::Credentials { path: path.to_owned(), problem };
    let bytes = match regular::read(path, MAX_BYTES) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        bytes => bytes.map_err(|error| wrong(error.to_string()))?,
    };
    // A message of the parser could show a part of a secret.
    let problem = |error: serde_json::Error| wrong(format!("it is broken in line {}", error.line()));
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(problem)
}

#[cfg(test)]
mod tests;
