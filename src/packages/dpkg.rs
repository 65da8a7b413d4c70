//! dpkg's databases: `status`, and `status.d` of images that have packages and no dpkg. The format is that of deb-control(5).

use std::path::Path;

use super::root_files::RootFiles;
use super::{Manager, Package, PackageError, Problem, field, push};

const STATUS: &str = "/var/lib/dpkg/status";
const STATUS_D: &str = "/var/lib/dpkg/status.d";

/// The unit of `Installed-Size`, in bytes.
const UNIT: u64 = 1024;

/// Returns the packages that dpkg has installed.
pub(super) fn read(files: &RootFiles<'_>) -> Result<Option<Vec<Package>>, PackageError> {
    let (mut packages, mut is_found) = (Vec::new(), false);
    let mut take = |path: &str| -> Result<(), PackageError> {
        if let Some(text) = files.text(Manager::Dpkg, path)? {
            is_found = true;
            parse(&text, &mut packages).map_err(|problem| PackageError::Damaged {
                manager: Manager::Dpkg,
                path: Path::new(path).to_owned(),
                problem,
            })?;
        }
        Ok(())
    };
    take(STATUS)?;
    for name in files.names(Manager::Dpkg, STATUS_D)?.unwrap_or_default() {
        // Beside each file is one with the digests of the package's files.
        if !name.ends_with(".md5sums") {
            take(&format!("{STATUS_D}/{name}"))?;
        }
    }
    Ok(is_found.then_some(packages))
}

/// A paragraph, as far as it is read.
#[derive(Default)]
struct Paragraph<'t> {
    name: &'t [u8],
    version: &'t [u8],
    architecture: &'t [u8],
    size: &'t [u8],
    status: &'t [u8],
}

/// Adds the installed packages of a text.
fn parse(text: &[u8], packages: &mut Vec<Package>) -> Result<(), Problem> {
    let mut paragraph = Paragraph::default();
    for line in text.split(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            finish(&std::mem::take(&mut paragraph), packages)?;
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':').filter(|_| !line[0].is_ascii_whitespace()) else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        match line[..colon].to_ascii_lowercase().as_slice() {
            b"package" => paragraph.name = value,
            b"version" => paragraph.version = value,
            b"architecture" => paragraph.architecture = value,
            b"installed-size" => paragraph.size = value,
            b"status" => paragraph.status = value,
            _ => {}
        }
    }
    finish(&paragraph, packages)
}

fn finish(paragraph: &Paragraph<'_>, packages: &mut Vec<Package>) -> Result<(), Problem> {
    let Paragraph { name, version, architecture, size, status } = paragraph;
    let state = status.rsplit(u8::is_ascii_whitespace).next().unwrap_or_default();
    // The files of these states are not there.
    if matches!(state, b"not-installed" | b"config-files") || (name.is_empty() && version.is_empty()) {
        return Ok(());
    }
    if name.is_empty() || version.is_empty() {
        return Err(Problem::NoName);
    }
    let size = str::from_utf8(size).ok().and_then(|size| size.parse::<u64>().ok());
    let package = Package {
        manager: Manager::Dpkg,
        name: field(name)?,
        version: field(version)?,
        architecture: field(architecture)?,
        size: size.and_then(|size| size.checked_mul(UNIT)),
    };
    push(packages, package)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, Problem> {
        let mut packages = Vec::new();
        parse(text.as_bytes(), &mut packages)?;
        let shown = |package: &Package| {
            let Package { name, version, architecture, size, .. } = package;
            format!("{name} {version} {architecture} {size:?}")
        };
        Ok(packages.iter().map(shown).collect())
    }

    #[test]
    fn installed_packages_are_read_and_removed_ones_are_not() {
        let text = "Package: libc6\nStatus: install ok installed\nInstalled-Size: 12\nArchitecture: amd64\n\
                    Version: 2.36-9\nDescription: x\n Version: 9\n\tPackage: y\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n \n\
                    pACKAGE: half\nStatus: install reinstreq half-configured\nVersion: 1:2\nInstalled-Size: -1\n\n\n\
                    Package: no-status\nVersion: 3";
        let expected = ["libc6 2.36-9 amd64 Some(12288)", "half 1:2  None", "no-status 3  None"];
        assert_eq!(parsed(text).unwrap(), expected);
    }

    #[test]
    fn hostile_paragraphs_are_refused() {
        assert_eq!(parsed(&format!("Package: {}\nVersion: 1", "x".repeat(513))), Err(Problem::LongField));
        assert_eq!(parsed("Package: x\n\n"), Err(Problem::NoName));
        assert_eq!(parsed("Version: 1"), Err(Problem::NoName));
        assert_eq!(parsed(&"Package: x\nVersion: 1\n\n".repeat(100_001)), Err(Problem::TooManyPackages));
        assert_eq!(parsed(&format!("Package: x\nVersion: 1\nInstalled-Size: {}", u64::MAX)).unwrap(), ["x 1  None"]);
        assert_eq!(parsed("\0\0:\n: \n::\n\u{1b}"), Ok(Vec::new()));
    }
}
