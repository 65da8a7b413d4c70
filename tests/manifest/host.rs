//! A host of a few files, for checks without a disk.

use std::io;
use std::path::{Path, PathBuf};

use runner::model::{FileKind, Host};
use runner::seccomp::Kernel;

/// The files by absolute path; no others exist. Stricter than a disk: a path that is not absolute, or has `.` or a NUL in it, is
/// a mistake of the checks and panics.
pub struct FakeHost(Vec<(&'static str, FileKind)>);

impl Default for FakeHost {
    fn default() -> Self {
        Self(vec![
            ("/", FileKind::Dir),
            ("/dev", FileKind::Dir),
            ("/dev/kvm", FileKind::CharDevice),
            ("/dev/loop0", FileKind::BlockDevice),
            ("/dev/cdrom", FileKind::Symlink),
            ("/dev/fd", FileKind::Dir),
            ("/usr/bin/sh", FileKind::File),
            ("/work", FileKind::Dir),
            ("/work/src", FileKind::Dir),
            ("/work/base.squashfs", FileKind::File),
            ("/work/base.tar.zst", FileKind::File),
            ("/work/root", FileKind::Dir),
            ("/work/mounted", FileKind::Dir),
            ("/work/token", FileKind::File),
            ("/work/seccomp.json", FileKind::File),
            ("/work/no-exec.json", FileKind::File),
            ("/work/fake.json", FileKind::File),
            ("/work/wrong.json", FileKind::File),
            ("/work/large.json", FileKind::File),
            ("/work/long.json", FileKind::File),
            ("/work/dangling", FileKind::Symlink),
            ("/work/images", FileKind::Dir),
            ("/work/images/debian.squashfs", FileKind::File),
        ])
    }
}

impl FakeHost {
    /// Returns the host with the files that a Debian root needs, and the one of an example.
    pub fn with_debian() -> Self {
        let Self(mut files) = Self::default();
        for path in ["/usr/bin/mmdebstrap", "/usr/share/keyrings/debian-archive-keyring.gpg", "/work/keys/archive.gpg"]
        {
            files.push((path, FileKind::File));
        }
        Self(files)
    }
}

/// Returns a profile whose filter has more instructions than the kernel takes.
fn long_profile() -> Vec<u8> {
    let rule = |value| {
        format!(
            r#"{{"names": ["socket"], "action": "SCMP_ACT_ERRNO",
                "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#
        )
    };
    let rules: Vec<String> = (0..3000).map(rule).collect();
    format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, rules.join(",")).into_bytes()
}

impl Host for FakeHost {
    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        match self.node(path)? {
            FileKind::Symlink if path.ends_with("dangling") => Err(io::Error::from(io::ErrorKind::NotFound)),
            FileKind::Symlink => Ok(FileKind::BlockDevice),
            kind => Ok(kind),
        }
    }

    fn node(&self, path: &Path) -> io::Result<FileKind> {
        assert!(path.is_absolute(), "{}", path.display());
        assert_eq!(path.components().collect::<PathBuf>().as_os_str(), path.as_os_str());
        assert!(!path.as_os_str().as_encoded_bytes().contains(&0));
        if path.starts_with("/secret") {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        let found = self.0.iter().find(|(known, _)| Path::new(known) == path);
        found.map(|(_, kind)| *kind).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        assert!(!name.contains('/') && !name.contains('\0') && !name.is_empty());
        let path = Path::new("/usr/bin").join(name);
        self.0.iter().any(|(known, _)| Path::new(known) == path).then_some(path)
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("/work/seccomp.json") => Ok(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.to_vec()),
            Some("/work/no-exec.json") => Ok(br#"{"defaultAction": "SCMP_ACT_ERRNO"}"#.to_vec()),
            Some("/work/fake.json") => {
                Ok(br#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setresuid"],
                "action": "SCMP_ACT_ERRNO", "errnoRet": 0}]}"#
                    .to_vec())
            }
            Some("/work/wrong.json") => Ok(br#"{"defaultAction": "SCMP_ACT_ALOW"}"#.to_vec()),
            Some("/work/long.json") => Ok(long_profile()),
            Some("/work/large.json") => Err(io::ErrorKind::FileTooLarge.into()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn real(&self, path: &Path) -> PathBuf {
        assert!(path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0));
        runner::model::lexical(path)
    }

    fn names(&self, dir: &Path) -> Vec<String> {
        let inside = self.0.iter().map(|(path, _)| Path::new(path)).filter(|path| path.parent() == Some(dir));
        inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
    }

    fn has_variable(&self, name: &str) -> bool {
        name == "TOKEN"
    }

    fn path_variable(&self, name: &str) -> Option<PathBuf> {
        (name == "SSH_AUTH_SOCK").then(|| PathBuf::from("/run/agent"))
    }

    fn connect(&self, socket: &Path) -> io::Result<()> {
        match socket.to_str() {
            Some("/run/agent" | "/work/agent") => Ok(()),
            Some("/work/dead") => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
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
        vec!["proc".into(), "sysfs".into(), "loaded-here".into()]
    }

    fn mounts_below(&self, dir: &Path) -> Vec<PathBuf> {
        match dir.to_str() {
            Some("/work/mounted") => ["boot", "proc", "sys/fs/cgroup", "var/lib"].map(|name| dir.join(name)).to_vec(),
            _ => Vec::new(),
        }
    }

    fn kernel(&self) -> Option<Kernel> {
        Kernel::of_release("6.1.0")
    }
}
