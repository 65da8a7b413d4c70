//! The events of a build: the only connection between the work and its displays and reports.

mod import;
mod queue;
mod source;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::cache::key::Reason;
use crate::model::StepId;
use crate::written_through::WrittenThrough;

pub use import::{ImportMethod, ImportStage, ImportStatus};
pub use queue::{Events, Stamped};
pub use source::EventSource;

/// One event of a build. Serialised, with its time, it is a line of `--progress json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The build begins; its plan is complete.
    BuildStarted {
        /// The build's name.
        name: String,
        /// The number of planned steps.
        steps: usize,
    },
    /// An attempt of a step begins.
    StepStarted {
        /// The step's name.
        step: String,
        /// Its container's name.
        container: String,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The reasons why the step is not taken from the cache.
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
    /// A step that waited for a cache begins.
    StepHasTurn {
        /// The step's name.
        step: String,
    },
    /// A step printed a line.
    StepOutput {
        /// The step's name.
        step: String,
        /// The stream that it printed to.
        stream: Stream,
        /// The line without its end; bytes that are not UTF-8 are replaced. The log has the original bytes.
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
    /// A step has finished, with any status; one event for each step.
    StepFinished {
        /// The step's name.
        step: String,
        /// Its container's name.
        container: String,
        /// The status of the step.
        status: StepStatus,
        /// The exit code; 128 and the signal's number after a signal; null if no process ran.
        exit_code: Option<i32>,
        /// The duration of all attempts together, in milliseconds.
        duration_ms: u64,
        /// The step is a test.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        test: bool,
        /// Its log file, if it printed something.
        #[serde(skip_serializing_if = "Option::is_none")]
        log: Option<PathBuf>,
        /// The reason why it failed or was skipped.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// More about a failure.
        #[serde(skip_serializing_if = "Option::is_none")]
        failure: Option<Box<StepFailure>>,
    },
    /// The progress of writing the image of a snapshot or an export, or of the session of a failed step; a few times a second, and
    /// not at all if writing is short.
    SnapshotProgress {
        /// The step's name.
        step: String,
        /// The bytes of the image that are written.
        bytes: u64,
        /// The share of its input that is written, in percent: 0 to 99, and never less than before. Absent while it is
        /// unknown.
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
        /// The size of the image in bytes.
        size: u64,
        /// The output if the manifest names one, else the file in the store.
        path: PathBuf,
        /// The image was in the store before this build.
        cached: bool,
    },
    /// An export is in the store and at its output.
    ExportWritten {
        /// The step's name.
        step: String,
        /// `sha256:` and 64 hexadecimal digits: of the output if it is a file, else of the image that the store has of it.
        digest: String,
        /// The size in the store in bytes.
        size: u64,
        /// The output if the manifest names one, else the file in the store.
        path: PathBuf,
        /// It was in the store before this build.
        cached: bool,
        /// The output was written; `false` where it was there already, and the same.
        changed: bool,
    },
    /// The source of a root, which the store lacks, begins to arrive; one event for each source, however many containers wait for it.
    ImportStarted {
        /// The first container whose root it is.
        container: String,
        /// The image, the URL without credentials and query, or the path.
        source: String,
        /// The way in which it arrives.
        method: ImportMethod,
        /// `sha256:` and 64 hexadecimal digits; absent where the download is to find it out.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// The bytes that are to arrive: all layers of an image that the store lacks. Absent while they are unknown.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// The progress of an import; a few times a second, and not at all if it is short.
    ImportProgress {
        /// The container of the import's first event.
        container: String,
        /// The source, as in the import's first event.
        source: String,
        /// Its stage. The layers of an image arrive while others are unpacked; the next stages begin when all are there.
        stage: ImportStage,
        /// The bytes that have arrived, are unpacked, or are read for the image.
        bytes: u64,
        /// All of them. Absent while they are unknown.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
    /// A request to a server failed, and runner waits for more than a second before it tries again.
    RequestWaits {
        /// The image or the URL.
        source: String,
        /// The length of the wait in milliseconds.
        wait_ms: u64,
        /// The failure of the last try.
        reason: String,
    },
    /// An import has ended.
    ImportFinished {
        /// The container of the import's first event.
        container: String,
        /// The source, as in the import's first event.
        source: String,
        /// The way in which it arrived.
        method: ImportMethod,
        /// Whether it is in the store.
        status: ImportStatus,
        /// Its digest: `sha256:` and 64 hexadecimal digits. Absent if the import failed before it was known.
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
        /// The bytes that have arrived.
        size: u64,
        /// The time from the import's first event to this one, in milliseconds.
        duration_ms: u64,
    },
    /// The progress of pushing the image of an export; a few times a second, and not at all if the push is short.
    PushProgress {
        /// The step's name.
        step: String,
        /// The bytes of the image that were sent.
        bytes: u64,
        /// The share of the image that the registry has, in percent: 0 to 99.
        #[schemars(range(max = 99))]
        percent: u8,
    },
    /// The tag of a registry leads to the image of an export.
    ImagePushed {
        /// The step's name.
        step: String,
        /// The image by its tag and its digest: `ghcr.io/owner/hello:v1.2@sha256:…`. A `rootfs` and other tools take it so.
        image: String,
        /// The digest of its manifest: `sha256:` and 64 hexadecimal digits.
        digest: String,
        /// The bytes of its layers and its configuration that were sent; the registry had the others.
        sent: u64,
        /// The tag led to another image before, or to none.
        changed: bool,
    },
    /// The progress of writing or restoring a checkpoint: at the beginning of its image, and a few times a second.
    CheckpointProgress {
        /// The step that the checkpoint follows; for a restored one, the step that begins from it.
        step: String,
        /// Its stage.
        stage: CheckpointStage,
        /// The bytes that are copied, or written to its image.
        bytes: u64,
        /// The share that is written, in percent: 0 to 99. Absent if it is unknown.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(max = 99))]
        percent: Option<u8>,
    },
    /// A checkpoint is in the store: after a later failure, the next build continues after its step.
    CheckpointWritten {
        /// The step that the checkpoint follows.
        step: String,
        /// The size of its image in bytes.
        size: u64,
    },
    /// A session begins from a checkpoint, which is completely copied back.
    CheckpointRestored {
        /// The step that begins.
        step: String,
        /// The step that the restored checkpoint follows.
        after: String,
    },
    /// Steps that have not ended have reached a stage on which the remaining time depends. Only the estimate receives it.
    #[serde(skip)]
    #[schemars(skip)]
    StageReached {
        /// The steps.
        steps: Vec<StepId>,
        /// Their stage.
        stage: StepStage,
    },
    /// The estimated remaining time of the build, if each step takes as long as when it last succeeded; once a second,
    /// but not in the first second, and not if no step was ever timed. A step that runs longer than it last did counts
    /// as almost finished; a step that may be in the store counts until that is known.
    BuildEstimated {
        /// The remaining milliseconds.
        left_ms: u64,
        /// The number of remaining steps that were never timed. They count as zero, so with any of them the build
        /// takes longer than `left_ms`.
        untimed: usize,
    },
    /// A warning to the user; the build continues.
    Warning {
        /// The step that the warning is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<String>,
        /// The text of the warning.
        message: String,
    },
    /// The last event.
    BuildFinished {
        /// The status of the build.
        status: BuildStatus,
        /// The number of steps that ran and did not fail.
        ran: usize,
        /// The number of steps taken from the cache.
        cached: usize,
        /// The number of steps that failed.
        failed: usize,
        /// The number of these that did not fail by themselves: the interruption of the build stopped them.
        #[serde(skip_serializing_if = "is_zero")]
        stopped: usize,
        /// The number of steps that did not begin, because a step before them failed or the build was interrupted.
        skipped: usize,
        /// The tests among these steps; absent if the plan has none.
        #[serde(skip_serializing_if = "Option::is_none")]
        tests: Option<TestTotals>,
        /// The time from the first event to this one, in milliseconds.
        duration_ms: u64,
        /// Where the next build continues, for each container with an unfinished segment that has begun.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        continues: Vec<Continuation>,
    },
}

/// Says for serde whether a number is left out.
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The numbers of tests by their results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct TestTotals {
    /// Tests that passed, in this build or in an earlier one.
    pub passed: usize,
    /// Those of them that passed in an earlier build, and did not run.
    pub cached: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that did not begin.
    pub skipped: usize,
}

/// Where the next build of a container continues, if nothing that its steps depend on changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Continuation {
    /// The container.
    pub container: String,
    /// The first step that runs again.
    pub step: String,
    /// The number of steps that succeeded and run again.
    pub again: usize,
    /// The duration of these steps, in milliseconds.
    pub again_ms: u64,
    /// The reason why no checkpoint contains their changes, if it is known.
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
    /// It is no longer needed, because the snapshot after it is in the store.
    Discarded,
    /// The checkpoint is copied into a session; the step waits for that.
    Restored,
}

/// A stage of steps that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStage {
    /// The cache check has found their results in the store.
    Cached,
    /// The content of the snapshot is complete: the next steps may begin while its image is written.
    Frozen,
    /// The next steps wait for the image of the snapshot: their results may be in the store.
    Awaited,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Ran,
    Cached,
    Failed,
    Skipped,
}

/// More about a failed step than the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StepFailure {
    /// Its command or action on one line, cut if it is long.
    pub command: String,
    /// Its place in the manifest; absent if the manifest has changed meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The failed session is stored: `runner shell STEP` opens a shell in it.
    pub kept: bool,
    /// A way to fix it, if the last lines of its output or its exit suggest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The layer differs from the one in the lock file.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mismatched: bool,
    /// The step did not fail by itself: the interruption of the build stopped it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The writable binds, caches and similar mounts in which it may have left half-written files: runner does not
    /// restore those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub half_written: Vec<WrittenThrough>,
}

/// A place in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Place {
    /// The manifest's path; bytes that are not UTF-8 are replaced.
    pub manifest: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The number of the first of `lines`.
    #[serde(skip)]
    pub first_line: usize,
    /// The lines around it.
    #[serde(skip)]
    pub lines: String,
    /// Its range of bytes in these lines.
    #[serde(skip)]
    pub name: Range<usize>,
}

/// The result of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    Done,
    Failed,
    Interrupted,
}

/// The stream that a line was printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Returns the whole milliseconds of a duration, as events and records give it.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
