//! Checks of devices: the node on the host, and its attributes inside.

use std::path::{Path, PathBuf};

use super::build::{Access, Device};
use super::check::{Check, missing, normal};
use super::host::FileKind;
use super::process::NO_CHANGE_ID;
use crate::diagnostic::{Problem, Trail};
use crate::manifest::DeviceDef;

/// The filesystems that each step has of its own.
const PER_STEP_PATHS: [&str; 5] = ["/proc", "/sys", "/dev/shm", "/dev/pts", "/dev/mqueue"];

/// Parses permission bits (with setuid, setgid and sticky) in octal digits.
pub(super) fn octal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mode <= 0o7777).then_some(mode)
}

impl Check<'_> {
    pub(super) fn device(&mut self, def: &DeviceDef, at: &Trail<'_>) -> Device {
        let path = match &def.path {
            Some(path) => self.device_path(&at.key("path"), path),
            None => {
                let problem = Problem::new(missing(at, "path"), "the device has no path").label("in this device");
                self.add(problem.help("write `path: /dev/…`"));
                PathBuf::new()
            }
        };
        let target = match &def.target {
            Some(target) => {
                let at = at.key("target");
                let path = self.absolute(&at, "device target", target);
                self.refuse_per_step_directory(&at, &path);
                path
            }
            None => path.clone(),
        };
        let access = match &def.access {
            Some(access) => self.access(&at.key("access"), access),
            None => Access { read: true, write: true, mknod: true },
        };
        let mode = def.mode.as_ref().and_then(|mode| {
            let bits = octal(mode);
            if bits.is_none() {
                let problem = Problem::new(&at.key("mode"), format!("the mode `{}` is not octal", &**mode));
                self.add(problem.label("not permission bits").help("write octal digits in quotes, such as \"0660\""));
            }
            bits
        });
        let uid = self.device_owner(at, "uid", def.uid);
        let gid = self.device_owner(at, "gid", def.gid);
        Device { path, target, access, mode, uid, gid }
    }

    /// Refuses a target in a filesystem that each step has of its own: a container's node cannot be made there.
    fn refuse_per_step_directory(&mut self, at: &Trail<'_>, target: &Path) {
        if let Some(above) = PER_STEP_PATHS.iter().find(|own| target.starts_with(own)) {
            let problem = Problem::new(at, format!("no device can be at {}", target.display()));
            let problem = problem.label(format!("each step has a {above} of its own"));
            self.add(problem.help("write a target elsewhere, such as /dev/NAME"));
        }
    }

    fn device_owner(&mut self, at: &Trail<'_>, key: &str, id: Option<u32>) -> Option<u32> {
        if id == Some(NO_CHANGE_ID) {
            let problem = Problem::new(&at.key(key), format!("the {key} {NO_CHANGE_ID} cannot be used"));
            self.add(problem.label("too large").help("write at most 4294967294"));
        }
        id.filter(|id| *id != NO_CHANGE_ID)
    }

    /// Returns a device that is named by its path alone.
    pub(super) fn device_at(&mut self, at: &Trail<'_>, path: &str) -> Device {
        let path = self.device_path(at, path);
        let access = Access { read: true, write: true, mknod: true };
        Device { target: path.clone(), path, access, mode: None, uid: None, gid: None }
    }

    fn device_path(&mut self, at: &Trail<'_>, written: &str) -> PathBuf {
        let path = self.absolute(at, "device path", written);
        if normal(written) != written || written.contains('\0') {
            return path;
        }
        let shown = path.display();
        let problem = match self.host.node(&path) {
            Ok(FileKind::CharDevice | FileKind::BlockDevice) => return path,
            Ok(FileKind::Symlink) => Problem::new(at, format!("the device `{shown}` is a symbolic link"))
                .label("links are not followed")
                .help(format!("write the device that it leads to: `readlink -f {shown}` prints it")),
            Ok(kind) => Problem::new(at, format!("`{shown}` is {}, not a device", kind.name()))
                .label("this should be a character or block device"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let problem = Problem::new(at, format!("the device `{shown}` does not exist")).label("not found");
                problem.maybe_help(self.near_file(&path))
            }
            Err(error) => Problem::new(at, format!("cannot look at the device `{shown}`: {error}")).label("here"),
        };
        self.add(problem);
        path
    }

    fn access(&mut self, at: &Trail<'_>, letters: &str) -> Access {
        let once = |letter| letters.chars().filter(|c| *c == letter).count() <= 1;
        let wrong = letters.chars().find(|c| !"rwm".contains(*c));
        if wrong.is_some() || letters.is_empty() || !['r', 'w', 'm'].into_iter().all(once) {
            let label = match wrong {
                Some(wrong) => format!("{wrong:?} is not an access"),
                None if letters.is_empty() => "it is empty".to_owned(),
                None => "a letter is there twice".to_owned(),
            };
            let problem = Problem::new(at, format!("the access `{letters}` is not made of r, w and m")).label(label);
            self.add(problem.help("write a part of `rwm`: read, write, make nodes"));
        }
        Access { read: letters.contains('r'), write: letters.contains('w'), mknod: letters.contains('m') }
    }
}

#[cfg(test)]
mod tests {
    use super::octal;

    #[test]
    fn a_mode_is_octal_digits_and_nothing_else() {
        assert_eq!(octal("0660"), Some(0o660));
        assert_eq!(octal("4755"), Some(0o4755));
        for bad in ["", "+7", "0o660", "888", "17777", "rw"] {
            assert_eq!(octal(bad), None, "{bad}");
        }
    }
}
