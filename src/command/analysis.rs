//! The analysis of a build: its plan, the segments of the plan, and the check of these against the store. Nothing runs.

use super::command_error::{CommandError, check_error, store_error};
use super::console::notice;
use super::long_reads::LongReads;
use super::runtime;
use crate::cache::{self, CacheChecker, Forecast, forecast};
use crate::error::error_chain;
use crate::model::{Build, Role, StepId};
use crate::named_paths::unordered_binds;
use crate::plan::{Plan, Segment, Segments};
use crate::settings::{STORE_OF_ROOT, Settings};
use crate::store::{Existing, Store, StoreError};
use crate::warning::Warning;

/// The plan of a build, cut into segments.
pub struct Analysis<'a> {
    /// The build.
    pub build: &'a Build,
    /// The plan of the requested steps.
    pub plan: Plan,
    /// The segments of the plan.
    pub segments: Segments,
}

impl<'a> Analysis<'a> {
    /// Plans these steps and the steps that they need; without any, all steps.
    pub fn new(build: &'a Build, targets: &[StepId]) -> Self {
        let plan = Plan::new(build, targets);
        let segments = Segments::new(build, &plan);
        Self { build, plan, segments }
    }

    /// Returns the snapshot of the manifest that ends a segment.
    pub fn own_snapshot(&self, segment: &Segment) -> Option<StepId> {
        segment.snapshot.filter(|snapshot| self.build.step(*snapshot).role != Role::TestedState)
    }

    /// Returns a cache checker for the segments.
    pub fn checker<'s>(&'s self, store: Option<&'s Store>, options: cache::Options) -> CacheChecker<'s> {
        CacheChecker::new(self.build, &self.segments, store, options)
    }

    /// Returns a cache checker for a command that runs nothing.
    ///
    /// # Errors
    /// If the runtime of the settings is missing.
    pub fn read_only_checker<'s>(
        &'s self,
        settings: &Settings,
        store: &'s StoreView,
        options: cache::Options,
    ) -> Result<CacheChecker<'s>, CommandError> {
        let options = cache::Options {
            runtime: runtime::find(&settings.runtime)?,
            long_read: LongReads::default().reporter(),
            unreadable: store.unreadable.as_ref().map(|error| error_chain(error)),
            ..options
        };
        Ok(self.checker(store.store.as_ref(), options))
    }

    /// Checks all segments against the store and the host as they are now.
    ///
    /// # Errors
    /// If an input of a segment cannot be read.
    pub fn forecast(&self, checker: &CacheChecker<'_>) -> Result<Forecast, CommandError> {
        Ok(forecast(checker, &self.plan).map_err(check_error)?)
    }

    /// Returns a warning for each container that reads the files that another one writes, without an order between the two.
    pub fn order_warnings(&self) -> Vec<Warning> {
        Warning::of_unordered(self.build, &unordered_binds(self.build, &self.plan))
    }
}

/// The store as a read-only command finds it.
pub struct StoreView {
    /// The store, if it exists and this user may read it.
    pub store: Option<Store>,
    /// The reason why this user cannot read the store.
    pub unreadable: Option<StoreError>,
}

impl StoreView {
    /// Opens the store of the settings, and creates nothing.
    ///
    /// # Errors
    /// If the store has another format.
    pub fn open(settings: &Settings) -> Result<Self, CommandError> {
        let (store, unreadable) = match Store::open_existing(&settings.store).map_err(store_error)? {
            Existing::Store(store) => (Some(store), None),
            Existing::None => (None, None),
            Existing::Unreadable(error) => (None, Some(error)),
        };
        Ok(Self { store, unreadable })
    }

    /// Tells a user without a store about the store of root: only root builds, by default into another store than this user's.
    pub fn notice_if_missing(&self, settings: &Settings) {
        let is_missing = self.store.is_none() && self.unreadable.is_none();
        if is_missing && settings.is_default_store && !rustix::process::geteuid().is_root() {
            let store = settings.store.display();
            notice(&format!(
                "note: this user has no store in {store}; `--store {STORE_OF_ROOT}` selects the store of root"
            ));
        }
    }
}
