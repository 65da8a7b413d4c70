//! Cgroups that runner cannot give to a container.

use std::io;
use std::path::PathBuf;

use super::{compare, errno, every, shown};
use crate::cgroup::CgroupError;

#[test]
fn every_error_of_a_cgroup_says_where_why_and_what_to_do() {
    let group = || PathBuf::from("/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope");
    let namespace = || io::Error::other("it belongs to another PID namespace");
    let errors = every! {
        CgroupError::Read(..) => [CgroupError::Read(errno(libc::ENOENT))],
        CgroupError::Unreachable { .. } => [CgroupError::Unreachable {
            hierarchy: "cgroup2".into(),
            path: "/../build".into(),
            source: io::Error::other("it lies outside of this process' cgroup namespace"),
        }],
        CgroupError::Create { .. } => [CgroupError::Create { path: group().join("runner-7-x-0"), source: errno(libc::EROFS) }],
        CgroupError::Full { .. } => [
            CgroupError::Full { path: group().join("runner-7-x-0"), file: group().join("cgroup.max.depth"), most: 0, is_depth: true },
            CgroupError::Full { path: group().join("c"), file: "/sys/fs/cgroup/ci/cgroup.max.descendants".into(), most: 4, is_depth: false },
        ],
        CgroupError::Mount { .. } => [CgroupError::Mount { point: "/sys/fs/cgroup".into(), source: errno(libc::EPERM) }],
        CgroupError::Write { .. } => [CgroupError::Write {
            value: "1234".into(),
            file: group().join("runner-7-x-0/c/cgroup.procs"),
            source: errno(libc::ESRCH),
        }],
        CgroupError::NoController { .. } => [CgroupError::NoController { limit: "cpus", controller: "cpu" }],
        CgroupError::Lacking { .. } => [CgroupError::Lacking { limit: "cpus", controller: "cpu", group: group() }],
        CgroupError::Occupied { .. } => [CgroupError::Occupied { limit: "memory", group: group(), source: namespace() }],
        CgroupError::Threaded { .. } => [CgroupError::Threaded { limit: "memory", group: group(), kind: "domain threaded".into() }],
        CgroupError::NotADomain { .. } => [CgroupError::NotADomain { group: group(), kind: "domain threaded".into() }],
    };
    compare("cgroup", shown(errors, CgroupError::hint));
}
