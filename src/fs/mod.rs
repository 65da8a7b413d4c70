//! Files by descriptor: the one place that resolves paths with openat2(2), renames, reads extended attributes, and walks, copies
//! and removes trees.

pub mod acl;
pub mod atomic;
pub mod caller;
pub mod copy_into;
pub mod copy_tree;
pub mod descent;
pub mod dirfd;
pub mod file_capabilities;
pub mod in_root;
pub mod list;
pub mod named_file;
pub mod opened;
pub mod output;
pub mod regular;
pub mod remove_tree;
pub mod tree_size;
pub mod walk;
pub mod xattr;
