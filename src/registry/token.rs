//! A server with its credentials: asks for a token where the registry wants one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::{Registries, RegistryError, SentCredentials};
use crate::http::{Client, HttpError, Method, Problem, Request, RequestBody, Uri, header};

/// The largest answer of a token service.
const MAX_TOKEN: u64 = 1 << 20;

/// The name of runner for token services.
const CLIENT: &str = "runner";

/// The use that a call makes of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A server of an image, and the way to ask it.
#[derive(Debug)]
pub(super) struct Server<'r> {
    registries: &'r Registries,
    pub(super) endpoint: Endpoint,
    pub(super) client: Client,
    /// The value of `Authorization` that worked last, and the place of the credentials for it.
    authorization: Mutex<Authorization>,
}

#[derive(Debug, Clone, Default)]
struct Authorization {
    value: Option<Secret>,
    place: Option<String>,
}

/// A value that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'r> Server<'r> {
    /// Makes the server of an image, whose name is for reports.
    pub(super) fn new(registries: &'r Registries, endpoint: Endpoint, image: &str) -> Self {
        let mut options = registries.http_options(image);
        let settings = registries.options.registries.get(&endpoint.registry);
        options.certificates.extend(settings.and_then(|settings| settings.ca.clone()));
        let client = Client::new(options, registries.stop.clone());
        Self { registries, endpoint, client, authorization: Mutex::default() }
    }

    /// Makes a call, which gets the credentials and fails with the status 401 where others are needed.
    pub(super) fn authorized<T>(
        &self,
        action: Action,
        name: &str,
        call: impl Fn(Option<String>) -> Result<T, HttpError>,
    ) -> Result<T, RegistryError> {
        let used = lock(&self.authorization).value.clone();
        match call(used.clone().map(|secret| secret.0)) {
            Err(error) if error.status() == Some(401) => {
                let value = self.authorize(action, name, used, error)?;
                call(Some(value.0)).map_err(|error| self.explained(action, name, error))
            }
            result => result.map_err(|error| self.explained(action, name, error)),
        }
    }

    fn explained(&self, action: Action, name: &str, error: HttpError) -> RegistryError {
        match &*error.problem {
            Problem::Status { status: 401 | 403, detail, .. } => self.denied(action, name, detail.clone()),
            _ => error.into(),
        }
    }

    fn denied(&self, action: Action, name: &str, detail: String) -> RegistryError {
        RegistryError::Denied {
            registry: self.endpoint.registry.clone(),
            action: action.verb(),
            name: name.to_owned(),
            detail,
            credentials: match lock(&self.authorization).place.clone() {
                Some(place) => SentCredentials::Of(place),
                None => SentCredentials::None(self.registries.credentials.files.clone()),
            },
        }
    }

    /// Returns another value of `Authorization` than the one that was refused.
    fn authorize(
        &self,
        action: Action,
        name: &str,
        refused: Option<Secret>,
        error: HttpError,
    ) -> Result<Secret, RegistryError> {
        let Problem::Status { challenges, detail, .. } = *error.problem else { return Err(error.into()) };
        // Other threads wait here, and take the new value.
        let mut authorization = lock(&self.authorization);
        if let Some(value) = authorization.value.clone().filter(|value| Some(value) != refused.as_ref()) {
            return Ok(value);
        }
        let Endpoint { registry, repository, .. } = &self.endpoint;
        let found = self.registries.credentials.find(registry, repository, &self.registries.stop)?;
        let (credentials, place) = found.unzip();
        authorization.place = place;
        let protocol =
            |problem: &str| RegistryError::Protocol { registry: registry.clone(), problem: problem.to_owned() };
        let challenge = challenge::parse(challenges.iter().map(String::as_str))
            .ok_or_else(|| protocol("it asks for credentials of a kind that runner does not know"))?;
        let value = match challenge {
            Challenge::Basic => credentials.as_ref().and_then(Credentials::basic),
            Challenge::Bearer { realm, service, scope } => {
                let actions = if action == Action::Push { "pull,push" } else { "pull" };
                let scope = match (action, scope) {
                    // A registry may name other repositories too, as for a mount from one.
                    (Action::Push, Some(scope)) if scope.contains("push") => scope,
                    _ => format!("repository:{repository}:{actions}"),
                };
                drop(authorization);
                let token = self.token(&realm, service.as_deref(), &scope, credentials.as_ref());
                let token = token.map_err(|error| match error {
                    RegistryError::Http(error) => self.explained(action, name, error),
                    error => error,
                })?;
                authorization = lock(&self.authorization);
                Some(format!("Bearer {token}"))
            }
        };
        let Some(value) = value.map(Secret).filter(|value| Some(value) != refused.as_ref()) else {
            drop(authorization);
            return Err(self.denied(action, name, detail));
        };
        authorization.value = Some(value.clone());
        Ok(value)
    }

    /// Asks a token service.
    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        credentials: Option<&Credentials>,
    ) -> Result<String, RegistryError> {
        let registry = &self.endpoint.registry;
        let protocol = |problem: String| RegistryError::Protocol { registry: registry.clone(), problem };
        let uri: Uri = realm.parse().map_err(|_| protocol("the address of its token service is no URL".to_owned()))?;
        // A registry on this host may have a service on this host; every other one needs TLS.
        let is_local = self.endpoint.base.starts_with("http:") && uri.host().is_some_and(crate::http::is_loopback);
        if uri.scheme_str() != Some("https") && !(uri.scheme_str() == Some("http") && is_local) {
            return Err(protocol("the address of its token service has no https".to_owned()));
        }
        let mut fields = vec![("scope", scope), ("client_id", CLIENT)];
        fields.extend(service.map(|service| ("service", service)));
        let form;
        let mut request = Request::get(realm);
        match credentials {
            Some(Credentials::Identity(token)) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", token)]);
                form = query(&fields);
                request.method = Method::POST;
                request.headers = vec![(header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned())];
                request.body = RequestBody::Bytes(form.as_bytes());
            }
            other => {
                let separator = if uri.query().is_some() { '&' } else { '?' };
                request.url = format!("{realm}{separator}{}", query(&fields));
                request.authorization = other.and_then(Credentials::basic);
            }
        }
        let (reply, bytes) = self.client.fetch(&request, MAX_TOKEN)?;
        if reply.status != 200 {
            let (host, status, detail) = (reply.host().to_owned(), reply.status, String::new());
            let problem = Problem::Status { host, status, detail, retry_after: None, challenges: Vec::new() };
            return Err(self.client.failed(&request, problem).into());
        }
        let answer: Result<Token, _> = serde_json::from_slice(&bytes);
        let is_there = |token: &String| !token.is_empty();
        let token =
            answer.ok().and_then(|answer| answer.token.filter(is_there).or(answer.access_token)).filter(is_there);
        let is_header = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
        token.filter(is_header).ok_or_else(|| protocol("its token service gives no token".to_owned()))
    }
}

/// Returns fields in the form of a query.
pub(super) fn query(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Escapes a value for a query.
fn escaped(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
