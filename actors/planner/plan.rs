//! Decides what one upload moves, and where to.

use super::attempt::Attempt;
use super::claim::{self, ClaimError, Claimed, Seen};
use super::instructions::{self, InstructionError, Withheld};
use super::names::object_key;
use super::stored::{self, Source};
use crate::completion::CompleteJob;
use crate::lab::{Entry, Kind, RelPath};
use crate::lane::Lane;
use crate::lane::seats::Seat;
use crate::ledger::{FailureClass, ResumeMaterial, Resumed};
use crate::manifest::{Claim, FORMAT};
use crate::shown::chain;
use crate::tree::{JobDir, Limits, Snapshot, TreeError};
use std::sync::Arc;
use std::time::SystemTime;

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
    /// What the job's instructions say is not to be stored.
    pub(crate) withheld: Withheld,
    /// What an earlier attempt left behind; a memory that is checked against the store.
    pub(crate) resumed: Resumed,
    /// The lane's worker that this plan occupies, until dropped; `None` outside the daemon.
    seat: Option<Seat>,
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
        object_key(&self.claimed.prefix, &stored::path(entry, &self.withheld))
    }

    /// Where the bytes of an entry's object come from.
    pub fn source(&self, entry: &Entry) -> Source {
        stored::source(entry, &self.withheld)
    }

    /// Number and bytes of the files that are stored.
    pub fn volume(&self) -> (u64, u64) {
        if self.withheld.is_empty() {
            return (self.snapshot.files, self.snapshot.bytes);
        }
        let files = self.snapshot.entries.iter().filter(|entry| self.source(entry) == Source::File);
        files.fold((0, 0), |(files, bytes), entry| (files + 1, bytes + entry.size))
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
    #[error(transparent)]
    Instructions(#[from] InstructionError),
    #[error("something is mounted at {0}: unmount it, then `dronekeeper quarantine release`")]
    Mounted(RelPath),
}

impl PlanError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            PlanError::Claim(ClaimError::Store(error)) => error.class(),
            PlanError::Claim(_) => FailureClass::Precondition,
            PlanError::Tree(_)
            | PlanError::Reader(_)
            | PlanError::Mounted(_)
            | PlanError::Instructions(InstructionError::Unreadable(..) | InstructionError::Malformed(_)) => {
                FailureClass::Io
            }
            PlanError::Instructions(InstructionError::Changed(_)) | PlanError::Replaced => {
                FailureClass::ChangedSource
            }
        }
    }
}

/// Begins an attempt and plans it. `None`: the job was parked, or the failure is in the ledger.
pub async fn plan(lane: &Arc<Lane>, job: CompleteJob, seat: Option<Seat>) -> Option<Plan> {
    let (incarnation, finished_at) = (job.incarnation().clone(), job.finished_at());
    let attempt = Attempt::begin(lane.clone(), incarnation, job.into_hold()).await.ok()?;
    match prepare(&attempt).await {
        Ok(Prepared { dir, snapshot, withheld, claimed, resumed }) => {
            Some(Plan { attempt, finished_at, dir, snapshot, withheld, claimed, resumed, seat })
        }
        Err(
            error @ (PlanError::Mounted(_)
            | PlanError::Instructions(InstructionError::Malformed(_))
            | PlanError::Tree(TreeError::TooDeep(..) | TreeError::TooMany(_))),
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

/// What a plan is made of.
struct Prepared {
    dir: Arc<JobDir>,
    snapshot: Arc<Snapshot>,
    withheld: Withheld,
    claimed: Claimed,
    resumed: Resumed,
}

async fn prepare(attempt: &Attempt) -> Result<Prepared, PlanError> {
    let (lane, job) = (&attempt.lane, attempt.job());
    let (root, path) = (lane.site.root.clone(), job.clone());
    let honour = lane.settings.honour_instructions;
    let read = move || -> Result<_, PlanError> {
        let dir = root.job(&path)?;
        let snapshot = dir.snapshot(&Limits::default())?;
        let withheld = if honour { instructions::withheld(&dir, &snapshot)? } else { Withheld::default() };
        Ok((Arc::new(dir), Arc::new(snapshot), withheld))
    };
    let (dir, snapshot, withheld) = lane.site.io.spawn_blocking(read).await??;
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
    let seen = Seen { dir: &dir, snapshot: &snapshot, withheld: &withheld };
    let claimed = claim::claim(lane, &claim, seen).await?;
    let again = claimed.published.is_none() && !claimed.standing.is_empty();
    if again {
        lane.site.store.tidy(&claimed.prefix).await;
    }
    let resumed = match again {
        true => lane.site.ledger(ResumeMaterial(job.clone())).await.unwrap_or_default(),
        false => Resumed::default(),
    };
    Ok(Prepared { dir, snapshot, withheld, claimed, resumed })
}
