//! Deletes a job from this drone once the store has proved, again, that it holds a copy.
//!
//! ```text
//! verifier --PruneJob(Proof)--> pruner --> (the directory is gone)
//! completion --PlanJob--> pruner --> (the same, in a lane that was told to store nothing: `discard`)
//! ```
//!
//! The directory is the truth: what is no longer there has been pruned. A job that changed after its
//! proof, that is still inside `delete_after`, or whose proof cannot be repeated now, is left alone; the
//! next sweep finds it again. This room is the only one in which a result's deletion starts.

pub mod again;
pub mod budget;
pub mod discard;
pub mod note;

use crate::lane::Lane;
use crate::ledger::{FailureClass, RecordPruned};
use crate::queue::journal::Intake;
use crate::shown::chain;
use crate::tree::{Removed, Trashed, TreeError, changes};
use crate::verifier::Proof;
use crate::verifier::check::CheckError;
use actix::prelude::*;
use again::{AgainError, prove_again};
use note::Note;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Asks that one job be deleted here. Sent by the verifier, for every proof it makes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PruneJob(pub Proof);

/// What became of a [`PruneJob`].
#[derive(Debug, PartialEq)]
pub enum Pruned {
    /// The directory is gone.
    Deleted {
        /// Files that were unlinked.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Left for a later sweep: `delete_after` has so long to run.
    TooYoung(Duration),
    /// Left for a later sweep: this differs from what was proven.
    Changed(String),
    /// Left until the ledger can be written.
    Unrecorded,
    /// Left until a person allows more deletions.
    OverBudget,
    /// Left until post-processing has succeeded.
    Unprocessed,
    /// Left: the drone deletes nothing.
    Shadow,
}

/// Why a job could not be pruned. It is still there, whole, in its place or in the trash.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PruneError {
    #[error("cannot prove again what the store holds")]
    Again(#[from] AgainError),
    #[error("cannot move the job aside and delete it")]
    Tree(#[from] TreeError),
    #[error("cannot write down what is being deleted")]
    Note(#[from] serde_json::Error),
    #[error("cannot delete: the reader died")]
    Reader(#[from] tokio::task::JoinError),
}

/// The actor: one per lane.
pub struct Pruner {
    lane: Arc<Lane>,
}

impl Pruner {
    /// Prunes jobs of `lane`.
    pub fn new(lane: Arc<Lane>) -> Self {
        Pruner { lane }
    }
}

impl Actor for Pruner {
    type Context = Context<Self>;
}

impl Handler<PruneJob> for Pruner {
    type Result = ();

    fn handle(&mut self, PruneJob(proof): PruneJob, ctx: &mut Context<Self>) {
        let lane = self.lane.clone();
        let pruning = self.lane.site.spawn(async move {
            let _doing = lane.gauge.doing(&lane, proof.job(), "pruning");
            report(proof).await;
        });
        ctx.spawn(pruning.into_actor(self));
    }
}

/// Prunes, and says what came of it.
async fn report(proof: Proof) {
    let name = proof.attempt().lane.settings.name.clone();
    match prune(&proof).await {
        Ok(Pruned::Deleted { files, bytes }) => {
            info!(job = %proof.job(), lane = %name, files, bytes, "pruned");
        }
        Ok(Pruned::Changed(what)) => {
            info!(job = %proof.job(), lane = %name, what, "changed after its proof; kept, and offloaded again");
        }
        Ok(left) => debug!(job = %proof.job(), lane = %name, outcome = ?left, "kept for now"),
        Err(error) if error.store_lost_it() => {
            warn!(job = %proof.job(), lane = %name, error = %chain(&error), "the store no longer proves what it proved; kept");
            proof.into_attempt().fail(FailureClass::Checksum, &error).await;
        }
        Err(error) => {
            proof.into_attempt().fail(error.class(), &error).await;
        }
    }
}

impl PruneError {
    fn store_lost_it(&self) -> bool {
        matches!(self, PruneError::Again(AgainError::Check(error)) if !matches!(error, CheckError::Store(_) | CheckError::Died(_)))
    }

    fn class(&self) -> FailureClass {
        match self {
            PruneError::Again(error) => error.class(),
            _ => FailureClass::Io,
        }
    }
}

/// Has everything run on the job that must come before its deletion? What must come after the upload is queued here.
async fn processed(proof: &Proof) -> bool {
    let (lane, job, incarnation) =
        (proof.attempt().lane.clone(), proof.job().clone(), proof.attempt().incarnation.clone());
    let site = lane.site.clone();
    let bytes = proof.manifest().bytes;
    let ask = move || {
        let name = &lane.settings.name;
        let intake = Intake { lane: name, job: &job, incarnation: &incarnation, bytes };
        lane.site.queues.admit(config::On::Offloaded, &[intake])?;
        lane.site.queues.allow_prune(name, &job, &incarnation)
    };
    match site.io.spawn_blocking(ask).await {
        Ok(Ok(processed)) => processed,
        Ok(Err(error)) => {
            debug!(job = %proof.job(), error = %chain(&error), "kept: the queues cannot be asked");
            false
        }
        Err(_) => false,
    }
}

/// Deletes the job's directory if the store, asked now, still proves it and nothing has changed since.
///
/// # Errors
/// [`PruneError`]; the job is still there.
pub async fn prune(proof: &Proof) -> Result<Pruned, PruneError> {
    let lane = &proof.attempt().lane;
    if lane.site.shadow {
        return Ok(Pruned::Shadow);
    }
    let Some(dwell) = proof.dwell() else {
        return Ok(Pruned::Unrecorded);
    };
    if let Some(wait) = lane.settings.delete_after.checked_sub(dwell).filter(|wait| !wait.is_zero()) {
        return Ok(Pruned::TooYoung(wait));
    }
    if !processed(proof).await {
        return Ok(Pruned::Unprocessed);
    }
    if !budget::allows(&lane.site).await {
        return Ok(Pruned::OverBudget);
    }
    if cfg!(not(seeded_bug = "ledger_trusted")) {
        prove_again(&lane.site.store, proof.manifest(), proof.manifest_bytes()).await?;
    }
    let note = Note::of(proof);
    let (site, job, manifest) = (lane.site.clone(), proof.job().clone(), proof.manifest().clone());
    let incarnation = proof.attempt().incarnation.clone();
    let delete = move || -> Result<Pruned, PruneError> {
        let dir = site.root.job(&job)?;
        if cfg!(seeded_bug = "unlink_by_path") {
            let path = site.root.path().join(job.to_string());
            std::fs::remove_dir_all(&path).map_err(|error| TreeError::Delete(job.to_string(), error))?;
            return Ok(Pruned::Deleted { files: 0, bytes: 0 });
        }
        if *dir.incarnation() != incarnation {
            return Ok(Pruned::Changed("another directory has its name now".into()));
        }
        let expected = note::entries(&manifest);
        if let Some(difference) = changes(&expected, &dir.snapshot(&Default::default())?.entries) {
            return Ok(Pruned::Changed(difference.to_string()));
        }
        let trashed = site.trash.take(&site.root, &dir, &note.to_bytes()?)?;
        match trashed.last_look(&expected, false)? {
            Some(difference) => {
                trashed.put_back(&site.root)?;
                Ok(Pruned::Changed(difference.to_string()))
            }
            None => Ok(deleted(trashed.unlink(&expected)?)),
        }
    };
    let outcome = lane.site.io.spawn_blocking(delete).await??;
    if let Pruned::Deleted { files, bytes } = outcome {
        let note = Note::of(proof);
        budget::record(&lane.site, &note, files, bytes).await;
        let row = RecordPruned { job: proof.job().clone(), prefix: proof.manifest().prefix.clone() };
        if let Err(error) = lane.site.ledger(row).await {
            debug!(job = %proof.job(), error = %chain(&error), "pruning not recorded");
        }
    }
    Ok(outcome)
}

fn deleted(removed: Removed) -> Pruned {
    Pruned::Deleted { files: removed.files, bytes: removed.bytes }
}

/// Ends what a crash left in the trash: what the store still proves is deleted, the rest is put back.
pub async fn finish(lane: &Arc<Lane>, trashed: Trashed) -> Result<Pruned, PruneError> {
    let site = lane.site.clone();
    if site.shadow {
        return put_back(site, trashed, "shadow mode deletes nothing").await;
    }
    let Some(note) = Note::from_bytes(trashed.note()) else {
        return put_back(site, trashed, "its note cannot be read").await;
    };
    if note.is_unstored() {
        return put_back(site, trashed, "its lane decides about it anew").await;
    }
    let found = crate::planner::claim::published(lane, &note.prefix).await;
    let published = match found {
        Ok(Some(published))
            if note.manifest_sha256 == crate::lab::Digest::of(&published.bytes).to_string() =>
        {
            published
        }
        Ok(_) => return put_back(site, trashed, "its manifest is gone or another").await,
        Err(error) => return Err(PruneError::Again(AgainError::Manifest(error))),
    };
    match prove_again(&site.store, &published.manifest, &published.bytes).await {
        Err(AgainError::Check(CheckError::Store(error))) => {
            return Err(PruneError::Again(AgainError::Check(CheckError::Store(error))));
        }
        Err(error) => return put_back(site, trashed, &chain(&error)).await,
        Ok(()) => {}
    }
    let delete_site = site.clone();
    let delete = move || -> Result<Pruned, PruneError> {
        let expected = note::entries(&published.manifest);
        match trashed.last_look(&expected, true)? {
            Some(difference) => {
                trashed.put_back(&delete_site.root)?;
                Ok(Pruned::Changed(difference.to_string()))
            }
            None => Ok(deleted(trashed.unlink(&expected)?)),
        }
    };
    let outcome = site.io.spawn_blocking(delete).await??;
    if let Pruned::Deleted { files, bytes } = outcome {
        budget::record(&site, &note, files, bytes).await;
    }
    Ok(outcome)
}

async fn put_back(site: Arc<crate::site::Site>, trashed: Trashed, why: &str) -> Result<Pruned, PruneError> {
    let (root, why) = (site.clone(), why.to_owned());
    site.io.spawn_blocking(move || trashed.put_back(&root.root)).await??;
    Ok(Pruned::Changed(why))
}
