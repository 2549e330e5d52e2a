//! Finds the jobs of a lane, again and again, and offers each when there is reason to look at it.
//!
//! ```text
//! disk, ledger --> scanner --CheckJob--> completion
//! ```
//!
//! The results directory is the truth: what it does not hold is not a job. The ledger says which jobs
//! wait (for a retry, for `delete_after`, for a person); without it every job is offered again, which
//! costs work and never data. A message that is refused is offered again a moment later.

pub mod memory;

use crate::completion::CheckJob;
use crate::lab::{Incarnation, RelPath};
use crate::lane::Lane;
use crate::ledger::{Changed, Changes, Pauses};
use crate::shown::chain;
use crate::tree::{Patterns, Sweep, Swept};
use actix::prelude::*;
use kernel::Next;
use memory::Memory;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// A sweep may take this share of the time: one part in fifty.
const SWEEP_SHARE: u32 = 50;
/// After a refused offer the rest is offered again so soon.
const OFFER_AGAIN: Duration = Duration::from_millis(10);

/// A directory that matches the lane's patterns and is due for a look.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundJob {
    /// Its path below the results root.
    pub job: RelPath,
    /// Which directory of that name.
    pub incarnation: Incarnation,
}

/// The actor: one per lane, on a thread of its own, so it may block on the disk.
pub struct Scanner {
    lane: Arc<Lane>,
    sweeps: Sweep,
    /// The patterns of the lanes before this one: what they match is theirs.
    earlier: Vec<Patterns>,
    rescan: Duration,
    memory: Memory,
    due: VecDeque<FoundJob>,
    lost_root: bool,
    completion: Next<CheckJob>,
}

impl Scanner {
    /// Sweeps for the directories that match `patterns` and none of `earlier`.
    pub fn new(
        lane: Arc<Lane>,
        patterns: Patterns,
        earlier: Vec<Patterns>,
        rescan: Duration,
        completion: Next<CheckJob>,
    ) -> Self {
        let keep = (!lane.site.shadow).then_some(lane.settings.delete_after);
        let memory = Memory::new(rescan, keep);
        Scanner {
            lane,
            sweeps: Sweep::new(patterns),
            earlier,
            rescan,
            memory,
            due: VecDeque::new(),
            lost_root: false,
            completion,
        }
    }

    /// One round: ask the ledger, sweep the disk, offer what is due; then rest.
    fn round(&mut self, ctx: &mut Context<Self>) {
        let (lane, since) = (self.lane.clone(), self.memory.ledger_version());
        let asked = async move {
            let paused = lane.site.ledger(Pauses).await;
            (lane.site.ledger(Changes { since }).await, paused)
        };
        ctx.wait(asked.into_actor(self).map(|(changed, paused), act, ctx| {
            if let Ok(pauses) = paused {
                let mine =
                    |lane: &Option<String>| lane.as_ref().is_none_or(|lane| *lane == act.lane.settings.name);
                act.lane.gauge.paused.store(pauses.iter().any(|pause| mine(&pause.lane)), Relaxed);
            }
            let began = Instant::now();
            act.sweep(changed.ok());
            let (found, elapsed_us) = (act.memory.len(), began.elapsed().as_micros());
            debug!(lane = %act.lane.settings.name, found, due = act.due.len(), elapsed_us, "sweep");
            act.offer(ctx);
            let rest = act.rescan.max(began.elapsed() * SWEEP_SHARE);
            ctx.run_later(rest, Self::round);
        }));
    }

    /// Compares the disk with what is remembered.
    fn sweep(&mut self, changed: Option<Changed>) {
        let (root, clock) = (&self.lane.site.root, &self.lane.site.clock);
        let there = root.still_there();
        let swept = match there.then(|| self.sweeps.round(root, Instant::now(), clock.now())) {
            Some(Ok(swept)) => swept,
            Some(Err(error)) => return self.root_lost(&chain(&error)),
            None => return self.root_lost("the directory is gone, or another was put in its place"),
        };
        if std::mem::take(&mut self.lost_root) {
            info!(lane = %self.lane.settings.name, "results directory is readable again");
        }
        let Swept { seen, gone } = swept;
        gone.iter().for_each(|job| self.memory.forget(job));
        for job in seen {
            if !self.earlier.iter().any(|lane| lane.matches(&job.path)) {
                self.memory.see(job, Instant::now());
            }
        }
        if let Some(changed) = changed {
            self.memory.learn(changed);
        }
        for job in self.lane.site.inquiries.news(&self.lane.settings.name) {
            self.memory.look_now(&job, Instant::now());
        }
        self.lane.gauge.found.store(self.memory.len(), Relaxed);
        if !self.lane.gauge.paused.load(Relaxed) {
            let holds = &self.lane.site.holds;
            let due = self.memory.due(Instant::now(), self.lane.site.clock.now(), |job| holds.held(job));
            self.due = due.into();
        }
    }

    /// A results directory that cannot be read is not an empty one: what is known stays known.
    fn root_lost(&mut self, why: &str) {
        if !std::mem::replace(&mut self.lost_root, true) {
            warn!(lane = %self.lane.settings.name, error = why, "results directory cannot be read; nothing is concluded");
        }
    }

    /// Offers what is due, in order, as far as completion takes it.
    fn offer(&mut self, ctx: &mut Context<Self>) {
        while let Some(found) = self.due.pop_front() {
            let job = found.job.clone();
            if let Err(CheckJob(found)) = self.completion.tell(CheckJob(found)) {
                self.due.push_front(found);
                ctx.run_later(OFFER_AGAIN, Self::offer);
                return;
            }
            self.memory.offered(&job, Instant::now());
        }
    }
}

impl Actor for Scanner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.round(ctx);
    }
}
