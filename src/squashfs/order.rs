//! The order of the inodes in their table, and the files whose ends may be in fragments because of it.
//!
//! The list of a file's blocks has no entry for an end that is in a fragment. Linux reads one nevertheless when a program asks for
//! the next hole of the file (lseek(2); 6.18 does, releases without holes in squashfs do not): it takes the first four bytes of the
//! next inode, its type and its mode, for the length of a block. It takes any length for data, as is right, but fails with EIO where the
//! mode has set-uid, set-gid or sticky bits, whose length no block has. So only files before an inode without them have their ends in
//! fragments.

use super::tree::{Kind, ROOT, Tree};

/// The bits of a mode that are too high for the length of a block: set-uid, set-gid and sticky.
const HIGH_BITS: u16 = 0o7000;

/// Returns the entries whose inodes are in the table, in their order: those of a directory after all that are below it, and the root
/// last. An inode that has several names is there for the first one that comes by.
pub(super) fn of(tree: &Tree) -> Vec<u32> {
    let mut is_placed = vec![false; tree.inodes() as usize];
    let mut order = Vec::with_capacity(is_placed.len());
    let mut levels = vec![(ROOT, tree.children(ROOT))];
    while let Some((directory, rest)) = levels.last_mut() {
        if let Some(child) = rest.find(|child| tree.is_directory(*child)) {
            levels.push((child, tree.children(child)));
            continue;
        }
        for child in tree.children(*directory) {
            let first = if let Kind::Link(first) = tree.node(child).kind { first } else { child };
            if !std::mem::replace(&mut is_placed[tree.node(child).inode as usize - 1], true) {
                order.push(first);
            }
        }
        levels.pop();
    }
    order.push(ROOT);
    order
}

/// The entries of a tree whose ends may be in fragments, a bit each.
#[derive(Debug)]
pub(super) struct Packed(Vec<u64>);

impl Packed {
    /// Finds them, given the order of the inodes.
    pub(super) fn new(tree: &Tree, order: &[u32]) -> Self {
        let mut packed = vec![0; tree.len().div_ceil(64)];
        for pair in order.windows(2) {
            if tree.node(pair[1]).mode & HIGH_BITS == 0 {
                packed[pair[0] as usize / 64] |= 1_u64 << (pair[0] % 64);
            }
        }
        Self(packed)
    }

    /// Returns whether the end of a file may be in a fragment.
    pub(super) fn has(&self, node: u32) -> bool {
        self.0[node as usize / 64] & 1 << (node % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Node;
    use super::*;

    #[test]
    fn an_end_is_packed_where_the_next_inode_has_no_high_bits() {
        let mut tree = Tree::default();
        let file = |mode| Node { mode, ..Node::plain(Kind::File { size: 1, is_sparse: false }) };
        let directory = |mode| Node { mode, ..Node::plain(Kind::Directory { first: 0, count: 0 }) };
        // The root with a, b, c and d; b has e and f.
        tree.add(directory(0o755)).unwrap();
        for node in [file(0o644), directory(0o1777), file(0o4755), file(0o644)] {
            tree.add(node).unwrap();
        }
        tree.set_children(ROOT, 1);
        for node in [file(0o644), file(0o644)] {
            tree.add(node).unwrap();
        }
        tree.set_children(2, 5);
        let order = of(&tree);
        assert_eq!(order, [5, 6, 1, 2, 3, 4, ROOT]);
        let packed = Packed::new(&tree, &order);
        assert_eq!([1, 2, 3, 4, 5, 6].map(|node| packed.has(node)), [false, false, true, true, true, true]);
        assert!(!packed.has(ROOT));
    }
}
