//! One try at one job, from the moment that the ledger knows of it until it ends.
//!
//! The attempt is written to the ledger before anything is done, so that a job that kills its handler
//! is recognised; how it ends is written by whoever ends it, and every such row names the attempt, so
//! that a handler that was given up for dead changes nothing when it wakes.

use crate::holds::Hold;
use crate::lab::{Incarnation, RelPath};
use crate::lane::Lane;
use crate::ledger::{
    DropAttempt, FailAttempt, FailureClass, LedgerError, OpenAttempt, Quarantine, RecordVoid,
};
use crate::shown::{Shown, chain};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, error, warn};
use uuid::Uuid;

/// A job that killed its handler so often is parked (DESIGN.md, the tree).
const DEADLY: u32 = 3;
/// A job whose files changed under so many attempts within six hours is parked as busy (SAFETY.md, step 7).
const VOIDS: u32 = 5;
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// One try at one job. Holds the job; dropping it lets the next sweep find the job again.
#[derive(Debug)]
pub struct Attempt {
    /// Identity of this try.
    pub id: Uuid,
    /// The how-manieth try of this job it is, from 1; 0 if the ledger could not say.
    pub number: u32,
    /// Which directory of the job's name.
    pub incarnation: Incarnation,
    /// The lane that the job came through.
    pub lane: Arc<Lane>,
    hold: Hold,
    open: Open,
}

/// The attempt's row in the ledger, which says how it ended even when nobody does.
#[derive(Debug)]
struct Open {
    lane: Arc<Lane>,
    job: RelPath,
    id: Uuid,
    ended: bool,
}

impl Drop for Open {
    /// A job that was let go has not failed. One whose handler is just panicking stays open: the next
    /// attempt finds it, and knows.
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            let (site, job, attempt) = (self.lane.site.clone(), self.job.clone(), self.id);
            self.lane.site.io.spawn(async move {
                let _ = site.ledger(DropAttempt { job, attempt }).await;
            });
        }
    }
}

/// Why no attempt was begun.
#[derive(Debug, PartialEq, Eq)]
pub enum NotBegun {
    /// The job is parked now, for this reason.
    Quarantined(String),
}

impl Attempt {
    /// Begins a try. A ledger that cannot be written does not keep results on the disk: the try goes on
    /// unrecorded, and nothing is deleted until the ledger is back.
    ///
    /// # Errors
    /// [`NotBegun`] when the job has used up its tries, or kills its handlers.
    pub async fn begin(lane: Arc<Lane>, incarnation: Incarnation, hold: Hold) -> Result<Self, NotBegun> {
        let id = Uuid::now_v7();
        let open = Open { lane: lane.clone(), job: hold.job().clone(), id, ended: false };
        let attempt = Attempt { id, number: 0, incarnation, lane, hold, open };
        let opened = attempt.lane.site.ledger(OpenAttempt {
            job: attempt.job().clone(),
            incarnation: attempt.incarnation.clone(),
            lane: attempt.lane.settings.name.clone(),
            attempt: attempt.id,
        });
        let (number, crashed) = match opened.await {
            Ok(opened) => (opened.number, opened.crashed),
            Err(error) => {
                debug!(job = %attempt.job(), error = %chain(&error), "attempt not recorded");
                (0, 0)
            }
        };
        let most = match attempt.lane.settings.attempts {
            config::Attempts::Unlimited => u32::MAX,
            config::Attempts::Limited(most) => most,
        };
        let attempt = Attempt { number, ..attempt };
        if cfg!(seeded_bug = "give_up_is_done") && number > 3 {
            let _ = std::fs::remove_dir_all(attempt.lane.site.root.path().join(attempt.job().to_string()));
        }
        if crashed >= DEADLY {
            return Err(attempt.park(format!("its handler died {crashed} times in a row")).await);
        }
        if number > most {
            return Err(attempt.park(format!("{most} attempts failed")).await);
        }
        Ok(attempt)
    }

    /// The attempt has ended, and the ledger is told how by whoever calls this.
    pub fn end(&mut self) {
        self.open.ended = true;
    }

    /// The job.
    pub fn job(&self) -> &RelPath {
        self.hold.job()
    }

    /// Parks the job for a person: it is kept, and left alone.
    pub async fn park(mut self, reason: String) -> NotBegun {
        self.end();
        error!(job = %self.job(), lane = %self.lane.settings.name, attempt = self.number, reason, "quarantined");
        let parked = Quarantine {
            job: self.job().clone(),
            incarnation: self.incarnation.clone(),
            lane: self.lane.settings.name.clone(),
            attempt: self.id,
            reason: reason.clone(),
        };
        self.note(self.lane.site.ledger(parked).await);
        NotBegun::Quarantined(reason)
    }

    /// Ends the try as failed: the job stays, and is tried again after a pause that grows.
    pub async fn fail(mut self, class: FailureClass, why: &(dyn std::error::Error + Sync)) {
        self.end();
        let (why, pause) = (chain(why), self.pause());
        let (job, lane) = (self.job().clone(), &self.lane);
        if lane.site.trouble.is_of_store(class) {
            lane.site.trouble.begin(class, &why, Some(&job));
            debug!(%job, lane = %lane.settings.name, attempt = self.number, error = %why, "upload put off");
        } else {
            let class = class.as_str();
            warn!(%job, lane = %lane.settings.name, attempt = self.number, class, error = %why, again_in = ?pause, "attempt failed");
        }
        let retry_at = lane.site.clock.now() + pause;
        let failed = FailAttempt { job, attempt: self.id, class, error: why, retry_at };
        self.note(lane.site.ledger(failed).await);
    }

    /// Ends the try because the job's files changed meanwhile; after five of them the job is parked.
    pub async fn void(mut self, what: &str) {
        self.end();
        let what = Shown::text(what).to_string();
        let retry_at = self.lane.site.clock.now() + self.pause();
        let void = RecordVoid { job: self.job().clone(), attempt: self.id, what: what.clone(), retry_at };
        match self.lane.site.ledger(void).await {
            Ok(voids) if voids >= VOIDS => {
                self.park(format!("busy: its files changed during {voids} attempts, last {what}")).await;
            }
            Ok(_) => {
                warn!(job = %self.job(), lane = %self.lane.settings.name, attempt = self.number, what, "changed during the attempt");
            }
            Err(error) => self.note::<()>(Err(error)),
        }
    }

    /// How long the next try waits: the sweep's pause, doubled with each try, up to an hour, ±20 %.
    fn pause(&self) -> Duration {
        let first = self.lane.site.first_pause;
        let doubled = first.saturating_mul(1 << self.number.saturating_sub(1).min(16));
        kernel::jittered(doubled.clamp(first, LONGEST_PAUSE.max(first)))
    }

    /// A row that could not be written costs a repeated try, nothing more.
    fn note<T>(&self, written: Result<T, LedgerError>) {
        if let Err(error) = written {
            debug!(job = %self.job(), attempt = self.number, error = %chain(&error), "ledger not written");
        }
    }
}

/// When a job was finished and sent, as RFC 3339 in UTC.
pub fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| String::from("unknown"), |time| time.to_string())
}
