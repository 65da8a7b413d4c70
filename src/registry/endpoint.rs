//! The servers of an image: the mirrors of its registry, and the registry itself.

use super::RegistryOptions;
use crate::oci::ImageName;

/// A server with a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The registry for messages and for credentials.
    pub(super) registry: String,
    /// The beginning of URLs, without a slash at the end.
    pub(super) base: String,
    pub(super) repository: String,
    /// The mirror as the settings name it, if it is one.
    pub(super) mirror: Option<String>,
}

impl Endpoint {
    /// Returns the servers to pull an image from, in order; the last one is the registry's own.
    pub(super) fn all(name: &ImageName, options: &RegistryOptions) -> Vec<Self> {
        let settings = options.registries.get(&name.registry);
        let mirrors = settings.into_iter().flat_map(|settings| &settings.mirrors);
        let mut all: Vec<Self> = mirrors
            .map(|mirror| {
                let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
                let prefix = prefix.trim_matches('/');
                let separator = if prefix.is_empty() { "" } else { "/" };
                let repository = format!("{prefix}{separator}{}", name.repository);
                Self { registry: host.to_owned(), base: base(host, options), repository, mirror: Some(mirror.clone()) }
            })
            .collect();
        all.push(Self::own(name, options));
        all
    }

    /// Returns the registry's own server.
    pub(super) fn own(name: &ImageName, options: &RegistryOptions) -> Self {
        let (registry, repository) = (name.registry.clone(), name.repository.clone());
        // Its settings are under its name, also where the server has another one.
        let has_ca = options.registries.get(&registry).is_some_and(|settings| settings.ca.is_some());
        let base = if has_ca { format!("https://{}", name.server()) } else { base(name.server(), options) };
        Self { registry, base, repository, mirror: None }
    }

    /// Returns the URL of a call.
    pub(super) fn url(&self, call: &str) -> String {
        format!("{}/v2/{}/{call}", self.base, self.repository)
    }
}

/// Returns the beginning of a server's URLs: http only on this host, and only where no authority for TLS is set.
fn base(server: &str, options: &RegistryOptions) -> String {
    let host = match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => server,
    };
    let has_ca = options.registries.get(server).is_some_and(|settings| settings.ca.is_some());
    let scheme = if crate::http::is_loopback(host) && !has_ca { "http" } else { "https" };
    format!("{scheme}://{server}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistrySettings;

    fn urls(name: &str, settings: &[(&str, &[&str], bool)]) -> Vec<String> {
        let of = |(registry, mirrors, has_ca): &(&str, &[&str], bool)| {
            let mirrors = mirrors.iter().map(|mirror| (*mirror).to_owned()).collect();
            ((*registry).to_owned(), RegistrySettings { mirrors, ca: has_ca.then(|| "/ca.pem".into()) })
        };
        let options = RegistryOptions { registries: settings.iter().map(of).collect() };
        Endpoint::all(&name.parse().unwrap(), &options).iter().map(|it| it.url("tags/list")).collect()
    }

    #[test]
    fn http_is_for_registries_on_this_host_without_an_authority_of_their_own() {
        assert_eq!(urls("localhost:5000/x", &[]), ["http://localhost:5000/v2/x/tags/list"]);
        assert_eq!(urls("[::1]:5000/x", &[]), ["http://[::1]:5000/v2/x/tags/list"]);
        assert_eq!(
            urls("127.0.0.1:5000/x", &[("127.0.0.1:5000", &[], true)]),
            ["https://127.0.0.1:5000/v2/x/tags/list"]
        );
        assert_eq!(urls("ghcr.io/o/x", &[]), ["https://ghcr.io/v2/o/x/tags/list"]);
        assert_eq!(urls("localhost.example.org/x", &[]), ["https://localhost.example.org/v2/x/tags/list"]);
    }

    #[test]
    fn mirrors_are_asked_before_the_registry() {
        let mirrors: &[&str] = &["localhost:5000", "m.example.org/hub/"];
        assert_eq!(
            urls("debian", &[("docker.io", mirrors, false), ("ghcr.io", &["x"], false)]),
            [
                "http://localhost:5000/v2/library/debian/tags/list",
                "https://m.example.org/v2/hub/library/debian/tags/list",
                "https://registry-1.docker.io/v2/library/debian/tags/list",
            ]
        );
    }
}
