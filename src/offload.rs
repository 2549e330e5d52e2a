//! One-shot: offloads some directories now, through the same stages as the daemon, without its tree.

use crate::drone;
use crate::house::House;
use actors::completion::CompleteJob;
use actors::lab::RelPath;
use actors::lane::Lane;
use actors::ledger::LedgerError;
use actors::planner::plan::plan;
use actors::pruner::{Pruned, prune};
use actors::uploader::upload;
use actors::verifier::verify;
use kernel::{ChildSpec, Policy, Tree};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What became of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In the store, proven, and still on the disk.
    Proven,
    /// In the store, proven, and deleted from the disk.
    Pruned,
    /// In the store and proven; kept on the disk for this reason.
    Kept(String),
    /// Not in the store, or not proven; the log and the ledger say why.
    Failed,
    /// Another hand has it, or it is no directory.
    Unavailable(String),
}

/// Offloads jobs below the house's results directory; a few directories at a time, and all of their
/// requests together within the store's connections.
pub async fn offload(
    house: &Arc<House>,
    jobs: Vec<(RelPath, Arc<Lane>)>,
    keep: bool,
) -> Vec<(RelPath, Outcome)> {
    let built = house.clone();
    let ledger_only = ChildSpec::supervisor("root", Policy::default(), move || vec![drone::ledger(&built)]);
    let tree = Tree::start(&ledger_only, 1);
    wait_for_ledger(house).await;
    let (store, prefix) = (house.site.store.clone(), house.site.prefix.clone());
    if let Err(error) = house.site.spawn(async move { store.probe(&prefix).await }).await {
        house.site.trouble.begin(error.class(), &actors::shown::chain(&error), None);
    }
    let site = house.site.clone();
    let all = house.site.spawn(async move {
        let places = Arc::new(Semaphore::new(width(jobs.len())));
        let mut flights = JoinSet::new();
        for (job, lane) in jobs {
            let (places, site) = (places.clone(), site.clone());
            flights.spawn(async move {
                let _place = places.acquire_owned().await;
                let outcome = one(&lane, &job, keep).await;
                site.watch.done(&job, !matches!(outcome, Outcome::Failed | Outcome::Unavailable(_)));
                (job, outcome)
            });
        }
        flights.join_all().await
    });
    let mut outcomes = all.await;
    outcomes.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Ok(tree) = tree {
        tree.stop(Duration::from_secs(5)).await;
    }
    outcomes
}

/// So many directories at once: enough that one which waits for its proof leaves no connection idle.
fn width(jobs: usize) -> usize {
    jobs.clamp(1, 64)
}

/// The ledger comes up within moments; without it the offload goes on unrecorded.
async fn wait_for_ledger(house: &House) {
    for _ in 0..200 {
        match house.site.ledger(actors::ledger::Pauses).await {
            Err(LedgerError::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => return,
        }
    }
}

async fn one(lane: &Arc<Lane>, job: &RelPath, keep: bool) -> Outcome {
    let site = &lane.site;
    let Some(hold) = site.holds.take(job) else { return Outcome::Unavailable("named twice".into()) };
    let dir = match site.root.job(job) {
        Ok(dir) => dir,
        Err(error) => return Outcome::Unavailable(actors::shown::chain(&error)),
    };
    let complete = CompleteJob::by_hand(&dir, hold);
    let Some(plan) = plan(lane, complete, None).await else { return Outcome::Failed };
    let Some(receipt) = upload(plan).await else { return Outcome::Failed };
    let Some(proof) = verify(receipt).await else { return Outcome::Failed };
    if keep {
        return Outcome::Proven;
    }
    match prune(&proof).await {
        Ok(Pruned::Deleted { .. }) => Outcome::Pruned,
        Ok(Pruned::Changed(what)) => Outcome::Kept(format!("it changed: {what}")),
        Ok(Pruned::TooYoung(wait)) => Outcome::Kept(format!("`delete_after` has {wait:.0?} to run")),
        Ok(Pruned::OverBudget) => Outcome::Kept("pruning is held: see `dronekeeper status`".into()),
        Ok(Pruned::Unprocessed) => {
            Outcome::Kept("post-processing comes first: see `dronekeeper queue list`".into())
        }
        Ok(Pruned::Shadow) => Outcome::Kept("`drone.mode` is shadow: nothing is deleted".into()),
        Ok(Pruned::Unrecorded) => Outcome::Kept("the ledger could not be written".into()),
        Err(error) => Outcome::Kept(actors::shown::chain(&error)),
    }
}
