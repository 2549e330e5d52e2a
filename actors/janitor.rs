//! Ends what crashes left behind: jobs half way through the trash, multipart uploads that nobody goes on with.
//!
//! ```text
//! trash, ledger --> janitor --> (deleted or put back; aborted)
//! ```
//!
//! It also keeps `FAILED_OFFLOADS` for the scripts of the old offloader's site.
//!
//! The trash and the store are the truth. What cannot be decided now is left for the next round.

pub mod failures;

use crate::lane::Lane;
use crate::ledger::{ForgetUpload, ListJobs, OpenUploads};
use crate::pruner::{self, Pruned};
use crate::shown::{Shown, chain};
use crate::site::Site;
use actix::prelude::*;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, info, warn};

/// Time between two rounds, in sweeps: a minute, as shipped.
const ROUND: u32 = 12;

/// The actor: one per drone.
pub struct Janitor {
    lanes: Vec<Arc<Lane>>,
    /// Whether the list of failures names any, as far as is known.
    failing: Option<bool>,
    pause: Duration,
}

impl Janitor {
    /// Cleans up after these lanes; a job of a lane that is gone goes to the first.
    pub fn new(lanes: Vec<Arc<Lane>>) -> Self {
        let pause = lanes.first().map_or(Duration::ZERO, |lane| lane.site.first_pause * ROUND);
        Janitor { lanes, failing: None, pause }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        let lanes = self.lanes.clone();
        let Some(lane) = lanes.into_iter().next() else { return };
        let (site, failing) = (lane.site.clone(), self.failing);
        let work = site.spawn(async move {
            trash(&lane).await;
            uploads(&lane).await;
            list_failures(&lane.site, failing).await
        });
        ctx.wait(work.into_actor(self).map(|failing, act, ctx| {
            act.failing = failing;
            ctx.run_later(act.pause, Self::round);
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

/// Writes the list of failures while there are any, and once when there are no more; says whether there are.
async fn list_failures(site: &Arc<Site>, before: Option<bool>) -> Option<bool> {
    let rows = site.ledger(ListJobs).await.ok()?;
    let (now, zone, asked) = (SystemTime::now(), TimeZone::system(), site.clone());
    let failing = failures::text(&rows, now, &zone);
    let write = move || match &failing {
        Some(text) => failures::replace(&asked.root, text).map(|()| true),
        None if before == Some(false) || !asked.root.has_file(failures::NAME) => Ok(false),
        None => failures::replace(&asked.root, &failures::none(now, &zone)).map(|()| false),
    };
    match site.io.spawn_blocking(write).await.ok()? {
        Ok(failing) => Some(failing),
        Err(error) => {
            debug!(error = %chain(&error), "list of failures not written");
            None
        }
    }
}
