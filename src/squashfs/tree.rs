//! The tree of an image in memory: a record of some 60 bytes for each entry, and its name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::WriteError;

/// The root.
pub(super) const ROOT: u32 = 0;

/// An entry without extended attributes.
pub(super) const NO_ATTRIBUTES: u32 = u32::MAX;

/// Bytes of the tree's text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Text {
    at: u32,
    length: u16,
}

/// The type of an entry, with the data that only this type has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// With its entries, which follow each other in the tree.
    Directory {
        first: u32,
        count: u32,
    },
    File {
        size: u64,
        /// Whether some of it may be holes.
        is_sparse: bool,
    },
    Symlink(Text),
    BlockDevice(u32),
    CharacterDevice(u32),
    Fifo,
    Socket,
    /// Another name of an earlier entry, which is no directory.
    Link(u32),
}

/// An entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub name: Text,
    pub parent: u32,
    pub kind: Kind,
    /// Permissions, with set-uid, set-gid and sticky.
    pub mode: u16,
    /// Numbers of the table of users and groups.
    pub user: u16,
    pub group: u16,
    /// Seconds since 1970.
    pub time: u32,
    /// Number of the set of extended attributes.
    pub attributes: u32,
    /// Of its inode, from 1; that of the earlier entry for a link.
    pub inode: u32,
    /// How many names its inode has; in a link nothing.
    pub links: u32,
}

/// All entries: the root, and below it each directory's entries in one run, sorted by the bytes of their names.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    text: Vec<u8>,
    inodes: u32,
    /// Bytes of all files.
    bytes: u64,
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns how many inodes there are.
    pub(super) fn inodes(&self) -> u32 {
        self.inodes
    }

    /// Returns how many bytes all files have, holes included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the sizes of all files.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().filter_map(|node| if let Kind::File { size, .. } = node.kind { Some(size) } else { None })
    }

    pub(super) fn node(&self, index: u32) -> &Node {
        &self.nodes[index as usize]
    }

    /// Returns the entries of a directory; none of anything else.
    pub(super) fn children(&self, index: u32) -> std::ops::Range<u32> {
        match self.node(index).kind {
            Kind::Directory { first, count } => first..first + count,
            _ => 0..0,
        }
    }

    pub(super) fn is_directory(&self, index: u32) -> bool {
        matches!(self.node(index).kind, Kind::Directory { .. })
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        &self.text[text.at as usize..][..usize::from(text.length)]
    }

    pub(super) fn name(&self, index: u32) -> &[u8] {
        self.text(self.node(index).name)
    }

    /// Returns the path below the root, which is `/`.
    pub(super) fn path(&self, mut index: u32) -> PathBuf {
        let mut names = Vec::new();
        while index != ROOT {
            names.push(self.name(index));
            index = self.node(index).parent;
        }
        let mut path = PathBuf::from("/");
        path.extend(names.iter().rev().map(|name| OsStr::from_bytes(name)));
        path
    }

    /// Keeps a text.
    ///
    /// # Errors
    /// Where all texts together are more than the tree counts.
    pub(super) fn add_text(&mut self, bytes: &[u8]) -> Result<Text, WriteError> {
        let too_many = || WriteError::TooMany { what: "bytes of names", most: u32::MAX.into() };
        let at = u32::try_from(self.text.len()).map_err(|_| too_many())?;
        let length = u16::try_from(bytes.len()).map_err(|_| too_many())?;
        self.text.extend_from_slice(bytes);
        Ok(Text { at, length })
    }

    /// Adds an entry; its inode's number and links are set here. A directory's entries must be added in one run.
    ///
    /// # Errors
    /// Where there are more than an image can store.
    pub(super) fn add(&mut self, mut node: Node) -> Result<u32, WriteError> {
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        // The greatest number means none in many places of an image.
        if index == u32::MAX {
            return Err(WriteError::TooMany { what: "files", most: (u32::MAX - 1).into() });
        }
        match node.kind {
            Kind::Link(target) => {
                let target = &mut self.nodes[target as usize];
                target.links += 1;
                (node.inode, node.links) = (target.inode, 0);
            }
            kind => {
                self.inodes += 1;
                (node.inode, node.links) = (self.inodes, 1);
                if let Kind::File { size, .. } = kind {
                    self.bytes = self.bytes.saturating_add(size);
                }
            }
        }
        self.nodes.push(node);
        Ok(index)
    }

    /// Says which entries, all that were added since `first`, a directory has.
    pub(super) fn set_children(&mut self, directory: u32, first: u32) {
        let count = self.nodes.len() as u32 - first;
        let directories = self.nodes[first as usize..].iter();
        let directories = directories.filter(|child| matches!(child.kind, Kind::Directory { .. })).count() as u32;
        let node = &mut self.nodes[directory as usize];
        node.kind = Kind::Directory { first, count };
        // Its name, its `.`, and the `..` of each directory in it.
        node.links = 2_u32.saturating_add(directories);
    }
}

#[cfg(test)]
impl Node {
    /// An entry to test with.
    pub(super) fn plain(kind: Kind) -> Self {
        Self {
            name: Text::default(),
            parent: ROOT,
            kind,
            mode: 0o644,
            user: 0,
            group: 0,
            time: 0,
            attributes: NO_ATTRIBUTES,
            inode: 0,
            links: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_inodes_of_their_own_and_links_those_of_the_first_name() {
        let mut tree = Tree::default();
        tree.add(Node::plain(Kind::Directory { first: 0, count: 0 })).unwrap();
        for (name, kind) in [
            ("a", Kind::File { size: 10, is_sparse: false }),
            ("b", Kind::Directory { first: 0, count: 0 }),
            ("c", Kind::Link(1)),
            ("d", Kind::Fifo),
        ] {
            let name = tree.add_text(name.as_bytes()).unwrap();
            tree.add(Node { name, ..Node::plain(kind) }).unwrap();
        }
        tree.set_children(ROOT, 1);
        let name = tree.add_text(b"inner").unwrap();
        tree.add(Node { name, parent: 2, ..Node::plain(Kind::Socket) }).unwrap();
        tree.set_children(2, 5);
        let numbers: Vec<_> = (0..6).map(|index| (tree.node(index).inode, tree.node(index).links)).collect();
        assert_eq!(numbers, [(1, 3), (2, 2), (3, 2), (2, 0), (4, 1), (5, 1)]);
        assert_eq!((tree.inodes(), tree.bytes(), tree.len()), (5, 10, 6));
        assert!([0, 2].iter().all(|index| tree.is_directory(*index)) && !tree.is_directory(3));
        assert_eq!([ROOT, 3, 5].map(|index| tree.path(index)), ["/", "/c", "/b/inner"].map(PathBuf::from));
    }

    #[test]
    fn an_entry_takes_as_little_memory_as_the_rest_counts_on() {
        assert!(size_of::<Node>() <= 56, "{}", size_of::<Node>());
    }
}
