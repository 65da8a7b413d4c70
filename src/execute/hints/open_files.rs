//! Names the limit of open files that a step has reached.

use super::Failed;
use crate::model::Container;
use crate::resource_limits::{default_nofile, settable_nofile};

/// EMFILE; ENFILE is a limit of the whole host.
const TOO_MANY: &[&str] = &["too many open files", "emfile"];

/// Returns the limit of the container, and the way to raise it.
pub(super) fn hint(container: &Container, failed: Failed<'_>) -> Option<String> {
    let mut lines = failed.lines(TOO_MANY);
    let line = lines.next()?.to_lowercase();
    if line.contains("too many open files in system") {
        return Some(
            "this host has no more open files for any program; `sysctl -w fs.file-max=NUMBER` raises that".to_owned(),
        );
    }
    if line.contains("inotify") {
        let raise = "`sysctl -w fs.inotify.max_user_instances=NUMBER`";
        return Some(format!("this host gives one user no more inotify instances; {raise} raises that"));
    }
    Some(of_limit(container.limits.nofile, default_nofile(), settable_nofile()))
}

fn of_limit(own: Option<u64>, default: u64, settable: Option<u64>) -> String {
    let (most, which) = own.map_or((default, "the default"), |own| (own, "`nofile` under limits"));
    let more = most.saturating_mul(2);
    let has = format!("a process of the container may have {most} files open ({which})");
    match settable.filter(|settable| *settable < more) {
        Some(settable) => format!(
            "{has}, and runner's caller allows no more than {settable}: raise that with `ulimit -Hn {more}`, or \
             `LimitNOFILE={more}` in a systemd unit, and write `limits: {{nofile: {more}}}`"
        ),
        None => format!("{has}; `limits: {{nofile: {more}}}` allows more"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, hinted};
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_named_with_its_key_and_the_way_to_raise_it() {
        let own = of_limit(Some(64), 4096, None);
        assert_eq!(
            own,
            "a process of the container may have 64 files open (`nofile` under limits); `limits: {nofile: 128}` allows more"
        );
        assert!(of_limit(None, 4096, Some(10_000)).contains("4096 files open (the default); `limits: {nofile: 8192}`"));
        let bound = of_limit(None, 128, Some(128));
        assert!(bound.contains("no more than 128: raise that with `ulimit -Hn 256`"), "{bound}");
        let mut container = container(&[]);
        container.limits.nofile = Some(64);
        let hinted_for = |printed| hinted(&container, 0, printed, &TestSession::default());
        assert!(hinted_for("sh: 1: cannot open /x: Too many open files").unwrap().contains("64 files open"));
        assert!(hinted_for("open: Too many open files in system").unwrap().contains("fs.file-max"));
        assert!(hinted_for("inotify_init: Too many open files").unwrap().contains("max_user_instances"));
        assert_eq!(hinted_for("too many files"), None);
    }
}
