//! Learns whether a job has finished, and lets only finished jobs on.
//!
//! ```text
//! scanner --CheckJob--> completion --PlanJob--> planner
//! ```
//!
//! The lane's rule decides, from the directory as it is now. Whatever cannot be read is not finished:
//! it stays, and the scanner asks again.

pub mod by_hub;
pub mod identity;
pub mod marker;
pub mod quiet;

use crate::holds::Hold;
use crate::lab::{Incarnation, RelPath};
use crate::lane::Lane;
use crate::planner::PlanJob;
use crate::queue::item::Standing;
use crate::queue::journal::Intake;
use crate::scanner::FoundJob;
use crate::shown::chain;
use crate::tree::{JobDir, Limits, TreeError};
use actix::prelude::*;
use kernel::Next;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, warn};

/// A job that was not looked at for so long is gone or uploaded; it need not be watched any more.
const FORGET: Duration = Duration::from_secs(3600);

/// Asks whether one job has finished. Sent by the scanner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CheckJob(pub FoundJob);

/// A job that its lane's rule called finished; made here only.
#[derive(Debug)]
pub struct CompleteJob {
    incarnation: Incarnation,
    finished_at: SystemTime,
    bytes: u64,
    hold: Hold,
}

impl CompleteJob {
    /// The job's directory below the results root.
    pub fn job(&self) -> &RelPath {
        self.hold.job()
    }

    /// Which directory of that name.
    pub fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    /// When the job finished.
    pub fn finished_at(&self) -> SystemTime {
        self.finished_at
    }

    /// Sum of its files' sizes when it was looked at.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The job in hand, which goes with the job.
    pub fn into_hold(self) -> Hold {
        self.hold
    }

    /// A job that a person named on the command line: the person is the rule.
    pub fn by_hand(dir: &JobDir, hold: Hold) -> Self {
        let incarnation = dir.incarnation().clone();
        CompleteJob { incarnation, finished_at: SystemTime::now(), bytes: 0, hold }
    }

    #[cfg(test)]
    pub(crate) fn sample(hold: Hold, finished_at: SystemTime, bytes: u64) -> Self {
        let incarnation = Incarnation { dev: 0, ino: 0, born_ns: 0 };
        CompleteJob { incarnation, finished_at, bytes, hold }
    }
}

/// What a rule found.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Not finished, as far as can be seen.
    NotYet,
    /// It is said to be finished, and its files still change.
    Restless,
    /// Finished at that time.
    Finished(SystemTime),
}

/// How a lane knows that a job has finished.
pub trait Rule: Send {
    /// Looks at the directory, below which nothing has changed while we watched, `still` long.
    ///
    /// # Errors
    /// What could not be read; the job then counts as not finished.
    fn judge(&self, dir: &JobDir, still: Duration, now: SystemTime) -> Result<Verdict, TreeError>;

    /// Cheap look before the tree is walked: `false` means certainly not finished.
    ///
    /// # Errors
    /// As [`Rule::judge`].
    fn worth_a_look(&self, dir: &JobDir) -> Result<bool, TreeError>;
}

/// The rule that a lane's settings name.
pub fn rule(lane: &Arc<Lane>) -> Box<dyn Rule> {
    match lane.settings.completion {
        config::Completion::Marker => Box::new(marker::Marker::new(&lane.settings)),
        config::Completion::Quiet => Box::new(quiet::Quiet::new(&lane.settings)),
        config::Completion::Hub => Box::new(by_hub::ByHub::new(lane)),
    }
}

/// A job that is said to be finished and is not still for so many times `settle` is shown to a person.
const RESTLESS: u32 = 300;

/// How long we have watched a job, and since when it has not changed, by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
struct Watched {
    first: Instant,
    youngest_ns: i64,
    unchanged_since: Instant,
    last: Instant,
}

/// The actor: one per lane, on a thread of its own, so it may block on the disk.
pub struct Completion {
    lane: Arc<Lane>,
    rule: Box<dyn Rule>,
    watched: HashMap<RelPath, Watched>,
    planner: Next<PlanJob>,
}

impl Completion {
    /// Judges by the lane's rule, and hands on to `planner`.
    pub fn new(lane: Arc<Lane>, planner: Next<PlanJob>) -> Self {
        let rule = rule(&lane);
        Completion { lane, rule, watched: HashMap::new(), planner }
    }

    /// Is this job finished, old enough and at rest?
    fn check(&mut self, hold: Hold) -> Result<Option<CompleteJob>, TreeError> {
        let dir = self.lane.site.root.job(hold.job())?;
        if !self.rule.worth_a_look(&dir)? {
            return Ok(None);
        }
        let snapshot = dir.snapshot(&Limits::default())?;
        let (watched, still) = self.watch(hold.job(), snapshot.youngest_ns, Instant::now());
        let finished_at = match self.rule.judge(&dir, still, self.lane.site.clock.now())? {
            Verdict::NotYet => return Ok(None),
            Verdict::Restless => {
                if watched > self.lane.settings.settle.saturating_mul(RESTLESS) {
                    self.lane.site.restless.note(hold.job());
                }
                return Ok(None);
            }
            Verdict::Finished(at) => at,
        };
        if self.lane.site.clock.age(finished_at).max(watched) < self.lane.settings.upload_after {
            return Ok(None);
        }
        let incarnation = dir.incarnation().clone();
        let (queues, lane) = (&self.lane.site.queues, &self.lane.settings.name);
        let intake = Intake { lane, job: hold.job(), incarnation: &incarnation, bytes: snapshot.bytes };
        match queues.admit(config::On::Completed, &[intake]).as_deref() {
            Ok([Standing::Waiting]) => return Ok(None),
            // Results are safe first: what gave up keeps a job from being deleted, not from being stored.
            Ok(_) => {}
            Err(error) => {
                debug!(job = %hold.job(), error = %chain(error), "not queued for post-processing yet");
                return Ok(None);
            }
        }
        Ok(Some(CompleteJob { incarnation, finished_at, bytes: snapshot.bytes, hold }))
    }

    /// Notes what was seen now; says for how long the job is watched, and is unchanged.
    fn watch(&mut self, job: &RelPath, youngest_ns: i64, now: Instant) -> (Duration, Duration) {
        let seen = self.watched.entry(job.clone()).or_insert(Watched {
            first: now,
            youngest_ns,
            unchanged_since: now,
            last: now,
        });
        seen.last = now;
        if seen.youngest_ns != youngest_ns {
            (seen.youngest_ns, seen.unchanged_since) = (youngest_ns, now);
        }
        (now - seen.first, now - seen.unchanged_since)
    }
}

impl Actor for Completion {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(FORGET / 4, |act, _| {
            act.watched.retain(|_, watched| watched.last.elapsed() < FORGET);
        });
    }
}

impl Handler<CheckJob> for Completion {
    type Result = ();

    fn handle(&mut self, CheckJob(found): CheckJob, _: &mut Context<Self>) {
        let Some(hold) = self.lane.site.holds.take(&found.job) else { return };
        match self.check(hold) {
            Ok(Some(job)) => {
                if self.planner.tell(PlanJob(job)).is_err() {
                    debug!(job = %found.job, "planner is full, the next sweep finds the job again");
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(job = %found.job, lane = %self.lane.settings.name, error = %chain(&error), "job unreadable");
            }
        }
    }
}
