//! The events of a build: the only bridge between the work and what people and programs see of it.

mod queue;

use std::ops::Range;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use crate::cache::key::Reason;
use crate::written_through::WrittenThrough;

pub use queue::{Events, Stamped};

/// One thing that happened. Serialised, it is a line of `--progress json` but for its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plan is made; work begins.
    BuildStarted {
        /// The build's name.
        name: String,
        /// How many steps are to be done.
        steps: usize,
    },
    /// A step begins, once a try.
    StepStarted {
        /// The step's name.
        step: String,
        /// Its container's name.
        container: String,
        /// 1 for the first try.
        attempt: u32,
        /// Why it is not taken from the cache.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<Reason>,
    },
    /// A step that has started waits for a cache with `sharing: locked`, which another step uses, here or in another runner.
    StepWaits {
        /// The step's name.
        step: String,
        /// The id of the cache.
        cache: String,
    },
    /// A step that waited has its turn, and begins.
    StepHasTurn {
        /// The step's name.
        step: String,
    },
    /// A step printed a line.
    StepOutput {
        /// The step's name.
        step: String,
        /// Where it printed it.
        stream: Stream,
        /// The line without its end; what is not UTF-8 is replaced. The log has the bytes.
        line: String,
    },
    /// A step printed to a line that has no end yet, as curl and apt do with carriage returns. Only a display that changes in
    /// place shows it: the whole line comes as [`Event::StepOutput`].
    #[serde(skip)]
    #[schemars(skip)]
    StepLineGrows {
        /// The step's name.
        step: String,
        /// The line as a terminal would show it.
        line: String,
    },
    /// A step is done, one way or another; once a step.
    StepFinished {
        /// The step's name.
        step: String,
        /// Its container's name.
        container: String,
        /// How it ended.
        status: StepStatus,
        /// The exit code; 128 and the signal's number after a signal; none where no process ran.
        exit_code: Option<i32>,
        /// How long it took over all tries, in milliseconds.
        duration_ms: u64,
        /// Its log file, where it printed something.
        #[serde(skip_serializing_if = "Option::is_none")]
        log: Option<PathBuf>,
        /// Why it failed or was skipped, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// More about a failure.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Box<StepFailure>>,
    },
    /// The image of a snapshot, or of the session of a step that failed, is being written; a few times a second, and
    /// not at all for one that is soon done.
    SnapshotProgress {
        /// The step's name.
        step: String,
        /// Bytes of the image that are there by now.
        bytes: u64,
        /// The share of its input that is written: 0 to 99, and never less than before. Left out as long as it is not
        /// known.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(max = 99))]
        percent: Option<u8>,
    },
    /// A snapshot is in the store and at its output.
    SnapshotWritten {
        /// The step's name.
        step: String,
        /// `sha256:` and 64 hexadecimal digits.
        digest: String,
        /// Bytes.
        size: u64,
        /// The output if the manifest names one, else the file in the store.
        path: PathBuf,
        /// It was in the store already.
        cached: bool,
    },
    /// A checkpoint is being made or restored: when its image begins to be written, and a few times a second.
    CheckpointProgress {
        /// The step that it is made after; of one that is restored, the step that begins with it.
        step: String,
        /// Its stage.
        stage: CheckpointStage,
        /// Bytes that are copied, or that its image has, by now.
        bytes: u64,
        /// The share of it that is written: 0 to 99. Left out where that is not known.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(max = 99))]
        percent: Option<u8>,
    },
    /// A checkpoint is in the store: a build that fails later continues after its step.
    CheckpointWritten {
        /// The step that it is of.
        step: String,
        /// Bytes of its image.
        size: u64,
    },
    /// A session begins with a checkpoint, all of which is copied back.
    CheckpointRestored {
        /// The step that begins.
        step: String,
        /// The step that the checkpoint is of.
        after: String,
    },
    /// How much longer the build takes if each step takes as long as when it ended well last, as far as the store
    /// remembers; once a second, and not at all in the first one or where no step was ever timed. A step that runs longer
    /// than it did counts as about to end; one that may turn out to be in the store counts until that is known.
    BuildEstimated {
        /// Milliseconds from now.
        left_ms: u64,
        /// How many of the steps that are left were never timed. They count as nothing, so with any of them the build
        /// takes longer than `left_ms`.
        untimed: usize,
    },
    /// Something that the user should know and that stops nothing.
    Warning {
        /// The step that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// Its text.
        message: String,
    },
    /// The last event.
    BuildFinished {
        /// How the build ended.
        status: BuildStatus,
        /// Steps that ran and did not fail.
        ran: usize,
        /// Steps taken from the cache.
        cached: usize,
        /// Steps that failed.
        failed: usize,
        /// Steps never begun, for a step before them failed or the build was interrupted.
        skipped: usize,
        /// From the first event to this one, in milliseconds.
        duration_ms: u64,
        /// Where the next build continues, for each container that has begun a part and not finished it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        continues: Vec<Continuation>,
    },
}

/// Where the next build of a container continues, if nothing that its steps depend on changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Continuation {
    /// The container.
    pub container: String,
    /// The first step that runs again.
    pub step: String,
    /// How many steps run again that ended well.
    pub again: usize,
    /// How long these took, in milliseconds.
    pub again_ms: u64,
    /// Why no checkpoint holds what they did, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The stage of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointStage {
    /// Runner copies the changes of the session; the next step waits for that.
    Copied,
    /// The image of the copy is written, while other steps run.
    Written,
    /// It is not needed any more, for the snapshot after it is in the store.
    Discarded,
    /// It is copied into a session; the step waits for that.
    Restored,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Ran,
    Cached,
    Failed,
    Skipped,
}

/// More about a step that failed than the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepFailure {
    /// Its command or action, on one line, and cut where that is long.
    pub command: String,
    /// Where it stands in the manifest; left out where that has been changed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// `runner shell STEP` opens a shell in its session as it was when it failed.
    pub kept: bool,
    /// A way to fix it, where the last lines of its output or the way it ended suggest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The layer is not the locked one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mismatched: bool,
    /// The writable binds, caches and their like that it may have left half-written files in: nothing puts those back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub half_written: Vec<WrittenThrough>,
}

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The manifest's path; what of it is not UTF-8 is replaced.
    pub manifest: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The number of the first of `lines`.
    #[serde(skip)]
    pub first_line: usize,
    /// The text around it, whole lines.
    #[serde(skip)]
    pub lines: String,
    /// Where in these lines it is.
    #[serde(skip)]
    pub name: Range<usize>,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    Done,
    Failed,
    Interrupted,
}

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}
