//! The thread that judges a segment, and waits for another runner that is building it.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::parts::{Chains, Judged};
use super::{Context, Failure, Rooms};
use crate::build::{Container, MountKind};
use crate::digest::Digest;
use crate::error::{Error, Exit};
use crate::event::{Event, Events};
use crate::freshness::{Below, Judge, JudgeError, Verdict};
use crate::key::Reason;
use crate::store::{Held, LayerState};

/// How often it is looked whether another runner is done.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What a judging thread works with.
#[derive(Clone, Copy)]
pub struct Judging<'a, 'e> {
    pub context: Context<'a>,
    pub judge: &'e Judge<'e>,
    pub rooms: &'e Rooms<'a>,
    pub chains: &'e Chains,
    pub events: &'e Events,
    pub segment: usize,
}

/// What one look at a segment finds.
type Look = (Verdict, Option<Digest>, Option<Held>);

impl From<JudgeError> for Failure {
    fn from(error: JudgeError) -> Self {
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        // With its causes.
        Self::host(format!("{}{hint}", Error::new(Exit::Host, error)))
    }
}

impl Judging<'_, '_> {
    /// Judges it; comes back when it is fresh, or is this runner's to build.
    pub fn run(self) -> Result<Judged, Failure> {
        let below = self.judge.below(self.segment, |step| self.chains.get(step))?;
        let mut told = false;
        loop {
            let Some((verdict, key, held)) = self.look(&below)? else { continue };
            let found = |verdict| Ok(Judged { verdict, building: None, wait_for: None, held });
            let Verdict::Stale { reasons, draft: Some(draft), .. } = &verdict else { return found(verdict) };
            if let Below::Unwritten(snapshot) = below {
                let wait_for = self.judge.may_be_fresh(self.segment, draft).then_some(snapshot);
                return Ok(Judged { verdict, building: None, wait_for, held: None });
            }
            let Some(key) = key else { return found(verdict) };
            if let Some(building) = self.context.store.try_building(&key).map_err(JudgeError::from)? {
                // Another one may have built it between the look and now.
                let Some((verdict, _, held)) = self.look(&below)? else { continue };
                let building = matches!(verdict, Verdict::Stale { .. }).then_some(building);
                return Ok(Judged { verdict, building, wait_for: None, held });
            }
            let anyway = |reason: &Reason| matches!(reason, Reason::Always { .. } | Reason::NoCache);
            if reasons.iter().any(anyway) || self.context.interrupt.is_set() {
                return found(verdict);
            }
            if !told {
                told = true;
                self.tell_waiting();
            }
            let mut polled = [PollFd::from_borrowed_fd(self.context.interrupt.descriptor(), PollFlags::IN)];
            // Woken early or not, it looks again.
            let _ = poll(&mut polled, Some(&PAUSE));
        }
    }

    /// The verdict, the key where it is known, and the hold on the layer of what is fresh; nothing where that was
    /// removed since it was looked at.
    fn look(&self, below: &Below) -> Result<Option<Look>, Failure> {
        let mut verdict = self.judge.judge(self.segment, below)?;
        let container = self.container();
        if let Verdict::Fresh(recorded) = &verdict {
            let targets = tmpfs_targets(container);
            if !targets.is_empty() && self.rooms.is_open(self.container_id()) {
                // The session goes on, and what is in its tmpfs mounts would not be what these steps leave there.
                let draft = Some(recorded.fields.without_below());
                verdict = Verdict::Stale { reasons: vec![Reason::TmpfsNeeded { targets }], draft, resume: None };
            }
        }
        if let Verdict::Stale { reasons, .. } = &verdict {
            for reason in reasons {
                if let Reason::Damaged { digest } = reason {
                    self.set_aside(digest)?;
                }
            }
        }
        let mut held = None;
        if let Verdict::Stale { resume, .. } = &mut verdict
            && !tmpfs_targets(container).is_empty()
            && self.rooms.is_open(self.container_id())
        {
            // A checkpoint was taken with nothing in them.
            *resume = None;
        }
        let layer = match &verdict {
            Verdict::Fresh(recorded) => recorded.layer.as_ref(),
            Verdict::Stale { resume, .. } => resume.as_ref().map(|resume| &resume.layer),
        };
        if let Some(layer) = layer {
            held = self.context.store.hold_layer(&layer.digest).map_err(JudgeError::from)?;
            if held.is_none() {
                return Ok(None);
            }
        }
        let key = match (&verdict, below) {
            (Verdict::Stale { draft: Some(draft), .. }, Below::Known(below)) => Some(draft.on(below).key()),
            _ => None,
        };
        Ok(Some((verdict, key, held)))
    }

    fn set_aside(&self, digest: &str) -> Result<(), Failure> {
        let Ok(digest) = digest.parse() else { return Ok(()) };
        // Another runner may have put a good one there since.
        if self.context.store.look_at_layer(&digest, u64::MAX).map_err(JudgeError::from)? != LayerState::Missing {
            self.context.store.set_layer_aside(&digest).map_err(JudgeError::from)?;
            let message = format!("the layer {digest} in the store is damaged; it is set aside and built again");
            self.events.send(Event::Warning { step: self.last_step(), message });
        }
        Ok(())
    }

    fn tell_waiting(&self) {
        let message = "another runner is building this; waiting for it".to_owned();
        self.events.send(Event::Warning { step: self.last_step(), message });
    }

    fn last_step(&self) -> Option<String> {
        let step = self.judge.segments().get(self.segment).steps.last()?;
        Some(self.context.build.step(*step).name.clone())
    }

    fn container_id(&self) -> crate::build::ContainerId {
        self.judge.segments().get(self.segment).container
    }

    fn container(&self) -> &Container {
        self.context.build.container(self.container_id())
    }
}

fn tmpfs_targets(container: &Container) -> Vec<String> {
    let tmpfs = container.mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
    tmpfs.map(|mount| mount.target.display().to_string()).collect()
}
