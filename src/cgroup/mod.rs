//! Control groups, see cgroups(7): finds those of this process, and makes those of containers below them.
//!
//! ```text
//! own group         runner's, in each hierarchy: the limits of a service, CI job, pod or shell apply below it
//! └─ runner-ID      a container's: has its limits and device rules; no process inside can see it
//!    └─ c           contains its processes; the root of their cgroup namespace
//! ```
//!
//! - A container has a group in every hierarchy, mounted or not, so that no part of the host's tree is visible in its
//!   cgroup namespace.
//! - On v2 a group with processes cannot enable controllers for the groups below it. Where a limit of the manifest needs
//!   one, or the group is delegated, runner first moves the processes of its own group into a leaf of it, `runner-host`; the
//!   last runner there moves them back and disables the controllers again. An extended attribute of the group lists these
//!   controllers, so that the next runner can do so after a killed one.

mod controllers;
mod dir;
mod error;
mod group;
mod group_set;
mod layout;
mod limit_support;
mod limits;
mod memory_limit;
mod namespace;
mod process_limit;
mod search;
mod tree;

pub use controllers::restore;
pub use dir::GroupDir;
pub use error::CgroupError;
pub use group::{ContainerGroup, LimitedGroup};
pub use group_set::{GroupSet, HOST_LEAF, Hierarchy};
pub use layout::{Layout, membership};
pub use limit_support::LimitSupport;
pub use limits::SetLimit;
pub use namespace::enter as enter_namespace;
pub use process_limit::ProcessLimit;
pub use search::restore_all;
