//! Translates the options of a mount in config.json to those of mount_setattr(2) and fsconfig(2); pure.

use std::io;

use oci_spec::runtime::Mount;

/// The options of a mount: `MOUNT_ATTR_*` of mount_setattr(2), and the data of a filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Attributes to set on the mount itself.
    pub set: u64,
    /// Attributes to clear on the mount itself.
    pub clear: u64,
    /// Attributes to set on the mount and all below it.
    pub set_below: u64,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`, if one is requested, and whether it is for all mounts below too.
    pub propagation: Option<(u64, bool)>,
    /// Whether a bind includes the mounts below its source.
    pub recursive: bool,
    /// The options of the filesystem itself: a key, or a key and its value.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Sorts the options of a mount.
    pub fn of(mount: &Mount) -> Self {
        let mut options = Self::default();
        for option in mount.options().iter().flatten() {
            options.add(option);
        }
        options
    }

    fn add(&mut self, option: &str) {
        let access = [
            ("ro", "rw", libc::MOUNT_ATTR_RDONLY),
            ("nosuid", "suid", libc::MOUNT_ATTR_NOSUID),
            ("nodev", "dev", libc::MOUNT_ATTR_NODEV),
            ("noexec", "exec", libc::MOUNT_ATTR_NOEXEC),
            ("nodiratime", "diratime", libc::MOUNT_ATTR_NODIRATIME),
        ];
        for (on, off, bit) in access {
            if option == on {
                self.set |= bit;
                self.clear &= !bit;
            } else if option == off {
                self.clear |= bit;
                self.set &= !bit;
            } else if option.strip_prefix('r') == Some(on) {
                self.set_below |= bit;
            } else {
                continue;
            }
            return;
        }
        match option {
            "rbind" => self.recursive = true,
            "bind" => {}
            "noatime" => self.time(libc::MOUNT_ATTR_NOATIME),
            "strictatime" => self.time(libc::MOUNT_ATTR_STRICTATIME),
            "relatime" => self.time(libc::MOUNT_ATTR_RELATIME),
            "private" => self.propagation = Some((libc::MS_PRIVATE, false)),
            "rprivate" => self.propagation = Some((libc::MS_PRIVATE, true)),
            "slave" => self.propagation = Some((libc::MS_SLAVE, false)),
            "rslave" => self.propagation = Some((libc::MS_SLAVE, true)),
            "shared" => self.propagation = Some((libc::MS_SHARED, false)),
            "rshared" => self.propagation = Some((libc::MS_SHARED, true)),
            other => self.data.push(match other.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (other.to_owned(), None),
            }),
        }
    }

    /// Sets how access times are updated: the kernel requires that the old way is cleared first.
    fn time(&mut self, attribute: u64) {
        self.clear |= libc::MOUNT_ATTR__ATIME;
        self.set = self.set & !libc::MOUNT_ATTR__ATIME | attribute;
    }

    /// Refuses data for a bind mount, which has no filesystem of its own.
    ///
    /// # Errors
    /// Names the first such option.
    pub fn without_data(self) -> io::Result<Self> {
        match self.data.first() {
            None => Ok(self),
            Some((key, _)) => Err(io::Error::other(format!("a bind mount has no option {key}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::MountBuilder;

    use super::*;

    fn options(text: &str) -> Options {
        let options: Vec<String> = text.split(',').map(str::to_owned).collect();
        Options::of(&MountBuilder::default().destination("/x").typ("bind").options(options).build().unwrap())
    }

    #[test]
    fn the_last_of_two_opposite_options_counts() {
        assert_eq!(options("ro,rw").set, 0);
        assert_eq!(options("ro,rw").clear, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(options("suid,nosuid").set, libc::MOUNT_ATTR_NOSUID);
        assert_eq!(options("suid,nosuid").clear, 0);
    }

    #[test]
    fn recursive_attributes_are_separate_from_those_of_the_mount() {
        let parsed = options("rbind,ro,rro");
        assert_eq!((parsed.recursive, parsed.set, parsed.set_below), (true, 1, 1));
        assert_eq!(options("rbind,rprivate").propagation, Some((libc::MS_PRIVATE, true)));
    }

    #[test]
    fn the_last_option_for_access_times_wins() {
        assert_eq!(options("noatime,strictatime").set, libc::MOUNT_ATTR_STRICTATIME);
        assert_eq!(options("noatime,relatime").set, 0);
        assert_eq!(options("relatime").clear, libc::MOUNT_ATTR__ATIME);
    }

    #[test]
    fn other_options_are_data_of_the_filesystem_and_a_bind_refuses_them() {
        let data = options("mode=755,newinstance").data;
        assert_eq!(data, [("mode".to_owned(), Some("755".to_owned())), ("newinstance".to_owned(), None)]);
        assert!(options("size=1").without_data().is_err());
        assert!(options("rbind,ro").without_data().is_ok());
    }
}
