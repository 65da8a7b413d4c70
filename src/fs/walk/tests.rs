//! Tests of walks: any tree, any depth, and trees that change meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{FileType, Mode, mkdirat};

use super::*;
use crate::fs::remove_tree::remove_tree;

/// Walks a tree, and returns all paths in it in the order of the walk.
fn walked(top: &Path) -> io::Result<Vec<PathBuf>> {
    let open = File::open(top)?;
    let (mut walk, mut paths) = (Walk::new(open.as_fd(), MountPoints::Refuse), Vec::new());
    while walk.advance()? {
        for entry in walk.entries()? {
            paths.push(walk.path().join(entry.name()));
            if entry.kind(walk.fd())? == FileType::Directory {
                walk.enter(entry.into_name());
            }
        }
    }
    Ok(paths)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Directory,
    File,
    /// A link to a directory above, to one outside, or to nothing.
    Link(Index),
}

fn item() -> impl Strategy<Value = (Index, Vec<u8>, Kind)> {
    let byte = || prop_oneof![Just(b'a'), Just(b'.'), Just(b'\n'), 1..=255_u8];
    let name = prop_oneof![4 => prop::collection::vec(byte(), 1..4), 1 => prop::collection::vec(byte(), 255)];
    let name = name.prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'|' } else { byte }).collect());
    let kind = prop_oneof![4 => Just(Kind::Directory), 2 => Just(Kind::File), 1 => any::<Index>().prop_map(Kind::Link)];
    (any::<Index>(), name, kind)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_walk_visits_each_entry_of_any_tree_once_after_its_directory(
        items in prop::collection::vec(item(), 0..80)
    ) {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let (top, outside) = (directory.path().join("top"), directory.path().join("outside"));
        fs::create_dir_all(outside.join("never/seen")).unwrap();
        fs::create_dir(&top).unwrap();
        let (mut directories, mut expected) = (vec![PathBuf::new()], BTreeSet::new());
        for (parent, name, kind) in &items {
            let path = parent.get(&directories).join(OsStr::from_bytes(name));
            let at = top.join(&path);
            if name == b"." || name == b".." || at.as_os_str().len() > 4000 || at.symlink_metadata().is_ok() {
                continue;
            }
            match kind {
                Kind::Directory => {
                    fs::create_dir(&at).unwrap();
                    directories.push(path.clone());
                }
                Kind::File => fs::write(&at, "").unwrap(),
                Kind::Link(target) => {
                    let targets = [outside.clone(), top.clone(), PathBuf::from("."), PathBuf::from("nothing")];
                    symlink(target.get(&targets), &at).unwrap();
                }
            }
            expected.insert(path);
        }
        let paths = walked(&top).unwrap();
        let places: BTreeMap<&Path, usize> = paths.iter().enumerate().map(|(n, path)| (path.as_path(), n)).collect();
        prop_assert_eq!(places.len(), paths.len());
        prop_assert!(places.keys().copied().eq(expected.iter().map(PathBuf::as_path)));
        for (n, path) in paths.iter().enumerate() {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            prop_assert!(above.is_none_or(|above| places[above] < n));
        }
    }
}

#[test]
fn a_tree_deeper_than_a_path_is_walked_to_its_end() {
    const DEPTH: usize = 1500;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let top = directory.path().join("top");
    fs::create_dir(&top).unwrap();
    let name = |depth: usize| format!("{depth:0200}");
    let open = File::open(&top).unwrap();
    let mut descent = Descent::new(open.as_fd());
    for depth in 0..DEPTH {
        // A second directory beside each, to which the walk comes back.
        for name in [name(depth), "beside".to_owned()] {
            mkdirat(descent.fd(), name.as_str(), Mode::RWXU).unwrap();
        }
        descent.enter(name(depth).as_bytes()).unwrap();
    }
    drop(descent);
    let paths = walked(&top).unwrap();
    assert_eq!(paths.len(), 2 * DEPTH);
    assert_eq!(paths.iter().map(|path| path.as_os_str().len()).max(), Some(DEPTH * 201 - 1));
    // tempfile would remove the tree by its paths.
    remove_tree(&top).unwrap();
}

#[test]
fn a_directory_that_cannot_be_entered_is_named_and_the_walk_continues_with_the_next() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b/inner", "c"] {
        fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    let open = File::open(directory.path()).unwrap();
    let mut walk = Walk::new(open.as_fd(), MountPoints::Enter);
    assert!(walk.advance().unwrap());
    for name in ["a", "gone", "b"] {
        walk.enter(name.into());
    }
    assert!(walk.advance().unwrap());
    assert_eq!(walk.path(), Path::new("b"));
    for name in ["inner", "gone"] {
        walk.enter(name.into());
    }
    let mut seen = Vec::new();
    loop {
        match walk.advance() {
            Ok(true) => seen.push(format!("{}", walk.path().display())),
            Ok(false) => break,
            Err(error) => seen.push(format!("{} {:?}", walk.path().display(), error.kind())),
        }
    }
    assert_eq!(seen, ["b/gone NotFound", "b/inner", "gone NotFound", "a"]);
    assert!(!walk.advance().unwrap());
}

#[test]
fn a_walk_ends_where_a_directory_above_was_moved_away() {
    const DEPTH: usize = 30;
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join(["d"; DEPTH].join("/"))).unwrap();
    let open = File::open(directory.path()).unwrap();
    let mut walk = Walk::new(open.as_fd(), MountPoints::Refuse);
    for depth in 0..=DEPTH {
        assert!(walk.advance().unwrap());
        if depth == 1 {
            walk.enter("beside".into());
        }
        if depth < DEPTH {
            walk.enter("d".into());
        }
    }
    fs::rename(directory.path().join("d/d/d"), directory.path().join("moved")).unwrap();
    assert_eq!(walk.advance().unwrap_err().to_string(), "it was moved while it was read");
    assert!(!walk.advance().unwrap());
}

#[test]
fn a_walk_never_leaves_its_tree_while_directories_in_it_become_links_and_move() {
    let directory = tempfile::tempdir().unwrap();
    let (top, outside) = (directory.path().join("top"), directory.path().join("outside"));
    // Deep enough that a walk opens directories above it once more.
    let deep = ["d"; 40].join("/");
    fs::create_dir_all(top.join("swapped").join(&deep)).unwrap();
    fs::create_dir_all(top.join("other")).unwrap();
    fs::create_dir_all(outside.join(&deep).join("secret")).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    symlink(&outside, directory.path().join("link")).unwrap();
    let (done, aside) = (AtomicBool::new(false), directory.path().join("aside"));
    let exchange = |one: &Path, other: &Path| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                exchange(&top.join("swapped"), &directory.path().join("link"));
                exchange(&top.join("swapped"), &directory.path().join("link"));
                let inner = top.join("swapped").join(["d"; 20].join("/"));
                fs::rename(&inner, &aside).unwrap();
                fs::rename(&aside, &inner).unwrap();
            }
        });
        for _ in 0..300 {
            // A directory that is a link by now, or has moved, is an error.
            let paths = walked(&top).unwrap_or_default();
            assert!(paths.iter().all(|path| !path.ends_with("secret")), "{paths:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(walked(&top).unwrap().len(), 42);
}

#[test]
fn a_mount_point_is_refused_where_it_is_not_to_be_entered() {
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
    let directory = tempfile::tempdir().unwrap();
    let (top, host) = (directory.path().join("top"), directory.path().join("host"));
    fs::create_dir_all(top.join("mounted")).unwrap();
    fs::create_dir_all(host.join("inside")).unwrap();
    std::thread::scope(|scope| {
        // The namespace is this thread's alone and ends with it.
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind(&host, top.join("mounted")).unwrap();
            assert_eq!(walked(&top).unwrap_err().kind(), io::ErrorKind::CrossesDevices);
            let open = File::open(&top).unwrap();
            let mut walk = Walk::new(open.as_fd(), MountPoints::Enter);
            assert!(walk.advance().unwrap());
            walk.enter("mounted".into());
            assert!(walk.advance().unwrap());
            assert_eq!(walk.entries().unwrap().len(), 1);
        });
        thread.join().unwrap();
    });
}
