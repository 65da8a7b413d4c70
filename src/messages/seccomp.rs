//! Filters of system calls that cannot be made.

use super::{compare, every, shown};
use crate::seccomp::{CompileError, StepCallError};

#[test]
fn every_error_of_a_filter_says_what_is_wrong_and_what_to_do() {
    let errors = every! {
        CompileError::TooLong(_) => [CompileError::TooLong(5000)],
        CompileError::Architecture => [CompileError::Architecture],
        CompileError::Argument(_) => [CompileError::Argument(6)],
        CompileError::Errno(_) => [CompileError::Errno(70000)],
        CompileError::Notify => [CompileError::Notify],
    };
    let steps = every! {
        StepCallError::NoProgram => [StepCallError::NoProgram],
        StepCallError::Faked(_) => [StepCallError::Faked("setresuid")],
    };
    let steps = shown(steps, |error| Some(error.hint()));
    compare("seccomp", shown(errors, CompileError::hint).chain(steps));
}
