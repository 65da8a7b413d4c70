//! The proxy for a request, by the variables that curl reads.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use super::Problem;

/// The variables of the environment, as a function of their names.
pub(super) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns the proxy for a URL: that of `https_proxy` or `http_proxy`, else of `all_proxy`, in lower or upper case.
/// Addresses of this host have none, nor have hosts that `no_proxy` lists.
pub(super) fn of(uri: &Uri, variables: Variables<'_>) -> Result<Option<Proxy>, Problem> {
    let host = uri.host().unwrap_or_default();
    if is_loopback(host) || is_excluded(host, uri.port_u16(), variables) {
        return Ok(None);
    }
    let names = if uri.scheme() == Some(&Scheme::HTTPS) {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        // As curl: a CGI program has HTTP_PROXY from the header `Proxy` of a request.
        let upper = if variables("REQUEST_METHOD").is_some() { "http_proxy" } else { "HTTP_PROXY" };
        ["http_proxy", upper, "all_proxy", "ALL_PROXY"]
    };
    let found = names.into_iter().find_map(|name| Some((name, variables(name).filter(|value| !value.is_empty())?)));
    let Some((name, value)) = found else { return Ok(None) };
    let refused = |problem: &str| Problem::Proxy { variable: name.to_owned(), problem: problem.to_owned() };
    if value.split_once("://").is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().starts_with("socks")) {
        return Err(refused("runner has no SOCKS; a proxy must accept CONNECT"));
    }
    Proxy::new(&value).map(Some).map_err(|_| refused("it is not a URL of a proxy"))
}

/// Whether a host is this one.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether `no_proxy` lists a host: itself, a domain that it is in, its network, or `*`.
fn is_excluded(host: &str, port: Option<u16>, variables: Variables<'_>) -> bool {
    let list = ["no_proxy", "NO_PROXY"].into_iter().find_map(variables).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    list.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return is_in_network(&host, network, bits);
        }
        let (name, wanted) = match entry.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') => (name.to_owned(), port.parse::<u16>().ok()),
            _ => (entry.clone(), None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_start_matches('*').trim_start_matches('.');
        let is_named = host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        is_named && !name.is_empty() && (wanted.is_none() || wanted == port)
    })
}

/// Whether a host is an address in a network such as 10.0.0.0/8.
fn is_in_network(host: &str, network: &str, bits: &str) -> bool {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (Ok(address), Ok(network), Ok(bits)) =
        (host.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<usize>())
    else {
        return false;
    };
    let (address, network) = (bytes(address), bytes(network));
    if address.len() != network.len() || bits > address.len() * 8 {
        return false;
    }
    (0..bits).all(|bit| (address[bit / 8] ^ network[bit / 8]) >> (7 - bit % 8) & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variables =
            |name: &str| variables.iter().find(|(there, _)| *there == name).map(|(_, value)| (*value).to_owned());
        let found = of(&url.parse().unwrap(), &variables).map_err(|problem| problem.to_string())?;
        Ok(found.map(|proxy| format!("{}:{}", proxy.host(), proxy.port())))
    }

    #[test]
    fn the_variables_of_both_cases_name_the_proxy_by_the_scheme() {
        let both = [("https_proxy", "http://p:1"), ("HTTP_PROXY", "q:2")];
        assert_eq!(proxy("https://h/", &both), Ok(Some("p:1".to_owned())));
        assert_eq!(proxy("http://h/", &both), Ok(Some("q:2".to_owned())));
        assert_eq!(proxy("http://h/", &[("ALL_PROXY", "http://a:3")]), Ok(Some("a:3".to_owned())));
        assert_eq!(proxy("https://h/", &[("https_proxy", ""), ("HTTPS_PROXY", "p:1")]), Ok(Some("p:1".to_owned())));
        assert_eq!(proxy("http://h/", &[("HTTP_PROXY", "q:2"), ("REQUEST_METHOD", "GET")]), Ok(None));
    }

    #[test]
    fn hosts_of_no_proxy_and_this_host_have_none() {
        let with = |list| [("https_proxy", "http://p:1"), ("no_proxy", list)];
        for (url, list) in [
            ("https://a.example.org/", "example.org"),
            ("https://a.example.org/", ".example.org, x"),
            ("https://A.example.org/", "*.EXAMPLE.org"),
            ("https://example.org:5000/", "example.org:5000"),
            ("https://10.1.2.3/", "10.0.0.0/8"),
            ("https://[fd00::1]/", "fd00::/8"),
            ("https://h/", "*"),
            ("https://localhost:5000/", ""),
            ("https://127.0.0.1/", ""),
            ("https://[::1]/", ""),
        ] {
            assert_eq!(proxy(url, &with(list)), Ok(None), "{url} {list}");
        }
        for (url, list) in [
            ("https://anexample.org/", "example.org"),
            ("https://example.org/", "example.org:5000"),
            ("https://11.1.2.3/", "10.0.0.0/8"),
            ("https://10.1.2.3/", "10.0.0.0/99"),
            ("https://h/", ","),
        ] {
            assert_eq!(proxy(url, &with(list)), Ok(Some("p:1".to_owned())), "{url} {list}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_refused_and_not_skipped() {
        assert!(proxy("https://h/", &[("https_proxy", "socks5://p:1")]).unwrap_err().contains("no SOCKS"));
        assert!(proxy("https://h/", &[("https_proxy", "http://")]).unwrap_err().contains("https_proxy"));
    }
}
