//! Sends the files of a job to the store.
//!
//! ```text
//! planner --UploadJob(Plan)--> uploader --VerifyJob(Receipt)--> verifier
//! ```
//!
//! A pool of equal actors per lane. The plan's snapshot is what is sent: a file that is not as the
//! snapshot saw it voids the attempt. A failure is written to the ledger, and the scanner finds the job
//! again; nothing on the disk is touched.

pub mod buffers;
pub mod cutter;
pub mod large;
pub mod logs;
pub mod packs;
pub mod resume;
pub mod rsync;
pub mod small;
pub mod transfer;

use crate::lane::Lane;
use crate::planner::plan::Plan;
use crate::verifier::VerifyJob;
use actix::prelude::*;
use kernel::Next;
use packs::PackSent;
use std::sync::Arc;
use tracing::{debug, info};
use transfer::{Sent, UploadError, transfer};

/// Asks that one planned job be sent. Sent by the planner.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UploadJob(pub Plan);

/// What one upload put into the store, not yet verified; made by [`upload`] only.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) plan: Plan,
    pub(crate) sent: Vec<Sent>,
    pub(crate) packs: Vec<PackSent>,
}

impl Receipt {
    /// Every object that must be in the store.
    pub(crate) fn objects(&self) -> Vec<Sent> {
        self.sent.iter().chain(self.packs.iter().map(|pack| &pack.sent)).cloned().collect()
    }
}

/// The actor: `workers` of them per lane.
pub struct Uploader {
    lane: Arc<Lane>,
    verifier: Next<VerifyJob>,
}

impl Uploader {
    /// Sends jobs of `lane`, and hands receipts to `verifier`.
    pub fn new(lane: Arc<Lane>, verifier: Next<VerifyJob>) -> Self {
        Uploader { lane, verifier }
    }
}

impl Actor for Uploader {
    type Context = Context<Self>;
}

impl Handler<UploadJob> for Uploader {
    type Result = ();

    fn handle(&mut self, UploadJob(plan): UploadJob, ctx: &mut Context<Self>) {
        let lane = self.lane.clone();
        let sending = self.lane.site.spawn(async move {
            let _doing = lane.gauge.doing(&lane, plan.attempt.job(), "uploading");
            upload(plan).await
        });
        ctx.spawn(sending.into_actor(self).map(|receipt, act, _| {
            let Some(receipt) = receipt else { return };
            if act.verifier.tell(VerifyJob(receipt)).is_err() {
                debug!(lane = %act.lane.settings.name, "verifier is full, the next sweep finds the job again");
            }
        }));
    }
}

/// Sends a job within the lane's time. `None`: it failed, and the ledger says why.
pub async fn upload(mut plan: Plan) -> Option<Receipt> {
    let limit = plan.attempt.lane.settings.timeout;
    let (files, bytes) = plan.volume();
    plan.attempt.lane.site.watch.planned(plan.attempt.job(), files, bytes);
    let ended =
        tokio::time::timeout(limit, transfer(&plan)).await.unwrap_or(Err(UploadError::TimedOut(limit)));
    match ended {
        Ok((sent, packs)) => {
            let (job, attempt) = (plan.attempt.job(), plan.attempt.number);
            if plan.claimed.published.is_none() {
                info!(%job, lane = %plan.attempt.lane.settings.name, attempt, files, bytes, "uploaded");
            }
            // The worker is free for the next job while this one is verified.
            plan.leave_seat();
            Some(Receipt { plan, sent, packs })
        }
        Err(UploadError::Changed(what)) => {
            plan.attempt.void(&what).await;
            None
        }
        Err(error) => {
            plan.attempt.fail(error.class(), &error).await;
            None
        }
    }
}
