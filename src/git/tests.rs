//! Repositories that git(1) makes, and changes that a step could make to one.

use std::fs;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

mod hostile;

#[track_caller]
fn git(directory: &Path, arguments: &[&str], time: u64) {
    let mut command = Command::new("git");
    let settings = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "init.defaultBranch=main",
        "-c",
        "protocol.file.allow=always",
    ];
    command.args(settings).args(arguments);
    command.env("GIT_COMMITTER_DATE", format!("@{time} +0200")).env("GIT_AUTHOR_DATE", "@5 +0000");
    let done = command.env_remove("GIT_DIR").current_dir(directory).output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Returns a repository in `top` of a temporary directory, with so many commits, the last one at 1,700,000,000.
fn repository(commits: u64, arguments: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    git(&top, &[&["init", "-q"], arguments].concat(), 0);
    let mut message = "committer a lie <a@b> 7 +0000\n".to_owned();
    for back in (0..commits).rev() {
        // Long and alike, so that git packs most of them as differences.
        message.push_str(&"the same line again\n".repeat(30));
        git(&top, &["commit", "-q", "--allow-empty", "-m", &format!("{message}{back}")], 1_700_000_000 - back);
    }
    (dir, top)
}

#[test]
fn the_time_of_the_last_commit_is_read_however_the_repository_stores_it() {
    for format in ["sha1", "sha256"] {
        let (dir, top) = repository(0, &["--object-format", format]);
        let below = top.join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert!(last_commit_time(&below).unwrap_err().contains("has no commit yet"));
        drop(dir);
        let (dir, top) = repository(40, &["--object-format", format]);
        let below = top.join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(last_commit_time(&below), Ok(1_700_000_000), "{format}: loose");
        std::os::unix::fs::symlink(&below, dir.path().join("link")).unwrap();
        assert_eq!(last_commit_time(&dir.path().join("link")), Ok(1_700_000_000), "{format}: a link");
        git(&top, &["gc", "-q", "--aggressive", "--prune=now"], 0);
        assert_eq!(last_commit_time(&below), Ok(1_700_000_000), "{format}: packed");
        git(&top, &["worktree", "add", "-q", "../tree", "HEAD~20"], 0);
        let tree = dir.path().join("tree");
        assert_eq!(last_commit_time(&tree), Ok(1_699_999_980), "{format}: a worktree");
        for back in 1..40 {
            git(&tree, &["checkout", "-q", "--detach", &format!("main~{back}")], 0);
            assert_eq!(last_commit_time(&tree), Ok(1_700_000_000 - back), "{format}: {back}");
        }
        git(&top, &["checkout", "-q", "-b", "team/feature"], 0);
        git(&top, &["commit", "-q", "--allow-empty", "-m", "new"], 1_700_000_009);
        assert_eq!(last_commit_time(&below), Ok(1_700_000_009), "{format}: a branch beside packed ones");
    }
}

#[test]
fn the_time_of_the_last_commit_is_read_in_clones_of_every_kind() {
    let (dir, top) = repository(5, &[]);
    let url = format!("file://{}", top.display());
    for (name, arguments) in [
        ("shallow", &["clone", "-q", "--depth", "1", &url][..]),
        ("shared", &["clone", "-q", "--shared", "top"]),
        ("treeless", &["clone", "-q", "--filter=tree:0", "--no-checkout", &url]),
        ("separate", &["clone", "-q", "--separate-git-dir", "apart", "top"]),
    ] {
        git(dir.path(), &[arguments, &[name]].concat(), 0);
        assert_eq!(last_commit_time(&dir.path().join(name)), Ok(1_700_000_000), "{name}");
    }
    let (_other, outer) = repository(1, &[]);
    git(&outer, &["submodule", "add", "-q", &url, "sub"], 0);
    git(&outer, &["commit", "-q", "-m", "sub"], 1_700_000_100);
    assert_eq!(last_commit_time(&outer.join("sub")), Ok(1_700_000_000), "a submodule");
    assert_eq!(last_commit_time(&outer), Ok(1_700_000_100), "around a submodule");
}

#[test]
fn a_directory_outside_of_repositories_and_a_damaged_repository_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let error = last_commit_time(dir.path()).unwrap_err();
    assert!(error.ends_with("is in no git repository"), "{error}");
    fs::create_dir(dir.path().join(".git")).unwrap();
    assert!(last_commit_time(dir.path()).unwrap_err().ends_with("is in no git repository"));
    fs::write(dir.path().join(".git/HEAD"), "ref: ../../etc/passwd\n").unwrap();
    assert!(last_commit_time(dir.path()).unwrap_err().contains("names no commit"));
    fs::write(dir.path().join(".git/HEAD"), "0".repeat(40)).unwrap();
    let error = last_commit_time(dir.path()).unwrap_err();
    assert!(error.contains("is not in the repository"), "{error}");
    fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/a\n").unwrap();
    fs::create_dir_all(dir.path().join(".git/refs/heads")).unwrap();
    fs::write(dir.path().join(".git/refs/heads/a"), "ref: refs/heads/a\n").unwrap();
    assert!(last_commit_time(dir.path()).unwrap_err().contains("too many references"));
    // As git(1) makes it with `--ref-format reftable`.
    fs::write(dir.path().join(".git/HEAD"), "ref: refs/heads/.invalid\n").unwrap();
    fs::create_dir(dir.path().join(".git/reftable")).unwrap();
    assert!(last_commit_time(dir.path()).unwrap_err().contains("in a reftable, which runner cannot read"));
}

/// Returns all regular files below a directory.
fn files(top: &Path) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![top.to_owned()]);
    while let Some(dir) = left.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[test]
fn a_fifo_in_place_of_any_file_of_a_repository_is_refused_at_once() {
    for packed in [false, true] {
        let (_dir, top) = repository(3, &[]);
        if packed {
            git(&top, &["gc", "-q", "--prune=now"], 0);
        }
        let missing =
            ["commondir", "packed-refs", "objects/info/alternates", "shallow", "logs/HEAD", "refs/heads/main"];
        let missing = missing.iter().map(|name| top.join(".git").join(name)).filter(|path| !path.exists());
        for path in files(&top.join(".git")).into_iter().chain(missing).chain([top.join(".git")]) {
            let aside = path.with_extension("aside");
            let was_there = fs::rename(&path, &aside).is_ok();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
            let (send, receive) = mpsc::channel();
            let directory = top.clone();
            std::thread::spawn(move || send.send(last_commit_time(&directory)));
            let result = receive.recv_timeout(Duration::from_secs(60));
            assert!(result.is_ok(), "{} is waited for", path.display());
            fs::remove_file(&path).unwrap();
            if was_there {
                fs::rename(&aside, &path).unwrap();
            }
        }
        assert_eq!(last_commit_time(&top), Ok(1_700_000_000));
    }
}

#[test]
fn settings_of_a_repository_start_no_program() {
    let (dir, top) = repository(1, &[]);
    let program = dir.path().join("program");
    fs::write(&program, format!("#!/bin/sh\ntouch {}\n", dir.path().join("started").display())).unwrap();
    std::process::Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    let program = program.to_str().unwrap();
    let ssh = format!("ext::{program}");
    for (name, value) in [
        ("core.fsmonitor", program),
        ("core.sshCommand", program),
        ("core.hooksPath", dir.path().to_str().unwrap()),
        ("core.pager", program),
        ("log.showSignature", "true"),
        ("gpg.program", program),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", &ssh),
        ("include.path", "/dev/zero"),
    ] {
        let mut config = fs::OpenOptions::new().append(true).open(top.join(".git/config")).unwrap();
        let (section, key) = name.rsplit_once('.').unwrap();
        let section = section.split_once('.').map_or(section.to_owned(), |(one, other)| format!("{one} \"{other}\""));
        std::io::Write::write_all(&mut config, format!("[{section}]\n\t{key} = {value}\n").as_bytes()).unwrap();
    }
    assert_eq!(last_commit_time(&top), Ok(1_700_000_000));
    assert!(!dir.path().join("started").exists());
}

#[test]
fn objects_that_unpack_to_too_many_bytes_are_refused() {
    let (_dir, top) = repository(1, &[]);
    let name = fs::read_to_string(top.join(".git/refs/heads/main")).unwrap();
    let object = top.join(".git/objects").join(&name[..2]).join(name[2..].trim());
    fs::remove_file(&object).unwrap();
    let mut bomb = flate2::write::ZlibEncoder::new(fs::File::create(&object).unwrap(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, b"commit 1\0").unwrap();
    for _ in 0..200 {
        std::io::Write::write_all(&mut bomb, &vec![b' '; 1 << 20]).unwrap();
    }
    bomb.finish().unwrap();
    assert!(last_commit_time(&top).unwrap_err().ends_with("has no time"));
}

#[test]
fn a_repository_with_damage_anywhere_gives_a_time_or_an_error_and_no_panic() {
    let (_dir, top) = repository(12, &[]);
    git(&top, &["gc", "-q", "--aggressive", "--prune=now"], 0);
    let names = ["HEAD", "packed-refs"].map(|name| top.join(".git").join(name));
    let packs = files(&top.join(".git/objects/pack"));
    let packs = packs.into_iter().filter(|path| path.extension().is_some_and(|end| end == "idx" || end == "pack"));
    let all: Vec<(PathBuf, Vec<u8>)> =
        names.into_iter().chain(packs).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    for (path, _) in &all {
        std::process::Command::new("chmod").arg("u+w").arg(path).status().unwrap();
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
    let damage = (
        0..all.len(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        any::<bool>(),
        any::<prop::sample::Index>(),
    );
    let result = runner.run(&damage, |(file, bytes, cut, end)| {
        let (path, whole) = &all[file];
        let mut damaged = whole.clone();
        for (at, byte) in bytes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if cut {
            damaged.truncate(end.index(damaged.len()));
        }
        fs::write(path, damaged).unwrap();
        let _ = last_commit_time(&top);
        fs::write(path, whole).unwrap();
        Ok(())
    });
    result.unwrap();
    assert_eq!(last_commit_time(&top), Ok(1_700_000_000));
}
