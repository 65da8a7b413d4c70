//! Inodes as an image has them: the short form where it says all, else the long one.

use super::block_list::BlockList;
use super::compressor::Compressor;
use super::content::{Content, Run};
use super::directories::Listing;
use super::error::WriteError;
use super::fragments::Fragment;
use super::metadata::{Metadata, Place};
use super::tree::{Kind, NO_ATTRIBUTES, Node, Tree};

/// Types of inodes, which are also those of entries of directories.
const DIRECTORY: u16 = 1;
const FILE: u16 = 2;
const SYMLINK: u16 = 3;
const BLOCK_DEVICE: u16 = 4;
const CHARACTER_DEVICE: u16 = 5;
const FIFO: u16 = 6;
const SOCKET: u16 = 7;

/// The long form of a type is that much further.
const LONG: u16 = 7;

/// A directory's size counts three bytes more: those of `.` and `..`.
const DOTS: u32 = 3;

/// Returns the type that an entry of a directory has.
pub(super) fn entry_type(kind: Kind, tree: &Tree) -> u16 {
    match kind {
        Kind::Directory { .. } => DIRECTORY,
        Kind::File { .. } => FILE,
        Kind::Symlink(_) => SYMLINK,
        Kind::BlockDevice(_) => BLOCK_DEVICE,
        Kind::CharacterDevice(_) => CHARACTER_DEVICE,
        Kind::Fifo => FIFO,
        Kind::Socket => SOCKET,
        Kind::Link(first) => entry_type(tree.node(first).kind, tree),
    }
}

/// The fields of an inode that the tree does not have.
pub(super) enum Body<'a> {
    /// Of a directory, and the number of the inode of the one that it is in.
    Directory(&'a Listing, u32),
    /// Of a file, and the runs of blocks that there are.
    File(Content, &'a [Run]),
    /// Of all else.
    Other,
}

/// Adds the inode of an entry that is no link to the table. Returns where it is.
///
/// # Errors
/// Those of the compressor, and of `sink`, which is given the blocks of the table that are done.
pub(super) fn push(
    table: &mut Metadata,
    compressor: &mut Compressor,
    tree: &Tree,
    node: &Node,
    body: &Body<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<(), WriteError>,
) -> Result<Place, WriteError> {
    let place = table.place();
    let mut fields = Fields::default();
    let mut list = None;
    match (node.kind, body) {
        (Kind::Directory { .. }, Body::Directory(listing, parent)) => directory(&mut fields, node, listing, *parent),
        (Kind::File { size, .. }, Body::File(content, runs)) => list = file(&mut fields, node, size, *content, runs),
        (kind, _) => other(&mut fields, node, kind, tree),
    }
    table.push(&fields.0, compressor).map_err(WriteError::Compress)?;
    if let Some(list) = list {
        list.write(|words| {
            table.push(words, compressor).map_err(WriteError::Compress)?;
            table.take_blocks().map_or(Ok(()), |blocks| sink(&blocks))
        })?;
    }
    table.take_blocks().map_or(Ok(()), |blocks| sink(&blocks))?;
    Ok(place)
}

fn directory(fields: &mut Fields, node: &Node, listing: &Listing, parent: u32) {
    let size = listing.size + DOTS;
    match u16::try_from(size) {
        Ok(size) if node.attributes == NO_ATTRIBUTES && listing.index.is_empty() => {
            fields.base(node, DIRECTORY);
            fields.word(listing.block).word(node.links).half(size).half(listing.offset).word(parent);
        }
        _ => {
            fields.base(node, DIRECTORY + LONG);
            fields.word(node.links).word(size).word(listing.block).word(parent);
            fields.half(listing.indexed).half(listing.offset).word(node.attributes);
            fields.0.extend_from_slice(&listing.index);
        }
    }
}

fn file<'r>(fields: &mut Fields, node: &Node, size: u64, content: Content, runs: &'r [Run]) -> Option<&'r BlockList> {
    let run = content.run().map(|run| &runs[run as usize]);
    let Fragment { block, offset } = content.fragment;
    let (start, sparse) = run.map_or((0, 0), |run| (run.start, run.sparse));
    match (u32::try_from(start), u32::try_from(size)) {
        (Ok(start), Ok(size)) if node.links == 1 && node.attributes == NO_ATTRIBUTES && sparse == 0 => {
            fields.base(node, FILE);
            fields.word(start).word(block).word(offset).word(size);
        }
        _ => {
            fields.base(node, FILE + LONG);
            fields.long(start).long(size).long(sparse);
            fields.word(node.links).word(block).word(offset).word(node.attributes);
        }
    }
    run.map(|run| &run.list)
}

fn other(fields: &mut Fields, node: &Node, kind: Kind, tree: &Tree) {
    let has_attributes = node.attributes != NO_ATTRIBUTES;
    fields.base(node, entry_type(kind, tree) + if has_attributes { LONG } else { 0 });
    fields.word(node.links);
    match kind {
        Kind::Symlink(target) => {
            let target = tree.text(target);
            fields.word(target.len() as u32);
            fields.0.extend_from_slice(target);
        }
        Kind::BlockDevice(number) | Kind::CharacterDevice(number) => {
            fields.word(number);
        }
        Kind::Directory { .. } | Kind::File { .. } | Kind::Fifo | Kind::Socket | Kind::Link(_) => {}
    }
    if has_attributes {
        fields.word(node.attributes);
    }
}

/// The fields of an inode, one after another.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    /// The fields that all inodes have.
    fn base(&mut self, node: &Node, kind: u16) {
        self.half(kind).half(node.mode).half(node.user).half(node.group).word(node.time).word(node.inode);
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Compression;
    use crate::squashfs::codec::Codec;

    /// The inode's bytes, without those that all have.
    fn bytes(node: Node, tree: &Tree, body: Body<'_>) -> (u16, Vec<u8>) {
        let mut none = Compressor::new(Codec::new(Compression::None, None)).unwrap();
        let mut table = Metadata::default();
        assert_eq!(push(&mut table, &mut none, tree, &node, &body, |_| panic!("few bytes")).unwrap(), Place::default());
        let bytes = table.finish(&mut none).unwrap();
        assert_eq!(bytes[4..18], [&[0xed, 9][..], &[1, 0, 2, 0, 5, 0, 0, 0, 9, 0, 0, 0]].concat());
        (u16::from_le_bytes([bytes[2], bytes[3]]), bytes[18..].to_vec())
    }

    fn node(kind: Kind) -> Node {
        Node { mode: 0o4755, user: 1, group: 2, time: 5, inode: 9, links: 1, ..Node::plain(kind) }
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn files_are_short_unless_they_need_more() {
        let tree = Tree::default();
        let file = |size| node(Kind::File { size, is_sparse: false });
        let fragment = Some(Fragment { block: 3, offset: 4 });
        let small = Content::at(None, fragment);
        let body = || Body::File(small, &[]);
        assert_eq!(bytes(file(7), &tree, body()), (2, words(&[0, 3, 4, 7])));
        assert_eq!(bytes(file(0), &tree, Body::File(Content::at(None, None), &[])), (2, words(&[0, u32::MAX, 0, 0])));
        let linked = Node { links: 2, ..file(7) };
        assert_eq!(bytes(linked, &tree, body()), (9, words(&[0, 0, 7, 0, 0, 0, 2, 3, 4, u32::MAX])));
        let with_attributes = Node { attributes: 6, ..file(7) };
        assert_eq!(bytes(with_attributes, &tree, body()), (9, words(&[0, 0, 7, 0, 0, 0, 1, 3, 4, 6])));
        let mut list = BlockList::default();
        list.push(100, true);
        list.push_hole(1);
        let runs = [Run { start: 1 << 32, list: list.clone(), sparse: 1 << 17 }];
        let expected = words(&[0, 1, 0, 2, 1 << 17, 0, 1, u32::MAX, 0, u32::MAX, 100, 0]);
        assert_eq!(bytes(file(1 << 33), &tree, Body::File(Content::at(Some(0), None), &runs)), (9, expected));
        let runs = [Run { start: 96, list, sparse: 0 }];
        let expected = words(&[96, u32::MAX, 0, 1 << 18, 100, 0]);
        assert_eq!(bytes(file(1 << 18), &tree, Body::File(Content::at(Some(0), None), &runs)), (2, expected));
        let expected = words(&[96, 3, 4, (1 << 18) + 9, 100, 0]);
        assert_eq!(bytes(file((1 << 18) + 9), &tree, Body::File(Content::at(Some(0), fragment), &runs)), (2, expected));
    }

    #[test]
    fn directories_are_short_unless_they_need_more() {
        let tree = Tree::default();
        let directory = |links| Node { links, ..node(Kind::Directory { first: 0, count: 0 }) };
        let listing = |size, index: &[u8]| Listing {
            block: 10,
            offset: 20,
            size,
            index: index.to_vec(),
            indexed: u16::from(!index.is_empty()),
        };
        let short = [words(&[10, 2]), vec![33, 0, 20, 0], words(&[8])].concat();
        assert_eq!(bytes(directory(2), &tree, Body::Directory(&listing(30, &[]), 8)), (1, short));
        let long = |size, indexed, attributes| {
            [words(&[2, size, 10, 8]), vec![indexed, 0, 20, 0], words(&[attributes])].concat()
        };
        let large = listing(65_533, &[]);
        assert_eq!(bytes(directory(2), &tree, Body::Directory(&large, 8)), (8, long(65_536, 0, u32::MAX)));
        let with_attributes = Node { attributes: 1, ..directory(2) };
        assert_eq!(bytes(with_attributes, &tree, Body::Directory(&listing(30, &[]), 8)), (8, long(33, 0, 1)));
        let indexed = [long(33, 1, u32::MAX), b"index".to_vec()].concat();
        assert_eq!(bytes(directory(2), &tree, Body::Directory(&listing(30, b"index"), 8)), (8, indexed));
    }

    #[test]
    fn all_else_has_its_own_fields() {
        let mut tree = Tree::default();
        let target = tree.add_text(b"to").unwrap();
        let table = [
            (Kind::Symlink(target), 3, [words(&[1, 2]), b"to".to_vec()].concat()),
            (Kind::BlockDevice(0x103), 4, words(&[1, 0x103])),
            (Kind::CharacterDevice(0), 5, words(&[1, 0])),
            (Kind::Fifo, 6, words(&[1])),
            (Kind::Socket, 7, words(&[1])),
        ];
        for (kind, number, mut expected) in table {
            assert_eq!(bytes(node(kind), &tree, Body::Other), (number, expected.clone()));
            expected.extend(words(&[4]));
            assert_eq!(bytes(Node { attributes: 4, ..node(kind) }, &tree, Body::Other), (number + 7, expected));
        }
    }
}
