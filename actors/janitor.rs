//! Ends what crashes left behind: jobs half way through the trash, multipart uploads that nobody goes on with.
//!
//! ```text
//! trash, ledger --> janitor --> (deleted or put back; aborted)
//! ```
//!
//! The trash and the store are the truth. What cannot be decided now is left for the next round.

use crate::lane::Lane;
use crate::ledger::{ForgetUpload, OpenUploads};
use crate::pruner::{self, Pruned};
use crate::shown::{Shown, chain};
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Time between two rounds.
const ROUND: Duration = Duration::from_secs(60);

/// The actor: one per drone.
pub struct Janitor {
    lanes: Vec<Arc<Lane>>,
}

impl Janitor {
    /// Cleans up after these lanes; a job of a lane that is gone goes to the first.
    pub fn new(lanes: Vec<Arc<Lane>>) -> Self {
        Janitor { lanes }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        let lanes = self.lanes.clone();
        let Some(lane) = lanes.into_iter().next() else { return };
        let site = lane.site.clone();
        let work = site.spawn(async move {
            trash(&lane).await;
            uploads(&lane).await;
        });
        ctx.wait(work.into_actor(self).map(|(), _, ctx| {
            ctx.run_later(ROUND, Self::round);
        }));
    }
}

impl Actor for Janitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.round(ctx);
    }
}

/// Finishes or puts back each job that lies in the trash and is in nobody's hand.
pub async fn trash(lane: &Arc<Lane>) {
    let site = lane.site.clone();
    let leftovers = match site.trash.leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => return warn!(error = %chain(&error), "trash cannot be read"),
    };
    for trashed in leftovers {
        let job = trashed.origin().clone();
        let Some(_hold) = site.holds.take(&job) else { continue };
        match pruner::finish(lane, trashed).await {
            Ok(Pruned::Deleted { files, bytes }) => {
                info!(%job, files, bytes, "pruned, after an interruption")
            }
            Ok(outcome) => warn!(%job, ?outcome, "put back from the trash"),
            Err(error) => warn!(%job, error = %chain(&error), "stays in the trash for now"),
        }
    }
}

/// Aborts multipart uploads whose job is in nobody's hand and no longer on the disk.
async fn uploads(lane: &Arc<Lane>) {
    let site = &lane.site;
    for open in site.ledger(OpenUploads).await.unwrap_or_default() {
        if site.holds.held(&open.job) || site.root.job(&open.job).is_ok() {
            continue;
        }
        let key = open.upload.key.clone();
        if let Err(error) = site.store.abort(&key, &open.upload.upload_id).await {
            debug!(key = %Shown::text(&key), error = %chain(&error), "upload not aborted");
            continue;
        }
        let forget = ForgetUpload {
            job: open.job.clone(),
            path: open.upload.path.clone(),
            upload_id: open.upload.upload_id.clone(),
        };
        let _ = site.ledger(forget).await;
        info!(job = %open.job, path = %open.upload.path, "abandoned upload cleaned up");
    }
}
