//! Filters of system calls that cannot be made.

use super::{compare, every, shown};
use crate::seccomp::CompileError;

#[test]
fn every_error_of_a_filter_says_what_is_wrong_and_what_to_do() {
    let errors = every! {
        CompileError::TooLong(_) => [CompileError::TooLong(5000)],
        CompileError::Architecture => [CompileError::Architecture],
        CompileError::Argument(_) => [CompileError::Argument(6)],
        CompileError::Errno(_) => [CompileError::Errno(70000)],
        CompileError::Notify => [CompileError::Notify],
    };
    compare("seccomp", shown(errors, CompileError::hint));
}
