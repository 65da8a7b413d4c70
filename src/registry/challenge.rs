//! Reads `WWW-Authenticate`: how a registry wants to be asked (RFC 9110, section 11.6.1).

/// The ways to prove an identity that runner knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user and a password with each request.
    Basic,
    /// A token of another service.
    Bearer {
        /// The URL of the service.
        realm: String,
        /// The name of the registry there.
        service: Option<String>,
        /// The rights that are missing.
        scope: Option<String>,
    },
}

/// Returns the best of the challenges in the values of all such headers; none that is known in most broken ones.
pub(super) fn parse<'v>(values: impl Iterator<Item = &'v str>) -> Option<Challenge> {
    let all: Vec<Challenge> = values.flat_map(challenges).collect();
    let bearer = all.iter().find(|it| matches!(it, Challenge::Bearer { .. }));
    bearer.or(all.first()).cloned()
}

/// Returns the known challenges of one header.
fn challenges(value: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = value.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !word.is_empty()) else {
            // A word without a value begins a challenge.
            if word.is_empty() {
                break;
            }
            found.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after.trim_start_matches([' ', ',']);
            continue;
        };
        let (value, after) = take_value(value.trim_start());
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = after.trim_start_matches([' ', ',']);
    }
    let known = |(scheme, parameters): (String, Vec<(String, String)>)| {
        let of = |name: &str| parameters.iter().find(|(there, _)| there == name).map(|(_, value)| value.clone());
        match scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer { realm: of("realm")?, service: of("service"), scope: of("scope") }),
            _ => None,
        }
    };
    found.into_iter().filter_map(known).collect()
}

/// Returns the value of a parameter, quoted or not, and the text after it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if is_escaped => {
                value.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn the_challenges_of_registries_are_read() {
        for (value, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push")),
            ),
            (r#"bearer REALM=https://h/t , Service = s"#, bearer("https://h/t", Some("s"), None)),
            (r#"Basic realm="a, b=\"c\"""#, Some(Challenge::Basic)),
            (r#"Basic realm="x", Bearer realm="y""#, bearer("y", None, None)),
            (r#"Negotiate, Basic"#, Some(Challenge::Basic)),
        ] {
            assert_eq!(parse([value].into_iter()), expected, "{value}");
        }
    }

    #[test]
    fn unknown_and_broken_challenges_are_none() {
        for value in ["", "Digest realm=\"x\"", "Bearer service=\"x\"", "=,=", "\"", "Bearer", ",,,", "Bearer realm"] {
            assert_eq!(parse([value].into_iter()), None, "{value}");
        }
        assert_eq!(parse(["Bearer realm=\"x"].into_iter()), bearer("x", None, None));
    }
}
