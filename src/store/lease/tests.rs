//! Tests of leases and sweeps, with real files and processes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

/// Makes the files that a killed runner leaves behind.
fn leave_files_of_killed_runner(store: &Store, id: &str, output: &Path) {
    let mut lease = File::create(store.root().join("leases").join(id)).unwrap();
    lease.write_all(output.as_os_str().as_encoded_bytes()).unwrap();
    lease.write_all(&[0]).unwrap();
    fs::write(output, "half").unwrap();
    for directory in ["scratch", "tmp"] {
        let path = store.root().join(directory).join(id);
        fs::create_dir_all(path.join("deep/er")).unwrap();
        fs::write(path.join("deep/file"), "").unwrap();
        symlink("/", path.join("deep/root")).unwrap();
    }
}

fn leftovers(store: &Store) -> usize {
    ["leases", "scratch", "tmp"].iter().map(|directory| store.list(directory).unwrap().len()).sum()
}

fn ids(swept: &Swept) -> Vec<&str> {
    assert!(swept.problems.is_empty(), "{:?}", swept.problems);
    swept.dead.iter().map(DeadLease::id).collect()
}

#[test]
fn closing_a_lease_removes_its_files() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    fs::write(lease.scratch_dir("base").unwrap().join("file"), "").unwrap();
    fs::write(lease.temp_file("layer").unwrap(), "").unwrap();
    assert!(lease.scratch_dir("base").is_err());
    lease.remove_scratch_dir("base").unwrap();
    lease.scratch_dir("base").unwrap();
    assert_eq!(leftovers(&store), 3);
    lease.close().unwrap();
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn dropping_a_lease_removes_its_files() {
    let (_directory, store) = store();
    store.lease().unwrap().scratch_dir("base").unwrap();
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn names_that_lead_out_of_the_lease_are_refused() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    for name in ["..", ".", "", "a/b", "/etc"] {
        assert!(matches!(lease.scratch_dir(name), Err(StoreError::Name { .. })));
        assert!(matches!(lease.remove_scratch_dir(name), Err(StoreError::Name { .. })));
        assert!(matches!(lease.temp_file(name), Err(StoreError::Name { .. })));
    }
}

#[test]
fn a_sweep_removes_the_files_of_a_killed_runner() {
    let (directory, store) = store();
    let output = directory.path().join(".out.runner-7-abc-1");
    leave_files_of_killed_runner(&store, "7-abc", &output);
    let mine = store.lease().unwrap();
    let scratch = mine.scratch_dir("base").unwrap();
    let swept = store.sweep().unwrap();
    assert_eq!(ids(&swept), ["7-abc"]);
    assert!(!output.exists() && scratch.exists());
    // Until it is closed, later sweeps find it again, but no two at the same time.
    assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
    drop(swept);
    for dead in store.sweep().unwrap().dead {
        dead.close().unwrap();
    }
    mine.close().unwrap();
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn directories_without_a_lease_are_swept() {
    let (_directory, store) = store();
    fs::create_dir_all(store.root().join("scratch/8-x/a")).unwrap();
    fs::create_dir_all(store.root().join("tmp/9-x/a")).unwrap();
    assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn a_lease_locked_by_another_process_is_swept_only_after_that_process_ends() {
    let (directory, store) = store();
    let output = directory.path().join(".out.runner-7-abc-1");
    leave_files_of_killed_runner(&store, "7-abc", &output);
    let mut holder = Command::new("flock")
        .arg(store.root().join("leases/7-abc"))
        .args(["sh", "-c", "echo held; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    assert_eq!(ids(&store.sweep().unwrap()), [""; 0]);
    assert!(output.exists() && store.root().join("scratch/7-abc/deep").exists());
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(ids(&store.sweep().unwrap()), ["7-abc"]);
    assert!(!output.exists());
}

#[test]
fn concurrent_sweeps_get_each_dead_lease_once() {
    let (directory, store) = store();
    let all: BTreeSet<String> = (0..40).map(|i| format!("{i}-dead")).collect();
    for id in &all {
        leave_files_of_killed_runner(&store, id, &directory.path().join(format!(".out.runner-{id}-1")));
    }
    let found: Vec<String> = thread::scope(|scope| {
        let sweeps = [0; 4].map(|_| scope.spawn(|| store.sweep().unwrap()));
        // Dropped only when all sweeps have ended: another sweep would rightly find a released lease again.
        let swept = sweeps.map(|sweep| sweep.join().unwrap());
        swept.iter().flat_map(|swept| ids(swept).into_iter().map(str::to_owned)).collect()
    });
    assert_eq!(found.len(), all.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all);
}

#[test]
fn leases_can_be_made_and_closed_during_sweeps() {
    let (_directory, store) = store();
    thread::scope(|scope| {
        let workers = [0; 3].map(|_| {
            scope.spawn(|| {
                for _ in 0..50 {
                    let lease = store.lease().unwrap();
                    let scratch = lease.scratch_dir("base").unwrap();
                    fs::write(scratch.join("file"), "").unwrap();
                    fs::write(lease.temp_file("layer").unwrap(), "").unwrap();
                    lease.close().unwrap();
                }
            })
        });
        while !workers.iter().all(|worker| worker.is_finished()) {
            for dead in store.sweep().unwrap().dead {
                dead.close().unwrap();
            }
        }
    });
    assert_eq!(leftovers(&store), 0);
}

#[test]
fn a_failed_removal_is_reported_and_tried_again() {
    let (_directory, store) = store();
    fs::create_dir(store.root().join("leases/7-abc")).unwrap();
    // Reading a directory as a lease fails.
    let swept = store.sweep().unwrap();
    assert_eq!((swept.dead.len(), swept.problems.len()), (0, 1));
    assert_eq!(store.list("leases").unwrap().len(), 1);
}

#[test]
fn a_sweep_removes_half_written_files_from_every_directory_that_is_written_atomically() {
    let (_directory, store) = store();
    for directory in super::super::DIRECTORIES.map(|directory| directory.name) {
        fs::write(store.root().join(directory).join(format!("{}x", atomic::HALF_WRITTEN)), "half").unwrap();
    }
    // A lease is removed by its lock, and those that belong to no lease with it.
    for directory in ["leases", "scratch", "tmp"] {
        fs::remove_file(store.root().join(directory).join(format!("{}x", atomic::HALF_WRITTEN))).unwrap();
    }
    store.sweep().unwrap();
    let remaining: Vec<&str> = super::super::DIRECTORIES
        .into_iter()
        .map(|directory| directory.name)
        .filter(|directory| store.root().join(directory).join(format!("{}x", atomic::HALF_WRITTEN)).exists())
        .collect();
    // Files get their names here by rename(2) from a lease's directory, or are locks, logs, and the content of steps.
    assert_eq!(
        remaining,
        ["layers", "layers/sha256", "exports", "exports/sha256", "damaged", "cache", "logs", "failed", "mnt"]
    );
}
