//! Proves that everything of a job arrived, and says so in the store: the manifest, written last.
//!
//! ```text
//! uploader --VerifyJob(Receipt)--> verifier --PruneJob(Proof)--> pruner
//! ```
//!
//! The store is asked what it holds now; the directory is read again and must be what was sent. Only then
//! is the manifest published, read back and compared, and what routes send elsewhere delivered. Any doubt ends
//! the attempt; nothing is deleted.

pub mod check;
pub mod deliver;
pub mod publish;

use crate::lab::{Digest, RelPath};
use crate::lane::Lane;
use crate::ledger::{FailureClass, RecordPublished};
use crate::manifest::Manifest;
use crate::notifier::notice::notices;
use crate::planner::attempt::Attempt;
use crate::pruner::PruneJob;
use crate::shown::chain;
use crate::tree::{TreeError, changes};
use crate::uploader::Receipt;
use actix::prelude::*;
use bytes::Bytes;
use check::CheckError;
use deliver::DeliverError;
use kernel::Next;
use publish::PublishError;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Asks that one sent job be proven. Sent by the uploaders.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct VerifyJob(pub Receipt);

/// The store holds every file of a job, and a manifest that says so; made by [`verify`] only.
#[derive(Debug)]
pub struct Proof {
    attempt: Attempt,
    manifest: Arc<Manifest>,
    bytes: Bytes,
    dwell: Option<Duration>,
}

impl Proof {
    /// The attempt that earned it; it holds the job.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// The job.
    pub fn job(&self) -> &RelPath {
        self.attempt.job()
    }

    /// What the store says of the job.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The manifest's very bytes.
    pub fn manifest_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How long the job has stood in the store, by a clock that nobody sets; `None`: the ledger, which counts it,
    /// could not be written. Without its word nothing is deleted.
    pub fn dwell(&self) -> Option<Duration> {
        self.dwell
    }

    /// Gives the attempt back, to end it.
    pub fn into_attempt(self) -> Attempt {
        self.attempt
    }
}

/// Why a job is not proven. It stays, whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum VerifyError {
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Deliver(DeliverError),
    #[error("cannot read the job's directory again")]
    Tree(#[from] TreeError),
    #[error("cannot read the job's directory again: the reader died")]
    Reader(#[from] tokio::task::JoinError),
    #[error("{0}")]
    Changed(String),
}

impl From<DeliverError> for VerifyError {
    fn from(error: DeliverError) -> Self {
        match error {
            DeliverError::Changed(what) => VerifyError::Changed(what),
            error => VerifyError::Deliver(error),
        }
    }
}

impl VerifyError {
    fn class(&self) -> FailureClass {
        match self {
            VerifyError::Check(error) => error.class(),
            VerifyError::Publish(error) => error.class(),
            VerifyError::Deliver(error) => error.class(),
            VerifyError::Tree(_) | VerifyError::Reader(_) => FailureClass::Io,
            VerifyError::Changed(_) => FailureClass::ChangedSource,
        }
    }
}

/// The actor: one per lane; it proves several jobs at a time.
pub struct Verifier {
    lane: Arc<Lane>,
    pruner: Next<PruneJob>,
}

impl Verifier {
    /// Proves jobs of `lane`, and hands proofs to `pruner`.
    pub fn new(lane: Arc<Lane>, pruner: Next<PruneJob>) -> Self {
        Verifier { lane, pruner }
    }
}

impl Actor for Verifier {
    type Context = Context<Self>;
}

impl Handler<VerifyJob> for Verifier {
    type Result = ();

    fn handle(&mut self, VerifyJob(receipt): VerifyJob, ctx: &mut Context<Self>) {
        let lane = self.lane.clone();
        let proving = self.lane.site.spawn(async move {
            let _doing = lane.gauge.doing(&lane, receipt.plan.attempt.job(), "verifying");
            verify(receipt).await
        });
        ctx.spawn(proving.into_actor(self).map(|proof, act, _| {
            let Some(proof) = proof else { return };
            if act.pruner.tell(PruneJob(proof)).is_err() {
                debug!(lane = %act.lane.settings.name, "pruner is full, the next sweep finds the job again");
            }
        }));
    }
}

/// Proves a job. `None`: it could not, and the ledger says why.
pub async fn verify(receipt: Receipt) -> Option<Proof> {
    match prove(&receipt).await {
        Ok((manifest, bytes)) => Some(record(receipt, manifest, bytes).await),
        Err(VerifyError::Changed(what)) => {
            receipt.plan.attempt.void(&what).await;
            None
        }
        Err(error) => {
            receipt.plan.attempt.fail(error.class(), &error).await;
            None
        }
    }
}

async fn prove(receipt: &Receipt) -> Result<(Arc<Manifest>, Bytes), VerifyError> {
    let plan = &receipt.plan;
    let lane = &plan.attempt.lane;
    if cfg!(seeded_bug = "mark_first") && plan.claimed.published.is_none() {
        publish::publish(receipt).await?;
    }
    if cfg!(not(seeded_bug = "ledger_trusted")) || plan.claimed.published.is_none() {
        check::check(&lane.site.store, &plan.claimed.prefix, &receipt.objects()).await?;
    }
    let (dir, before) = (plan.dir.clone(), plan.snapshot.clone());
    let again = move || dir.snapshot(&Default::default()).map(|now| changes(&before.entries, &now.entries));
    if let Some(difference) = lane.site.io.spawn_blocking(again).await?? {
        return Err(VerifyError::Changed(difference.to_string()));
    }
    let (manifest, bytes) = match &plan.claimed.published {
        Some(published) => (published.manifest.clone(), published.bytes.clone()),
        None => publish::publish(receipt).await?,
    };
    if cfg!(not(seeded_bug = "routes_forgotten")) {
        deliver::deliver(plan, &manifest).await?;
    }
    Ok((manifest, bytes))
}

/// Tells the ledger. A ledger that cannot be written makes nothing less safe; it only puts off the pruning.
async fn record(receipt: Receipt, manifest: Arc<Manifest>, bytes: Bytes) -> Proof {
    let mut attempt = receipt.plan.attempt;
    attempt.end();
    let site = &attempt.lane.site;
    site.trouble.over();
    let published = RecordPublished {
        job: attempt.job().clone(),
        incarnation: attempt.incarnation.clone(),
        lane: attempt.lane.settings.name.clone(),
        attempt: attempt.id,
        prefix: manifest.prefix.clone(),
        manifest_sha256: Digest::of(&bytes),
        published_at: site.clock.now(),
        notices: notices(site, &manifest, &bytes),
    };
    let dwell = match site.ledger(published).await {
        Ok(dwell) => Some(dwell),
        Err(error) => {
            warn!(job = %attempt.job(), error = %chain(&error), "proven, but the ledger could not be written; kept for now");
            None
        }
    };
    if receipt.plan.claimed.published.is_none() {
        let (job, lane) = (attempt.job(), &attempt.lane.settings.name);
        let prefix = crate::shown::Shown::text(&manifest.prefix);
        info!(%job, %lane, attempt = attempt.number, files = manifest.files, bytes = manifest.bytes, %prefix, "verified");
    }
    Proof { attempt, manifest, bytes, dwell }
}
