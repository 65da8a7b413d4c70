//! The bounds of a build of many containers: runner's threads and memory do not grow with their number.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use crate::built::project;

const CONTAINERS: usize = 300;

#[test]
fn a_build_of_many_containers_takes_few_threads_and_little_memory() {
    let mut manifest = "\ncontainers:\n".to_owned();
    for at in 0..CONTAINERS {
        let _ = writeln!(manifest, "  c{at}: {{ rootfs: $TOOLS }}");
    }
    manifest.push_str("steps:\n");
    for at in 0..CONTAINERS {
        let _ = writeln!(manifest, "  - {{ name: s{at}, container: c{at}, run: 'true' }}");
    }
    let project = project(&manifest);
    let mut child = project.spawn(&["apply", "-j", "1", "--progress", "quiet"]);
    let (mut threads, mut kib) = (0, 0);
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        threads = threads.max(field(&status, "Threads:"));
        kib = kib.max(field(&status, "RssAnon:"));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    assert!((2..40).contains(&threads), "{threads} threads");
    assert!((1..32 << 10).contains(&kib), "{kib} KiB");
}

/// Returns the number of a field of proc_pid_status(5); 0 where the process has ended.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
