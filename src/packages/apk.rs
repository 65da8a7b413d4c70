//! apk's database of installed packages, the format of which is that of apk's index: a letter, a colon and a value on each line.

use std::path::Path;

use super::root_files::RootFiles;
use super::{Manager, Package, PackageError, Problem, field, push};

/// The database, before and since Alpine 3.22. Where `/lib` is a link to `/usr/lib`, both are the same file.
const INSTALLED: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// Returns the packages that apk has installed.
pub(super) fn read(files: &RootFiles<'_>) -> Result<Option<Vec<Package>>, PackageError> {
    let (mut packages, mut seen) = (None, Vec::new());
    for path in INSTALLED {
        let identity = files.identity(path);
        let Some(text) = files.text(Manager::Apk, path)?.filter(|_| !seen.contains(&identity)) else { continue };
        seen.push(identity);
        let packages = packages.get_or_insert_with(Vec::new);
        parse(&text, packages).map_err(|problem| PackageError::Damaged {
            manager: Manager::Apk,
            path: Path::new(path).to_owned(),
            problem,
        })?;
    }
    Ok(packages)
}

/// Adds the packages of a text.
fn parse(text: &[u8], packages: &mut Vec<Package>) -> Result<(), Problem> {
    let (mut name, mut version, mut architecture, mut size): (&[u8], &[u8], &[u8], &[u8]) = Default::default();
    // An empty line ends a package, also the last one.
    for line in text.split(|byte| *byte == b'\n').chain([&b""[..]]) {
        match line {
            [] if name.is_empty() && version.is_empty() => {}
            [] => {
                if name.is_empty() || version.is_empty() {
                    return Err(Problem::NoName);
                }
                let package = Package {
                    manager: Manager::Apk,
                    name: field(name)?,
                    version: field(version)?,
                    architecture: field(architecture)?,
                    size: str::from_utf8(size).ok().and_then(|size| size.parse().ok()),
                };
                push(packages, package)?;
                (name, version, architecture, size) = Default::default();
            }
            [b'P', b':', value @ ..] => name = value,
            [b'V', b':', value @ ..] => version = value,
            [b'A', b':', value @ ..] => architecture = value,
            [b'I', b':', value @ ..] => size = value,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_and_nameless_ones_are_refused() {
        let text = "C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nI:622592\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\n\nP:b\nV:1";
        let mut packages = Vec::new();
        parse(text.as_bytes(), &mut packages).unwrap();
        let package = |name: &str, version: &str, architecture: &str, size| Package {
            manager: Manager::Apk,
            name: name.into(),
            version: version.into(),
            architecture: architecture.into(),
            size,
        };
        assert_eq!(packages, [package("musl", "1.2.4-r2", "x86_64", Some(622_592)), package("b", "1", "", None)]);
        assert_eq!(parse(b"P:x\n\n", &mut packages), Err(Problem::NoName));
        assert_eq!(parse(format!("P:{}\nV:1", "x".repeat(600)).as_bytes(), &mut packages), Err(Problem::LongField));
    }
}
