//! Everything of an image but what is in files: inodes, directories, and the tables behind them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::attributes::Attributes;
use super::blocks::Written;
use super::compressor::Compressor;
use super::directories::{self, Entry, Listing};
use super::error::WriteError;
use super::ids::Ids;
use super::inodes::{self, Body};
use super::metadata::{Metadata, Place, Table};
use super::superblock::Superblock;
use super::tree::{Kind, ROOT, Tree};
use super::walk::Watch;

/// An inode that has no place yet.
const NOWHERE: u64 = u64::MAX;

/// The inodes and directories of a tree, as they are made.
struct Tables<'t> {
    tree: &'t Tree,
    written: &'t Written,
    watch: Watch<'t>,
    compressor: &'t mut Compressor,
    inodes: Metadata,
    /// Where the next blocks of inodes go: behind the files, and directories behind them.
    file: &'t File,
    at: u64,
    directories: Metadata,
    /// Where each inode is, by its number less one.
    places: Vec<u64>,
    /// The order that the inodes have, on which the places of the ends of files depend.
    order: std::slice::Iter<'t, u32>,
}

/// A directory whose entries are being made ready.
struct Level {
    directory: u32,
    rest: Range<u32>,
    /// The contents of the directories in it, in order.
    listings: Vec<(u32, Listing)>,
}

/// Writes what follows the files in an image. Returns a superblock that lacks its time.
///
/// # Errors
/// Those of the compressor and of writing; where an image cannot store as much; an interrupt.
pub(super) fn write(
    file: &File,
    (tree, order): (&Tree, &[u32]),
    ids: &Ids,
    attributes: &Attributes,
    written: &Written,
    compressor: &mut Compressor,
    watch: Watch<'_>,
) -> Result<Superblock, WriteError> {
    let mut tables = Tables {
        tree,
        written,
        watch,
        compressor,
        inodes: Metadata::default(),
        file,
        at: written.at,
        directories: Metadata::default(),
        places: vec![NOWHERE; tree.inodes() as usize],
        order: order.iter(),
    };
    let listing = tables.all_below_root()?;
    // Its parent is itself.
    let root = tables.push_inode(ROOT, &Body::Directory(&listing, tree.node(ROOT).inode))?.reference();
    let Tables { inodes, directories, places, compressor, at, .. } = tables;
    let failed = WriteError::Compress;
    let mut superblock = Superblock { inodes: tree.inodes(), ids: ids.count(), root, ..Superblock::default() };
    let mut parts = Parts { file, at };
    superblock.inode_table = written.at;
    parts.add(&inodes.finish(compressor).map_err(failed)?)?;
    superblock.directory_table = parts.add(&directories.finish(compressor).map_err(failed)?)?;
    superblock.fragments = (written.fragment_table.len() / 16) as u32;
    superblock.fragment_table = parts.table(&written.fragment_table, compressor)?;
    let exports: Vec<u8> = places.iter().flat_map(|place| place.to_le_bytes()).collect();
    superblock.export_table = parts.table(&exports, compressor)?;
    superblock.id_table = parts.table(ids.records(), compressor)?;
    if let Some(table) = attributes.table(parts.at, compressor).map_err(failed)? {
        parts.add(&table.pairs)?;
        parts.add(&table.sets.blocks)?;
        superblock.attribute_table = Some(parts.add(&table.head)?);
    }
    superblock.used = parts.at;
    Ok(superblock)
}

/// Parts of the image, one behind another.
struct Parts<'t> {
    file: &'t File,
    at: u64,
}

impl Parts<'_> {
    /// Writes a part. Returns where it begins.
    fn add(&mut self, part: &[u8]) -> Result<u64, WriteError> {
        let at = self.at;
        self.file.write_all_at(part, at).map_err(WriteError::File)?;
        self.at += part.len() as u64;
        Ok(at)
    }

    /// Writes a table. Returns where the list of its blocks begins.
    fn table(&mut self, records: &[u8], compressor: &mut Compressor) -> Result<u64, WriteError> {
        let table = Table::new(records, self.at, compressor).map_err(WriteError::Compress)?;
        self.add(&table.blocks)?;
        self.add(&table.places)
    }
}

impl Tables<'_> {
    /// Makes all but the root's own inode. Returns the content of the root.
    ///
    /// A directory is made when all in it are: then it is known where the inodes are that its entries lead to.
    fn all_below_root(&mut self) -> Result<Listing, WriteError> {
        let level = |tree: &Tree, directory| Level { directory, rest: tree.children(directory), listings: Vec::new() };
        let mut levels = vec![level(self.tree, ROOT)];
        loop {
            let Some(last) = levels.last_mut() else { return Ok(Listing::default()) };
            if let Some(child) = last.rest.find(|child| self.tree.is_directory(*child)) {
                levels.push(level(self.tree, child));
                continue;
            }
            self.watch.check()?;
            let (directory, listings) = (last.directory, std::mem::take(&mut last.listings));
            levels.pop();
            let listing = self.directory(directory, &listings)?;
            match levels.last_mut() {
                Some(above) => above.listings.push((directory, listing)),
                None => return Ok(listing),
            }
        }
    }

    /// Makes the inodes of a directory's entries, and the directory's content.
    fn directory(&mut self, directory: u32, listings: &[(u32, Listing)]) -> Result<Listing, WriteError> {
        let parent = self.tree.node(directory).inode;
        let mut listings = listings.iter();
        for child in self.tree.children(directory) {
            let node = self.tree.node(child);
            // An inode that has several names is made with the first one that comes by.
            let first = if let Kind::Link(first) = node.kind { first } else { child };
            if self.places[node.inode as usize - 1] != NOWHERE {
                continue;
            }
            let body = match self.tree.node(first).kind {
                Kind::Directory { .. } => match listings.next() {
                    Some((_, listing)) => Body::Directory(listing, parent),
                    None => continue,
                },
                Kind::File { .. } => Body::File(self.written.contents[first as usize], &self.written.runs),
                _ => Body::Other,
            };
            self.push_inode(first, &body)?;
        }
        let (tree, places) = (self.tree, &self.places);
        let entries = tree.children(directory).map(|child| {
            let node = tree.node(child);
            let place = places[node.inode as usize - 1];
            Entry {
                name: tree.text(node.name),
                place: Place { block: place >> 16, offset: place as u16 },
                inode: node.inode,
                kind: inodes::entry_type(node.kind, tree),
            }
        });
        directories::push(&mut self.directories, self.compressor, entries)
    }

    fn push_inode(&mut self, index: u32, body: &Body<'_>) -> Result<Place, WriteError> {
        let expected = self.order.next();
        debug_assert_eq!(expected, Some(&index), "an inode is not where it was expected");
        let node = self.tree.node(index);
        let sink = |blocks: &[u8]| {
            self.watch.check()?;
            self.file.write_all_at(blocks, self.at).map_err(WriteError::File)?;
            self.at += blocks.len() as u64;
            Ok(())
        };
        let place = inodes::push(&mut self.inodes, self.compressor, self.tree, node, body, sink)?;
        self.places[node.inode as usize - 1] = place.reference();
        Ok(place)
    }
}
