//! The address that a redirect leads to, and whether it may be followed.

use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// A server that credentials are for: scheme, name and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL; none where it is not one of a web server.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme().filter(|scheme| **scheme == Scheme::HTTPS || **scheme == Scheme::HTTP)?;
        let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        Some(Self { scheme: scheme.to_string(), host, port: uri.port_u16().unwrap_or(default) })
    }
}

/// Returns the URL that a redirect leads to from `base`. The error fits after "redirects".
pub(super) fn target(base: &Uri, location: &str) -> Result<Uri, String> {
    let location = location.trim();
    let shown = || location.chars().take(200).collect::<String>().escape_debug().to_string();
    let uri = join(base, location).ok_or_else(|| format!("to `{}`, which is no URL", shown()))?;
    let Some(origin) = Origin::of(&uri) else {
        return Err(format!("to `{}`, which is no web server", shown()));
    };
    if base.scheme() == Some(&Scheme::HTTPS) && origin.scheme != "https" {
        return Err(format!("from https to http: {}", without_secrets(&uri)));
    }
    Ok(uri)
}

/// Returns an address that a server gave, relative to the URL `base` (RFC 3986, section 5.2, without fragments).
pub fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let has_scheme = location.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let whole = if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.is_empty() {
        return Some(base.clone());
    } else {
        let path = base.path();
        let (path, query) = match (location.as_bytes()[0], location.split_once('?')) {
            (b'?', _) => (path.to_owned(), Some(&location[1..])),
            (b'/', Some((path, query))) => (path.to_owned(), Some(query)),
            (b'/', None) => (location.to_owned(), None),
            (_, split) => {
                let (relative, query) = split.map_or((location, None), |(path, query)| (path, Some(query)));
                let directory = path.rfind('/').map_or("/", |slash| &path[..=slash]);
                (format!("{directory}{relative}"), query)
            }
        };
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        format!("{scheme}://{authority}{}{query}", without_dots(&path))
    };
    whole.parse().ok()
}

/// Resolves `.` and `..` in an absolute path; `..` ends at the top.
fn without_dots(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let names: Vec<&str> = path.split('/').skip(1).collect();
    for (n, name) in names.iter().enumerate() {
        let is_last = n + 1 == names.len();
        match *name {
            "." | ".." => {
                if *name == ".." {
                    parts.pop();
                }
                if is_last {
                    parts.push("");
                }
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns a URL for messages: without user, password and query, which may contain secrets.
pub(super) fn without_secrets(uri: &Uri) -> String {
    let host = uri.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let scheme = uri.scheme_str().unwrap_or_default();
    format!("{scheme}://{}{}", host.unwrap_or_default(), uri.path())
}

/// Returns a URL without credentials and query, which may contain secrets.
pub fn shown_url(url: &str) -> String {
    url.parse().map_or_else(|_| url.to_owned(), |uri| without_secrets(&uri))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(base: &str, location: &str) -> Result<String, String> {
        target(&base.parse().unwrap(), location).map(|uri| uri.to_string())
    }

    #[test]
    fn a_location_may_be_relative() {
        let base = "https://h:5000/v2/a/blobs/x?q=1";
        for (location, expected) in [
            ("https://cdn/x?sig=a%2Fb", "https://cdn/x?sig=a%2Fb"),
            ("//cdn/y", "https://cdn/y"),
            ("/z?p", "https://h:5000/z?p"),
            ("y", "https://h:5000/v2/a/blobs/y"),
            ("../y?r", "https://h:5000/v2/a/y?r"),
            ("../../../../../y", "https://h:5000/y"),
            ("./", "https://h:5000/v2/a/blobs/"),
            ("?n=2", "https://h:5000/v2/a/blobs/x?n=2"),
            ("/a#part", "https://h:5000/a"),
        ] {
            assert_eq!(to(base, location).as_deref(), Ok(expected), "{location}");
        }
    }

    #[test]
    fn redirects_to_less_security_and_to_no_server_are_refused() {
        assert_eq!(to("https://h/x", "http://h/x?secret"), Err("from https to http: http://h/x".to_owned()));
        assert_eq!(to("http://h/x", "https://h/x").as_deref(), Ok("https://h/x"));
        for broken in ["file:///etc/passwd", "javascript:1", "https://", "ftp://h/x", "http://[", "data:x"] {
            assert!(to("http://h/x", broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_name_and_port() {
        let of = |text: &str| Origin::of(&text.parse().unwrap()).unwrap();
        assert_eq!(of("https://H/x"), of("https://h:443/y?z"));
        assert_ne!(of("https://h/"), of("https://h:444/"));
        assert_ne!(of("https://h/"), of("http://h/"));
        assert_ne!(of("https://h/"), of("https://h.evil/"));
    }

    #[test]
    fn messages_show_no_credentials_and_no_query() {
        assert_eq!(without_secrets(&"https://u:p@h:1/x?token=y".parse().unwrap()), "https://h:1/x");
    }
}
