//! Deletes a finished job that is stored nowhere: only in a lane whose operator wrote so in plain words.

use super::note::Note;
use super::{PruneError, Pruned, Pruner, budget, deleted};
use crate::completion::CompleteJob;
use crate::lab::Digest;
use crate::lane::Lane;
use crate::ledger::{Dwelt, RecordDiscarded};
use crate::planner::PlanJob;
use crate::shown::chain;
use actix::prelude::*;
use std::sync::Arc;
use tracing::{debug, info, warn};

impl Handler<PlanJob> for Pruner {
    type Result = ();

    fn handle(&mut self, PlanJob(job): PlanJob, ctx: &mut Context<Self>) {
        let lane = self.lane.clone();
        let discarding = self.lane.site.spawn(async move {
            let _doing = lane.gauge.doing(&lane, job.job(), "discarding");
            let name = &lane.settings.name;
            match discard(&lane, &job).await {
                Ok(Pruned::Deleted { files, bytes }) => {
                    info!(job = %job.job(), lane = %name, files, bytes, "deleted without storing it, as the lane says");
                }
                Ok(left) => debug!(job = %job.job(), lane = %name, outcome = ?left, "kept for now"),
                Err(error) => warn!(job = %job.job(), lane = %name, error = %chain(&error), "not deleted"),
            }
        });
        ctx.spawn(discarding.into_actor(self));
    }
}

/// Deletes the job if its lane is told to store nothing, and it was seen finished `delete_after` ago.
async fn discard(lane: &Arc<Lane>, job: &CompleteJob) -> Result<Pruned, PruneError> {
    if !lane.settings.delete_only || lane.site.shadow {
        return Ok(Pruned::Shadow);
    }
    let (site, path, incarnation) = (lane.site.clone(), job.job().clone(), job.incarnation().clone());
    let identity = format!("{}/{}/{}", incarnation.dev, incarnation.ino, incarnation.born_ns);
    let Ok(dwell) = site.ledger(Dwelt { job: path.clone(), of: Digest::of(identity.as_bytes()) }).await
    else {
        return Ok(Pruned::Unrecorded);
    };
    if let Some(wait) = lane.settings.delete_after.checked_sub(dwell).filter(|wait| !wait.is_zero()) {
        return Ok(Pruned::TooYoung(wait));
    }
    if !budget::allows(&site).await {
        return Ok(Pruned::OverBudget);
    }
    let note = Note::unstored(&path, &lane.settings.name);
    let noted = note.to_bytes()?;
    let (root, gone) = (site.clone(), path.clone());
    let delete = move || -> Result<Pruned, PruneError> {
        let dir = root.root.job(&gone)?;
        if *dir.incarnation() != incarnation {
            return Ok(Pruned::Changed("another directory has its name now".into()));
        }
        let snapshot = dir.snapshot(&Default::default())?;
        let trashed = root.trash.take(&root.root, &dir, &noted)?;
        match trashed.last_look(&snapshot.entries, false)? {
            Some(difference) => {
                trashed.put_back(&root.root)?;
                Ok(Pruned::Changed(difference.to_string()))
            }
            None => Ok(deleted(trashed.unlink(&snapshot.entries)?)),
        }
    };
    let outcome = site.io.spawn_blocking(delete).await??;
    if let Pruned::Deleted { files, bytes } = outcome {
        budget::record(&site, &note, files, bytes).await;
        if let Err(error) = site.ledger(RecordDiscarded(path)).await {
            debug!(job = %job.job(), error = %chain(&error), "deletion not recorded");
        }
    }
    Ok(outcome)
}
