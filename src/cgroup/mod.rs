//! Control groups, see cgroups(7): where this process' own are, and those of containers, made below them.
//!
//! ```text
//! own group         runner's, in each hierarchy: a service's, a CI job's, a pod's or a shell's limits hold below it
//! └─ runner-ID      a container's: carries limits and device rules; nothing inside can see it
//!    └─ c           where its processes are; the root of their cgroup namespace
//! ```
//!
//! - A container has a group in every hierarchy, mounted or not, so that no part of the host's tree is seen from its
//!   cgroup namespace.
//! - On v2 a group that holds processes cannot give its children controllers. Where a limit of the manifest asks
//!   for one, or the group is delegated, the processes of runner's own group are first moved into a leaf of it,
//!   `runner-host`; the last runner there moves them back and switches off what was switched on. An extended attribute of
//!   the group names that, so that a killed runner leaves the knowledge behind.

mod controllers;
mod dir;
mod error;
mod group;
mod home;
mod layout;
mod limits;
mod memory_limit;
mod namespace;
mod process_limit;
mod search;
mod standing;
mod tree;

pub use controllers::restore;
pub use dir::GroupDir;
pub use error::CgroupError;
pub use group::{ContainerGroup, LimitedGroup};
pub use home::{HOST_LEAF, Hierarchy, Home};
pub use layout::{Layout, membership};
pub use limits::SetLimit;
pub use namespace::enter as enter_namespace;
pub use process_limit::ProcessLimit;
pub use search::restore_all;
pub use standing::Standing;
