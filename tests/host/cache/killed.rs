//! Builds that are killed at random moments: the next build gives the right layers, whatever the moment was.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{apply, digests};
use crate::built::{Running, project, wait_for};
use crate::project::Project;

const MANIFEST: &str = r#"
mounts: { src: { type: bind, source: src, target: /src, options: [ro] } }
containers:
  one: { rootfs: $TOOLS, mounts: [src] }
  two: { rootfs: { snapshot: one-s }, scratch: { disk: true } }
steps:
  - { name: one-a, container: one, run: "cp -r /src /copy; head -c 3000000 /dev/zero > /big" }
  - { name: one-m, container: one, snapshot: { output: out/one.squashfs } }
  - { name: one-b, container: one, run: "rm /big; echo 1 > /copy/one" }
  - { name: one-s, container: one, snapshot: {} }
  - { name: two-a, container: two, run: "cat /copy/file > /two; seq 100000 > /numbers" }
  - { name: two-s, container: two, snapshot: { mode: full, output: out/two.squashfs } }
"#;

/// Returns how many builds are killed.
fn kills() -> u32 {
    std::env::var("RUNNER_TEST_KILLS").map_or(25, |kills| kills.parse().unwrap())
}

/// Checks that each layer that is not in `seen` has the bytes of its name's digest.
#[track_caller]
fn check_layers(project: &Project, seen: &mut HashSet<OsString>) {
    let layers = project.store().join("layers/sha256");
    for layer in fs::read_dir(layers).unwrap().flatten().filter(|layer| seen.insert(layer.file_name())) {
        let digest = runner::digest::Digest::of_file(&fs::File::open(layer.path()).unwrap()).unwrap();
        assert_eq!(format!("{}.squashfs", digest.hex()).as_str(), layer.file_name(), "a damaged layer");
    }
}

/// Returns the files that a runner may leave only until the next start.
fn half_written(project: &Project) -> Vec<String> {
    let mut left = Vec::new();
    for directory in ["keys", "last", "versions", "stat", "listings"] {
        for entry in fs::read_dir(project.store().join(directory)).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') {
                left.push(format!("{directory}/{name}"));
            }
        }
    }
    left
}

#[test]
fn after_a_kill_at_any_moment_the_next_build_gives_the_right_layers() {
    let project = project(MANIFEST);
    project.write("src/file", "first");
    apply(&project, &[]);
    project.write("src/file", "second");
    let begun = Instant::now();
    apply(&project, &[]);
    let mut whole = begun.elapsed();
    let (mut moments, mut ended, mut seen) = (Vec::new(), 0, HashSet::new());
    for n in 0..kills() {
        // Another key each time, so that the build has work.
        project.write("src/file", &n.to_string());
        let part = f64::from(random()) / f64::from(u32::MAX);
        let moment = whole.mul_f64(part);
        let build = Running::start(&project, &[]);
        thread::sleep(moment);
        let pid = build.pid();
        build.signal(Signal::KILL);
        drop(build);
        moments.push(moment);
        let of_the_kernel =
            || project.leftovers(pid).into_iter().any(|l| l.starts_with("process") || l.starts_with("loop"));
        wait_for("the kernel to take back what it can", || (!of_the_kernel()).then_some(()));
        check_layers(&project, &mut seen);
        let next = apply(&project, &[]);
        // Adapts to the speed of the machine: most builds must be killed before their end.
        let had_ended = next.events.last().unwrap()["ran"] == 0;
        whole = whole.mul_f64(if had_ended { 0.8 } else { 1.05 });
        ended += u32::from(had_ended);
        let left: Vec<String> = [pid, next.run.pid]
            .into_iter()
            .flat_map(|pid| project.leftovers(pid))
            .chain(half_written(&project))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "killed after {moment:?}");
        check_layers(&project, &mut seen);
        assert_eq!(fs::read_dir(project.store().join("damaged")).unwrap().count(), 0);
        let again = apply(&project, &[]);
        assert_eq!(again.events.last().unwrap()["ran"], 0, "killed after {moment:?}: {}", again.run);
        assert_eq!(digests(&again), digests(&next));
        if n % 10 == 0 {
            let fresh = apply(&project, &["--no-cache"]);
            assert_eq!(digests(&fresh), digests(&next), "killed after {moment:?}");
        }
    }
    check_layers(&project, &mut HashSet::new());
    let all: Duration = moments.iter().sum();
    println!("{} kills after {all:?} in all; {ended} builds had ended before, {:?}", moments.len(), begun.elapsed());
}

/// Returns an unpredictable number.
fn random() -> u32 {
    u32::try_from(RandomState::new().build_hasher().finish() >> 32).unwrap()
}
