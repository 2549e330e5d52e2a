//! Decides what one upload moves, and where to.

use super::attempt::Attempt;
use super::claim::{self, ClaimError, Claimed};
use super::names::object_key;
use crate::completion::CompleteJob;
use crate::lab::{Entry, Kind, RelPath};
use crate::lane::Lane;
use crate::ledger::{FailureClass, ResumeMaterial, Resumed};
use crate::manifest::{Claim, FORMAT};
use crate::shown::chain;
use crate::tree::{JobDir, Limits, Snapshot, TreeError};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::OwnedSemaphorePermit;

/// What one upload moves: every entry of the job as the snapshot saw it, and where it goes.
///
/// Made by [`plan`] only. The digests (SHA-256) are taken while sending and are found in the receipt.
#[derive(Debug)]
pub struct Plan {
    pub(crate) attempt: Attempt,
    pub(crate) finished_at: SystemTime,
    pub(crate) dir: Arc<JobDir>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) claimed: Claimed,
    /// What an earlier attempt left behind; a memory that is checked against the store.
    pub(crate) resumed: Resumed,
    /// The lane's worker that this plan occupies, until dropped; `None` outside the daemon.
    seat: Option<OwnedSemaphorePermit>,
}

impl Plan {
    /// The attempt that this plan is part of.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Gives the worker back: the bytes are sent.
    pub fn leave_seat(&mut self) {
        self.seat = None;
    }

    /// The key of an entry's object.
    pub fn key(&self, entry: &Entry) -> String {
        object_key(&self.claimed.prefix, &entry.path)
    }
}

/// Why a job could not be planned. It stays, whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PlanError {
    #[error("cannot read the job's directory")]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("the directory was replaced by another of its name")]
    Replaced,
    #[error("cannot read the job's directory: the reader died")]
    Reader(#[from] tokio::task::JoinError),
    #[error("something is mounted at {0}: unmount it, then `dronekeeper quarantine release`")]
    Mounted(RelPath),
}

impl PlanError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            PlanError::Claim(ClaimError::Store(error)) => error.class(),
            PlanError::Claim(_) => FailureClass::Precondition,
            PlanError::Tree(_) | PlanError::Reader(_) | PlanError::Mounted(_) => FailureClass::Io,
            PlanError::Replaced => FailureClass::ChangedSource,
        }
    }
}

/// Begins an attempt and plans it. `None`: the job was parked, or the failure is in the ledger.
pub async fn plan(lane: &Arc<Lane>, job: CompleteJob, seat: Option<OwnedSemaphorePermit>) -> Option<Plan> {
    let (incarnation, finished_at) = (job.incarnation().clone(), job.finished_at());
    let attempt = Attempt::begin(lane.clone(), incarnation, job.into_hold()).await.ok()?;
    match prepare(&attempt).await {
        Ok((dir, snapshot, claimed, resumed)) => {
            Some(Plan { attempt, finished_at, dir, snapshot, claimed, resumed, seat })
        }
        Err(
            error @ (PlanError::Mounted(_) | PlanError::Tree(TreeError::TooDeep(..) | TreeError::TooMany(_))),
        ) => {
            // Time changes nothing here: a person does.
            attempt.park(chain(&error)).await;
            None
        }
        Err(error) => {
            attempt.fail(error.class(), &error).await;
            None
        }
    }
}

type Prepared = (Arc<JobDir>, Arc<Snapshot>, Claimed, Resumed);

async fn prepare(attempt: &Attempt) -> Result<Prepared, PlanError> {
    let (lane, job) = (&attempt.lane, attempt.job());
    let (root, path) = (lane.site.root.clone(), job.clone());
    let read = move || -> Result<_, TreeError> {
        let dir = root.job(&path)?;
        let snapshot = dir.snapshot(&Limits::default())?;
        Ok((Arc::new(dir), Arc::new(snapshot)))
    };
    let (dir, snapshot) = lane.site.io.spawn_blocking(read).await??;
    if *dir.incarnation() != attempt.incarnation {
        return Err(PlanError::Replaced);
    }
    if let Some(mount) = snapshot.entries.iter().find(|entry| entry.kind == Kind::MountPoint) {
        return Err(PlanError::Mounted(mount.path.clone()));
    }
    lane.site.store.ready(&lane.site.prefix).await.map_err(ClaimError::from)?;
    let claim = Claim {
        format: FORMAT,
        drone: lane.site.drone.clone(),
        job: job.to_string(),
        incarnation: attempt.incarnation.clone(),
    };
    let claimed = claim::claim(lane, job, &claim, &snapshot).await?;
    let again = claimed.published.is_none() && !claimed.standing.is_empty();
    if again {
        lane.site.store.tidy(&claimed.prefix).await;
    }
    let resumed = match again {
        true => lane.site.ledger(ResumeMaterial(job.clone())).await.unwrap_or_default(),
        false => Resumed::default(),
    };
    Ok((dir, snapshot, claimed, resumed))
}
