//! Checks whether a device node in the root that a runtime has mounted can be opened. Pure.

/// Returns whether the root refuses to open device nodes, from the text of a mountinfo, see proc(5).
pub fn are_refused(mountinfo: &str) -> bool {
    let mut fields = mountinfo.lines().map(|line| line.split(' ').skip(4));
    let root = fields.rfind(|fields| fields.clone().next() == Some("/"));
    root.and_then(|mut fields| fields.nth(1)).is_some_and(|options| options.split(',').any(|option| option == "nodev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_of_the_root_decides_whether_devices_are_refused() {
        let line = |options: &str, path: &str| format!("1 2 0:3 / {path} {options} - overlay runner rw\n");
        assert!(are_refused(&(line("rw,nodev,relatime", "/") + &line("rw", "/dev"))));
        assert!(!are_refused(&(line("rw,nodev", "/") + &line("rw,relatime", "/"))));
        assert!(!are_refused(&line("rw,nodev", "/tmp")));
        assert!(!are_refused(""));
    }
}
