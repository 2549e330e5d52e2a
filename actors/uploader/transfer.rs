//! Sends every file of a plan that is not in the store yet: small ones many at a time, large ones in parts.

use super::packs::PackSent;
use super::{large, logs, packs, resume, rsync, small};
use crate::lab::{Entry, Kind};
use crate::ledger::FailureClass;
use crate::manifest::{Manifest, Object};
use crate::planner::plan::Plan;
use crate::planner::stored::Source;
use crate::pruner::again::objects;
use crate::store::{Held, StoreError};
use crate::tree::OpenError;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashSet;
use std::time::Duration;
use tokio::task::JoinSet;

/// One file that is in the store, as the store answered when it took it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Position of the file in the snapshot's entries.
    pub index: usize,
    /// What the manifest will say of it.
    pub object: Object,
    /// The size that the store must show.
    pub size: u64,
    /// The store answered with a checksum over its own bytes, and it is ours.
    pub proven: bool,
}

impl Sent {
    /// An object that a manifest lists, of an entry of that size.
    pub fn standing(index: usize, object: &Object, entry_size: u64) -> Self {
        let (size, proven) = (object.size.unwrap_or(entry_size), object.proof != "read-back");
        Sent { index, object: object.clone(), size, proven }
    }
}

/// Why a job could not be sent. It stays, whole.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum UploadError {
    #[error("no end after {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Changed(String),
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    #[error("not permitted to read {0}: run as its owner, or repair its mode")]
    NotPermitted(String),
    #[error("cannot send {0}")]
    Store(String, #[source] StoreError),
    #[error("{0} does not fit into one object of this store")]
    TooLarge(String),
    #[error("a reader or sender died")]
    Died(#[from] tokio::task::JoinError),
    #[error("the process is ending")]
    Ending,
}

impl UploadError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            UploadError::TimedOut(_) => FailureClass::Deadline,
            UploadError::Changed(_) => FailureClass::ChangedSource,
            UploadError::Read(..) | UploadError::TooLarge(_) => FailureClass::Io,
            UploadError::NotPermitted(_) => FailureClass::Permission,
            UploadError::Store(_, error) => error.class(),
            UploadError::Died(_) => FailureClass::Panic,
            UploadError::Ending => FailureClass::Cancelled,
        }
    }

    /// A file that could not be opened as the snapshot saw it.
    pub fn open(entry: &Entry, error: OpenError) -> Self {
        let path = entry.path.to_string();
        match error {
            OpenError::Gone => UploadError::Changed(format!("{path} is gone")),
            OpenError::Changed => UploadError::Changed(format!("{path} changed")),
            OpenError::NotAFile => UploadError::Changed(format!("{path} is no file any more")),
            OpenError::NotPermitted => UploadError::NotPermitted(path),
            OpenError::Io(error) => UploadError::Read(path, error),
        }
    }

    /// A request that failed for this file.
    pub fn store(entry: &Entry, error: StoreError) -> Self {
        UploadError::Store(entry.path.to_string(), error)
    }
}

/// Sends what is missing; the result has one [`Sent`] for each object of an entry, in the snapshot's order, and the
/// packs.
///
/// # Errors
/// The first [`UploadError`]; what was sent until then is noted for the next attempt.
pub async fn transfer(plan: &Plan) -> Result<(Vec<Sent>, Vec<PackSent>), UploadError> {
    if let Some(published) = &plan.claimed.published {
        return Ok((standing(plan, &published.manifest), Vec::new()));
    }
    let notes = resume::Notes::of(plan);
    let mut sent = notes.already(plan).await;
    let have: HashSet<usize> = sent.iter().map(|sent| sent.index).collect();
    let (site, job) = (&plan.attempt.lane.site, plan.attempt.job());
    let missing = plan.snapshot.entries.iter().enumerate();
    let missing =
        missing.filter(|(index, entry)| plan.source(entry) != Source::Nothing && !have.contains(index));
    let (packed, missing): (Vec<_>, Vec<_>) =
        missing.partition(|(_, entry)| site.packing.takes(job, &plan.snapshot, entry));
    let packs = send_packs(plan, &packed).await?;
    let (together, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(_, entry)| {
        site.store.host().is_some() && entry.kind == Kind::File && rsync::keeps_its_name(plan, entry)
    });
    if let Some(host) = site.store.host() {
        let landed = rsync::send(plan, host, &together).await?;
        notes.keep(&landed).await;
        sent.extend(landed);
    }
    let missing = match site.packing.compresses_logs() {
        false => missing,
        true => {
            let logs = logs::send(plan, &missing).await?;
            let gone: HashSet<usize> = logs.iter().map(|sent| sent.index).collect();
            sent.extend(logs);
            missing.into_iter().filter(|(index, _)| !gone.contains(index)).collect()
        }
    };
    let is_large = |entry: &Entry| entry.kind == Kind::File && entry.size > site.store.single_put();
    let (large, small): (Vec<_>, Vec<_>) = missing.into_iter().partition(|(_, entry)| is_large(entry));

    let mut flights: JoinSet<Result<Vec<Sent>, UploadError>> = JoinSet::new();
    for batch in small::batches(&small) {
        while flights.len() >= small::BATCHES {
            land(&mut flights, &mut sent, &notes).await?;
        }
        flights.spawn(small::send(small::Batch::new(plan, batch)));
    }
    for (index, _) in large {
        while flights.len() >= large::FILES {
            land(&mut flights, &mut sent, &notes).await?;
        }
        flights.spawn(large::send(large::Large::new(plan, index, &notes)));
    }
    while !flights.is_empty() {
        land(&mut flights, &mut sent, &notes).await?;
    }
    sent.sort_unstable_by_key(|sent| sent.index);
    Ok((sent, packs))
}

/// What a manifest that stands says is in the store: nothing is sent, all of it is proven again.
fn standing(plan: &Plan, manifest: &Manifest) -> Vec<Sent> {
    let watch = &plan.attempt.lane.site.watch;
    for file in manifest.entries.iter().filter(|entry| entry.kind == Kind::File && !entry.withheld) {
        watch.sent(file.size);
        watch.stored();
    }
    objects(manifest)
}

/// Makes and sends the packs, a few at a time, in order.
async fn send_packs(plan: &Plan, files: &[(usize, &Entry)]) -> Result<Vec<PackSent>, UploadError> {
    let packs = packs::packs(plan, files).into_iter().map(packs::send);
    stream::iter(packs).buffered(packs::AT_ONCE).try_collect().await
}

async fn land(
    flights: &mut JoinSet<Result<Vec<Sent>, UploadError>>,
    sent: &mut Vec<Sent>,
    notes: &resume::Notes,
) -> Result<(), UploadError> {
    if let Some(landed) = flights.join_next().await {
        let landed = landed??;
        notes.keep(&landed).await;
        sent.extend(landed);
    }
    Ok(())
}

/// What the manifest will say of an object, and whether the store's answer proves it.
///
/// # Errors
/// [`StoreError`] `Mismatch` when the store answers with another checksum or size than ours.
pub fn sent(index: usize, key: String, sha256: String, size: u64, ours: Option<String>, held: Held) -> Sent {
    let theirs = held.checksum.as_ref().map(|checksum| format!("{}={}", checksum.name, checksum.value));
    let proven = match cfg!(seeded_bug = "etag_is_checksum") {
        true => held.etag.is_some(),
        false => ours.is_some() && ours == theirs && held.size == size,
    };
    let proof = if proven { ours.unwrap_or_default() } else { String::from("read-back") };
    let object =
        Object { key, sha256, size: None, plain: None, etag: held.etag, version: held.version, proof };
    Sent { index, object, size, proven }
}
