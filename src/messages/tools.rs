//! Programs of the host that runner starts.

use super::{compare, errno, every, shown};
use crate::runtime::external::FindError;

#[test]
fn every_error_of_a_runtime_says_where_why_and_what_to_do() {
    let errors = every! {
        FindError::NotInPath { .. } => [
            FindError::NotInPath { name: "runc".into() },
            FindError::NotInPath { name: "kata".into() },
        ],
        FindError::Unusable { .. } => [
            FindError::Unusable { path: "/usr/bin/crun".into(), source: errno(libc::EACCES) },
            FindError::Unusable { path: "/usr/bin/crun".into(), source: errno(libc::EAGAIN) },
        ],
        FindError::NoVersion { .. } => [
            FindError::NoVersion { path: "/bin/echo".into(), output: "echo 9.1".into() },
            FindError::NoVersion { path: "/usr/sbin/runc".into(), output: "pthread_create failed: Resource temporarily unavailable".into() },
        ],
    };
    compare("runtime", shown(errors, |error| Some(error.hint())));
}
