//! Chooses the options of a session's mounts from those of the manifest; pure.

/// Adds the default options of a bind mount: it includes the mounts below its source, as Docker's do, and is read-only there too if
/// it is read-only itself.
pub(super) fn bind_options(options: &[String], recursive: bool) -> Vec<String> {
    let chosen = options.iter().any(|option| option == "bind" || option == "rbind");
    let mut all: Vec<String> = options.to_vec();
    if !chosen {
        all.insert(0, if recursive { "rbind" } else { "bind" }.into());
    }
    let whole = all.iter().any(|option| option == "rbind");
    if whole && all.iter().any(|option| option == "ro") {
        all.push("rro".into());
    }
    all
}

/// Adds the options that prevent steps from gaining privileges on the host by files that they write, unless the manifest requests
/// otherwise.
pub(super) fn safe(mut options: Vec<String>) -> Vec<String> {
    for (safe, unsafe_) in [("nosuid", "suid"), ("nodev", "dev")] {
        if !options.iter().any(|option| option == safe || option == unsafe_) {
            options.push(safe.into());
        }
    }
    options
}

/// Makes a bind of the copy recursive: the copy contains the requested mounts below the source, and those that cover the store.
pub(super) fn recursive(options: Vec<String>) -> Vec<String> {
    options.into_iter().map(|option| if option == "bind" { "rbind".into() } else { option }).collect()
}

/// Removes the options that are data of a filesystem, `KEY=VALUE`.
pub(super) fn flags_only(options: &[String]) -> Vec<String> {
    options.iter().filter(|option| !option.contains('=')).cloned().collect()
}

/// Returns whether a secret is a program, such as an askpass script, by its `mode`.
pub(super) fn is_program(options: &[String]) -> bool {
    let mode = options.iter().rev().find_map(|option| option.strip_prefix("mode="));
    mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).is_some_and(|mode| mode & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_read_only_bind_is_read_only_in_the_mounts_below_it_too() {
        assert_eq!(bind_options(&strings(&["ro"]), true), strings(&["rbind", "ro", "rro"]));
        assert_eq!(bind_options(&strings(&["bind", "ro"]), true), strings(&["bind", "ro"]));
        assert_eq!(bind_options(&strings(&["nodev"]), false), strings(&["bind", "nodev"]));
    }

    #[test]
    fn a_bind_forbids_set_uid_programs_and_devices_unless_they_are_requested() {
        assert_eq!(safe(strings(&["rbind"])), strings(&["rbind", "nosuid", "nodev"]));
        assert_eq!(safe(strings(&["rbind", "suid"])), strings(&["rbind", "suid", "nodev"]));
        assert_eq!(safe(strings(&["dev", "nosuid", "bind"])), strings(&["dev", "nosuid", "bind"]));
    }

    #[test]
    fn a_secret_is_a_program_if_its_mode_is_executable() {
        for (options, is) in [(&["mode=0500"][..], true), (&["mode=0400"], false), (&[], false), (&["uid=7"], false)] {
            assert_eq!(is_program(&strings(options)), is, "{options:?}");
        }
    }

    #[test]
    fn data_of_a_tmpfs_is_removed_from_the_options_of_its_bind() {
        assert_eq!(flags_only(&strings(&["nodev", "size=1m", "mode=1777"])), strings(&["nodev"]));
    }
}
