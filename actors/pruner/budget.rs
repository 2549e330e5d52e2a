//! How many deletions an hour may see, and the log of each.

use super::note::Note;
use crate::ledger::{CountDeletion, HoldPruning, PruningHeld};
use crate::shown::chain;
use crate::site::Site;
use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use tracing::{debug, error};

/// May one more job be deleted? Unknown is never yes: without the ledger nothing is deleted.
pub async fn allows(site: &Site) -> bool {
    match site.ledger(PruningHeld).await {
        Ok(None) if site.pruning_held.load(Relaxed) => return false,
        Ok(None) => {}
        Ok(Some(reason)) => {
            debug!(reason, "pruning is held");
            return false;
        }
        Err(error) => {
            debug!(error = %chain(&error), "ledger not readable, nothing is deleted");
            return false;
        }
    }
    match site.ledger(CountDeletion).await {
        Ok(in_the_last_hour) if in_the_last_hour <= u64::from(site.deletions_per_hour) => true,
        Ok(count) => {
            let most = site.deletions_per_hour;
            let reason = format!("{count} deletions within an hour, limits.deletions_per_hour is {most}");
            error!(%reason, "pruning stops until a person says `dronekeeper resume`; uploads go on");
            site.pruning_held.store(true, Relaxed);
            let _ = site.ledger(HoldPruning { reason }).await;
            false
        }
        Err(_) => false,
    }
}

/// Writes one line about a deletion into a file of its own.
pub async fn record(site: &Site, note: &Note, files: u64, bytes: u64) {
    let at = crate::planner::attempt::rfc3339(std::time::SystemTime::now());
    let line = serde_json::json!({ "at": at, "deleted": note, "files": files, "bytes": bytes });
    let path = site.deletion_log.clone();
    let write = move || -> std::io::Result<()> {
        let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        log.write_all(format!("{line}\n").as_bytes())
    };
    match site.io.spawn_blocking(write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(error = %chain(&error), job = %note.job, "deletion log cannot be written"),
        Err(died) => error!(error = %chain(&died), job = %note.job, "deletion log cannot be written"),
    }
}
