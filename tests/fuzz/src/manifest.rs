//! Fuzzes the way from a manifest's text to the model: a text becomes a build, or problems that can be shown in it.
#![no_main]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use runner::diagnostic::{Style, render};
use runner::load::check;
use runner::model::{FileKind, Host, lexical};
use runner::seccomp::Kernel;

/// A host on which half of all paths exist.
struct HalfAHost;

impl Host for HalfAHost {
    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        self.node(path)
    }

    fn node(&self, path: &Path) -> io::Result<FileKind> {
        const KINDS: [FileKind; 4] = [FileKind::File, FileKind::Dir, FileKind::CharDevice, FileKind::BlockDevice];
        let sum: usize = path.as_os_str().as_encoded_bytes().iter().map(|byte| usize::from(*byte)).sum();
        KINDS.get(sum % 8).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        (name == "sh").then(|| PathBuf::from("/usr/bin/sh"))
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        match path.extension() {
            Some(extension) if extension == "json" => Ok(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.to_vec()),
            Some(_) => Ok(b"{".to_vec()),
            None => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn real(&self, path: &Path) -> PathBuf {
        assert!(path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0));
        lexical(path)
    }

    fn names(&self, _: &Path) -> Vec<String> {
        vec!["debian.squashfs".into(), "src".into()]
    }

    fn has_variable(&self, name: &str) -> bool {
        name.len() % 2 == 0
    }

    fn path_variable(&self, name: &str) -> Option<PathBuf> {
        self.has_variable(name).then(|| PathBuf::from("/run").join(name))
    }

    fn connect(&self, socket: &Path) -> io::Result<()> {
        self.node(socket).map(drop)
    }

    fn variables(&self) -> Vec<String> {
        vec!["HOME".into(), "TOKEN".into()]
    }

    fn commit_time(&self, directory: &Path) -> Result<u64, String> {
        if directory.starts_with("/work") {
            Ok(1_600_000_000)
        } else {
            Err(format!("{} is in no git repository", directory.display()))
        }
    }

    fn filesystems(&self) -> Vec<String> {
        vec!["proc".into()]
    }

    fn mounts_below(&self, dir: &Path) -> Vec<PathBuf> {
        vec![dir.join("boot")]
    }

    fn kernel(&self) -> Option<Kernel> {
        Kernel::of_release("6.1.0")
    }
}

fuzz_target!(|text: &str| {
    if let Err(problems) = check(text, Path::new("/work/build.yaml"), &BTreeMap::new(), &HalfAHost) {
        assert!(!problems.is_empty());
        render(&problems, "build.yaml", text, Style::default());
    }
});
