//! The certificate authorities that are trusted: those of `SSL_CERT_FILE`, or the system's.

use std::io;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, PemItem, parse_pem};

use super::Problem;
use super::proxy::Variables;
use crate::fs::regular;

/// The files in which distributions have the system's authorities.
const SYSTEM: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];

/// The largest file of certificates.
const MAX_BYTES: u64 = 16 << 20;

/// Reads the trusted authorities, and those of the further files.
pub(super) fn trusted(variables: Variables<'_>, further: &[PathBuf]) -> Result<Vec<Certificate<'static>>, Problem> {
    let own = variables("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let file = own.or_else(|| SYSTEM.iter().map(PathBuf::from).find(|path| path.exists()));
    // Without the system's authorities, those of the further files may be enough.
    if file.is_none() && further.is_empty() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(Problem::Certificates { path: SYSTEM[0].into(), source });
    }
    let mut certificates = Vec::new();
    for path in file.iter().chain(further) {
        certificates.extend(read(path).map_err(|source| Problem::Certificates { path: path.clone(), source })?);
    }
    Ok(certificates)
}

fn read(path: &Path) -> io::Result<Vec<Certificate<'static>>> {
    let bytes = regular::read(path, MAX_BYTES)?;
    let items = parse_pem(&bytes).filter_map(Result::ok);
    let certificates: Vec<_> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it contains no PEM certificate"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        let named = path.to_str().unwrap().to_owned();
        let found = trusted(&|name| (name == "SSL_CERT_FILE").then(|| named.clone()), &[]);
        assert!(matches!(found, Err(Problem::Certificates { path: there, .. }) if there == path));
    }
}
