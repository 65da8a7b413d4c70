//! The platform that an image is for: an operating system, an architecture and perhaps a variant of it.

use std::fmt;
use std::str::FromStr;

use oci_spec::image;

/// A platform, such as `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Returns the platform of this host.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Returns the platform of an entry in an index.
    pub(super) fn of_entry(platform: &image::Platform) -> Self {
        let variant = platform.variant().clone().filter(|variant| !variant.is_empty());
        Self { os: platform.os().to_string(), architecture: platform.architecture().to_string(), variant }
    }

    /// Returns the platform in the configuration of an image.
    pub(super) fn of_config(config: &image::ImageConfiguration) -> Self {
        let variant = config.variant().clone().filter(|variant| !variant.is_empty());
        Self { os: config.os().to_string(), architecture: config.architecture().to_string(), variant }
    }

    /// Returns how well an image for `other` fits this platform, 0 as the best; none where it does not.
    pub(super) fn fit(&self, other: &Self) -> Option<u8> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        match (self.variant.as_deref(), other.variant.as_deref()) {
            (wanted, found) if wanted == found => Some(0),
            (Some(wanted), None) | (None, Some(wanted)) if Some(wanted) == self.default_variant() => Some(0),
            // Without a wish the image without a variant is best, and any is better than none.
            (None, _) => Some(1),
            _ => None,
        }
    }

    /// Returns the variant that images mean which name none.
    fn default_variant(&self) -> Option<&'static str> {
        match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "arm" => Some("v7"),
            "amd64" => Some("v1"),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    /// The form to write.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !(2..=3).contains(&parts.len()) || !parts.iter().all(|part| is_word(part)) || parts[0] != "linux" {
            return Err("write it as linux/ARCHITECTURE or linux/ARCHITECTURE/VARIANT, such as linux/arm64".to_owned());
        }
        let architecture = match parts[1] {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let variant = parts.get(2).map(|variant| (*variant).to_owned());
        Ok(Self { os: parts[0].to_owned(), architecture: architecture.to_owned(), variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_are_written_as_in_docker() {
        for text in ["linux/amd64", "linux/arm/v7", "linux/s390x"] {
            assert_eq!(of(text).to_string(), text);
        }
        assert_eq!(of("linux/aarch64"), of("linux/arm64"));
        for wrong in ["", "arm64", "linux/", "linux/a/b/c", "windows/amd64", "linux/a b", "linux//v7"] {
            assert!(wrong.parse::<Platform>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variant_must_fit_where_it_is_asked_for() {
        assert_eq!(of("linux/arm64").fit(&of("linux/arm64/v8")), Some(0));
        assert_eq!(of("linux/arm64/v8").fit(&of("linux/arm64")), Some(0));
        assert_eq!(of("linux/arm").fit(&of("linux/arm/v7")), Some(0));
        assert_eq!(of("linux/arm").fit(&of("linux/arm/v5")), Some(1));
        assert_eq!(of("linux/arm/v6").fit(&of("linux/arm/v7")), None);
        assert_eq!(of("linux/amd64").fit(&of("linux/amd64/v3")), Some(1));
        assert_eq!(of("linux/amd64").fit(&of("linux/arm64")), None);
    }
}
