//! The name of an image in a registry, as in Compose: `debian:12`, `ghcr.io/o/n@sha256:…`, `localhost:5000/x`.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry of names without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The server of the default registry, which has another name.
const DEFAULT_SERVER: &str = "registry-1.docker.io";

/// The namespace of names without one in the default registry.
const DEFAULT_NAMESPACE: &str = "library";

/// The tag of names without one.
const DEFAULT_TAG: &str = "latest";

/// The longest tag, and the longest repository (OCI distribution spec, "Pulling manifests").
const MAX_TAG: usize = 128;
const MAX_REPOSITORY: usize = 255;

/// The name of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The registry: a name and perhaps a port.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// The version in the repository.
    pub version: Version,
}

/// The version of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// A name that may lead to another image tomorrow.
    Tag(String),
    /// One image for ever; the tag only informs readers.
    Digest(Digest),
}

impl ImageName {
    /// Returns the server that has the registry.
    pub fn server(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { DEFAULT_SERVER } else { &self.registry }
    }

    /// Returns the same image by its digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }

    /// Returns the digest, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(*digest),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.digest().is_some() { '@' } else { ':' };
        write!(f, "{}/{}{separator}{}", self.registry, self.repository, self.version)
    }
}

impl FromStr for ImageName {
    /// The problem, in words that fit after "it".
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest =
                    digest.parse().map_err(|_| "has a digest that is not `sha256:` and 64 digits".to_owned())?;
                (name, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => (DEFAULT_REGISTRY, name),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        check_registry(registry)?;
        // The same registry under its other names.
        let registry = match registry {
            "index.docker.io" | DEFAULT_SERVER => DEFAULT_REGISTRY,
            registry => registry,
        };
        let repository = match registry {
            DEFAULT_REGISTRY if !path.contains('/') => format!("{DEFAULT_NAMESPACE}/{path}"),
            _ => path.to_owned(),
        };
        check_repository(path, &repository)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("has a tag with characters that no tag has".to_owned());
        }
        let version = match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()),
        };
        Ok(Self { registry: registry.to_ascii_lowercase(), repository, version })
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name.split('.').all(|label| {
                let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
            })
    };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = address.map_or_else(|| is_name(host), |ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    if !is_host || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("has no valid registry: `{}`", registry.escape_debug()));
    }
    Ok(())
}

fn check_repository(written: &str, repository: &str) -> Result<(), String> {
    if written.is_empty() {
        return Err("has no name".to_owned());
    }
    // Alphanumeric parts, separated by `.`, `_`, `__` or dashes.
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = bytes.first().is_some_and(is_alphanumeric) && bytes.last().is_some_and(is_alphanumeric);
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends && separators
            .filter(|it| !it.is_empty())
            .all(|it| matches!(it, "." | "_" | "__") || it.bytes().all(|b| b == b'-'))
    };
    if repository.len() > MAX_REPOSITORY {
        return Err(format!("is longer than {MAX_REPOSITORY} characters"));
    }
    match repository.split('/').find(|part| !is_part(part)) {
        Some(part) if part.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Err(format!("has capital letters in `{part}`; names of images are in lower case"))
        }
        Some(part) => Err(format!("has a part that no name has: `{}`", part.escape_debug())),
        None => Ok(()),
    }
}

fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    first && rest && tag.len() <= MAX_TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        text.parse::<ImageName>().map(|name| name.to_string())
    }

    #[test]
    fn names_have_the_defaults_of_compose() {
        let digest = Digest::of_bytes(b"x");
        for (text, expected) in [
            ("debian", "docker.io/library/debian:latest".to_owned()),
            ("debian:12", "docker.io/library/debian:12".to_owned()),
            ("o/n", "docker.io/o/n:latest".to_owned()),
            ("docker.io/debian:12", "docker.io/library/debian:12".to_owned()),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest".to_owned()),
            ("ghcr.io/o/n:v1.0_x-y", "ghcr.io/o/n:v1.0_x-y".to_owned()),
            ("localhost:5000/x", "localhost:5000/x:latest".to_owned()),
            ("localhost/x/y-z__a.b:1", "localhost/x/y-z__a.b:1".to_owned()),
            ("[::1]:5000/x", "[::1]:5000/x:latest".to_owned()),
            ("Example.ORG/x", "example.org/x:latest".to_owned()),
            (&format!("ghcr.io/o/n@{digest}"), format!("ghcr.io/o/n@{digest}")),
            (&format!("debian:12@{digest}"), format!("docker.io/library/debian@{digest}")),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_default_registry_is_served_by_another_host() {
        assert_eq!("debian".parse::<ImageName>().unwrap().server(), "registry-1.docker.io");
        assert_eq!("localhost:5000/x".parse::<ImageName>().unwrap().server(), "localhost:5000");
    }

    #[test]
    fn names_that_no_registry_has_are_refused() {
        let long = format!("x/{}", "a".repeat(300));
        for text in [
            "",
            ":12",
            "/x",
            "Debian",
            "a//b",
            "a/../b",
            "-x",
            "x-",
            "x___y",
            "x:",
            "x:-1",
            "x:a/b",
            "x@sha256:12",
            "x@md5:1",
            "http://x/y",
            "x y",
            "x\n",
            "a..b/x",
            "h:99999/x",
            "h:p/x",
            "[::z]:1/x",
            "x:é",
            "localhost:5000/",
            "x?q",
            "x#f",
            "-.a/x",
            "u:p@h.io/x",
            "h.io/u@x",
            &long,
            &format!("x:{}", "a".repeat(129)),
        ] {
            assert!(parsed(text).is_err(), "{text}: {:?}", parsed(text));
        }
        assert!(parsed("Debian:12").unwrap_err().contains("lower case"));
    }
}
