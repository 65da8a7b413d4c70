//! Property tests with random trees and edits.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_assert_ne, prop_oneof, proptest};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use super::super::Contents;
use super::*;

/// The file at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    what: NodeKind,
    mode: u32,
    owner: u32,
    attribute: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeKind {
    File(Vec<u8>),
    Directory,
    Link(u8),
    Fifo,
}

/// A tree by path; all above a path is a directory in it.
type Tree = BTreeMap<PathBuf, Node>;

fn names() -> impl Strategy<Value = PathBuf> {
    let names: [&[u8]; 7] = [b"a", b"b", b"a-", b".git", b"line\nbreak", b"\xff\xfe", &[b'n'; 255]];
    let names = names.map(|name| PathBuf::from(OsStr::from_bytes(name)));
    vec(proptest::sample::select(names.to_vec()), 1..4).prop_map(|names| names.iter().collect())
}

fn nodes() -> impl Strategy<Value = Node> {
    let what = prop_oneof![
        3 => vec(any::<u8>(), 0..3).prop_map(NodeKind::File),
        2 => Just(NodeKind::Directory),
        1 => any::<u8>().prop_map(NodeKind::Link),
        1 => Just(NodeKind::Fifo),
    ];
    let mode = proptest::sample::select(vec![0o755_u32, 0o700, 0o4711, 0o1777]);
    (what, mode, 0..3_u32, proptest::option::of(any::<u8>())).prop_map(|(what, mode, owner, attribute)| {
        // Only files and directories can have user attributes, and the mode of a link is always the same.
        let attribute = attribute.filter(|_| matches!(what, NodeKind::File(_) | NodeKind::Directory));
        let mode = if matches!(what, NodeKind::Link(_)) { 0o777 } else { mode };
        Node { what, mode, owner, attribute }
    })
}

fn trees() -> impl Strategy<Value = Tree> {
    vec((names(), nodes()), 0..12).prop_map(|nodes| nodes.into_iter().fold(Tree::new(), with))
}

/// Returns the tree with another node in it, and directories above it.
fn with(mut tree: Tree, (path, node): (PathBuf, Node)) -> Tree {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        let plain = Node { what: NodeKind::Directory, mode: 0o755, owner: 0, attribute: None };
        match tree.get(above) {
            Some(Node { what: NodeKind::Directory, .. }) => {}
            _ => drop(tree.insert(above.to_owned(), plain)),
        }
    }
    if node.what != NodeKind::Directory {
        tree.retain(|other, _| !other.starts_with(&path));
    }
    tree.insert(path, node);
    tree
}

/// Makes the tree: each directory before its entries, and otherwise from the first or from the last.
fn make(tree: &Tree, backwards: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut all: Vec<_> = tree.iter().collect();
    if backwards {
        all.reverse();
    }
    all.sort_by_key(|(path, _)| path.components().count());
    for (path, node) in &all {
        let path = directory.path().join(path);
        match &node.what {
            NodeKind::File(bytes) => fs::write(&path, bytes).unwrap(),
            NodeKind::Directory => fs::create_dir(&path).unwrap(),
            NodeKind::Link(to) => symlink(to.to_string(), &path).unwrap(),
            NodeKind::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
        }
        set_metadata(&path, node);
    }
    directory
}

fn set_metadata(path: &Path, node: &Node) {
    lchown(path, Some(node.owner), Some(node.owner)).unwrap();
    if !matches!(node.what, NodeKind::Link(_)) {
        fs::set_permissions(path, fs::Permissions::from_mode(node.mode)).unwrap();
    }
    if let Some(value) = node.attribute {
        setxattr(path, "user.attribute", &[value], XattrFlags::empty()).unwrap();
    }
}

/// Replaces the node at a path, or adds one.
fn put(directory: &Path, path: &Path, node: &Node, is_new_file: bool) {
    let path = directory.join(path);
    match (&node.what, path.symlink_metadata()) {
        // The same inode, as after an editor that writes in place.
        (NodeKind::File(bytes), Ok(there)) if there.is_file() && !is_new_file => fs::write(&path, bytes).unwrap(),
        (_, there) => {
            match there {
                Ok(there) if there.is_dir() => fs::remove_dir_all(&path).unwrap(),
                Ok(_) => fs::remove_file(&path).unwrap(),
                Err(_) => {}
            }
            let above = path.parent().unwrap();
            if !above.is_dir() {
                let file = above.ancestors().find(|above| above.is_file() || above.is_symlink());
                file.map_or(Ok(()), fs::remove_file).unwrap();
                let fifo = above.ancestors().find(|above| above.exists() && !above.is_dir());
                fifo.map_or(Ok(()), fs::remove_file).unwrap();
                fs::create_dir_all(above).unwrap();
            }
            match &node.what {
                NodeKind::File(bytes) => fs::write(&path, bytes).unwrap(),
                NodeKind::Directory => fs::create_dir(&path).unwrap(),
                NodeKind::Link(to) => symlink(to.to_string(), &path).unwrap(),
                NodeKind::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            }
        }
    }
    set_metadata(&path, node);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn only_equal_trees_have_equal_digests(tree in trees(), change in (names(), nodes())) {
        let (one, other) = (make(&tree, false), make(&tree, true));
        let (one, other) = (content(one.path()), content(other.path()));
        // The trees are different files, so they have different states.
        prop_assert_ne!(one.state, other.state);
        prop_assert_eq!(&one, &Content { state: one.state, ..other.clone() });
        prop_assert_eq!(one.listing.entries().count(), tree.len() + 1);
        let changed = with(tree.clone(), change);
        let directory = make(&changed, false);
        let new = content(directory.path());
        if changed == tree {
            prop_assert_eq!(&new.digest, &one.digest);
        } else {
            prop_assert_ne!(&new.digest, &one.digest);
        }
        // The reported files are those that differ.
        let differ = |path: &PathBuf| tree.get(path) != changed.get(path);
        let mut expected: Vec<&PathBuf> = tree.keys().chain(changed.keys()).filter(|path| differ(path)).collect();
        expected.sort_by_key(|path| path.as_os_str().as_bytes());
        expected.dedup();
        let changes_of = Changed::between(&one.listing, &new.listing);
        prop_assert_eq!(changes_of.first.len() + changes_of.more as usize, expected.len());
        let changes_of: Vec<&PathBuf> = changes_of.first.iter().map(|change| &change.path).collect();
        prop_assert_eq!(changes_of, &expected[..expected.len().min(10)]);
    }

    #[test]
    fn a_cache_gives_the_same_content_after_any_edits(
        tree in trees(),
        edits in vec((names(), nodes(), any::<bool>(), any::<bool>()), 1..12),
    ) {
        let (store, directory) = (tempfile::tempdir().unwrap(), make(&tree, false));
        let cached = || {
            let contents = Contents::open(store.path());
            let found = contents.of(directory.path()).unwrap();
            contents.close().unwrap();
            found
        };
        cached();
        for (path, node, is_new_file, is_looked_at) in edits {
            put(directory.path(), &path, &node, is_new_file);
            if is_looked_at {
                prop_assert_eq!(cached().listing, content(directory.path()).listing);
            }
        }
        prop_assert_eq!(cached().listing, content(directory.path()).listing);
        prop_assert_eq!(cached().read, 0);
    }
}
