//! Names the key for a network, where a step of a container without one needed it.

use super::Failed;
use crate::model::{Container, Network};

/// The messages of programs about a name that they could not look up, or a host that they could not reach: the C
/// library, apt, curl, wget, BusyBox, Go, Node and pip.
const UNREACHED: &[&str] = &[
    "temporary failure resolving",
    "temporary failure in name resolution",
    "could not resolve host",
    "could not resolve '",
    "couldn't resolve host",
    "unable to resolve host address",
    "name or service not known",
    "failed to lookup address information",
    "bad address '",
    "no such host",
    "eai_again",
    "enetunreach",
    "network is unreachable",
    "network unreachable",
    "failed to establish a new connection",
];

/// Returns the hint, where the container has no network and the step's output shows that it needed one.
pub(super) fn hint(container: &Container, failed: Failed<'_>) -> Option<String> {
    if container.network != Network::None || failed.lines(UNREACHED).next().is_none() {
        return None;
    }
    let name = &container.name;
    Some(format!("container {name} has no network; write `network: host` there, if the step needs one"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;

    #[test]
    fn a_step_that_needs_a_missing_network_gets_the_key() {
        let mut container = container(&[]);
        let hinted_for = |container: &Container, printed| hinted(container, 0, printed, &TestSession::default());
        for printed in [
            "W: Failed to fetch http://deb.debian.org/debian/  Temporary failure resolving 'deb.debian.org'",
            "curl: (6) Could not resolve host: example.org",
            "wget: bad address 'example.org'",
            "ping: connect: Network is unreachable",
            "Error: getaddrinfo EAI_AGAIN registry.example.org",
        ] {
            let expected = "container c0 has no network; write `network: host` there, if the step needs one";
            assert_eq!(hinted_for(&container, printed).as_deref(), Some(expected), "{printed}");
        }
        assert_eq!(hinted_for(&container, "curl: (7) Failed to connect to localhost port 80"), None);
        container.network = Network::Host;
        assert_eq!(hinted_for(&container, "curl: (6) Could not resolve host: example.org"), None);
    }
}
