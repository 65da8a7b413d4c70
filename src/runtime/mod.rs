//! OCI runtimes: what runs processes in a container that a bundle describes.

pub mod embedded;
pub mod process;
pub mod spec;

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// The descriptors that a process is started with.
#[derive(Debug)]
pub struct Stdio {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// How a process in a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It called exit(2).
    Exited {
        /// The code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The signal's number, see signal(7).
        signal: i32,
    },
    /// It could not be started.
    NotStarted {
        /// What went wrong, as it fits after "cannot start: ".
        why: String,
        /// 126 where the command cannot be executed, 127 where it is not there, 125 for anything else, as with Docker.
        code: i32,
    },
}

impl Outcome {
    /// The exit code as a shell gives it: 128 and the signal's number after a signal.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited { code } | Self::NotStarted { code, .. } => *code,
            Self::Signaled { signal } => 128 + signal,
        }
    }

    /// Whether it ended well.
    pub fn is_success(&self) -> bool {
        *self == Self::Exited { code: 0 }
    }
}
