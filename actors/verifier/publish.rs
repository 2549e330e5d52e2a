//! Writes the manifest, once, and reads it back.

use crate::ledger::FailureClass;
use crate::manifest::{FORMAT, LARGEST, Manifest, ManifestEntry, Object, Pack, Part};
use crate::packing::Encoding;
use crate::planner::attempt::rfc3339;
use crate::planner::names::manifest_key;
use crate::planner::stored::Source;
use crate::store::{Created, StoreError};
use crate::uploader::Receipt;
use crate::uploader::packs::PackSent;
use crate::uploader::transfer::Sent;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// Why no manifest was published.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PublishError {
    #[error("cannot publish the manifest")]
    Store(#[from] StoreError),
    #[error("cannot write the manifest")]
    Write(#[from] serde_json::Error),
    #[error("another manifest stands at {0}")]
    Taken(String),
    #[error("the manifest at {0} reads back as something else")]
    ReadBack(String),
    #[error("{0} was not sent")]
    NotSent(String),
}

impl PublishError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            PublishError::Store(error) => error.class(),
            PublishError::Taken(_) => FailureClass::Precondition,
            PublishError::ReadBack(_) => FailureClass::Checksum,
            PublishError::Write(_) | PublishError::NotSent(_) => FailureClass::Io,
        }
    }
}

/// Publishes what a verified receipt says.
///
/// # Errors
/// [`PublishError`]; a manifest may stand all the same, and the next attempt finds and judges it.
pub async fn publish(receipt: &Receipt) -> Result<(Arc<Manifest>, Bytes), PublishError> {
    let manifest = manifest(receipt)?;
    let bytes = Bytes::from(manifest.to_bytes()?);
    let key = manifest_key(&manifest.prefix);
    let store = &receipt.plan.attempt.lane.site.store;
    // A lost reply, or a manifest of our own attempt, is settled by the store's word: equal bytes are ours.
    if let Created::Exists(..) = store.create(&key, bytes.clone()).await? {
        return Err(PublishError::Taken(key));
    }
    match store.get(&key, LARGEST).await? {
        Some((read, _)) if read == bytes => Ok((Arc::new(manifest), bytes)),
        _ => Err(PublishError::ReadBack(key)),
    }
}

fn manifest(receipt: &Receipt) -> Result<Manifest, PublishError> {
    let plan = &receipt.plan;
    let site = &plan.attempt.lane.site;
    let objects: HashMap<usize, &Sent> = receipt.sent.iter().map(|sent| (sent.index, sent)).collect();
    let mut parts: HashMap<usize, &Part> =
        receipt.packs.iter().flat_map(|pack| &pack.files).map(|(index, part)| (*index, part)).collect();
    let mut entries = Vec::with_capacity(plan.snapshot.entries.len());
    for (index, entry) in plan.snapshot.entries.iter().enumerate() {
        let object = objects.get(&index).map(|sent| Object {
            size: (sent.size != entry.size).then_some(sent.size),
            ..sent.object.clone()
        });
        let part = parts.remove(&index).cloned();
        if object.is_none() && part.is_none() && plan.source(entry) != Source::Nothing {
            return Err(PublishError::NotSent(entry.path.to_string()));
        }
        let withheld = plan.withheld.covers(&entry.path);
        entries.push(ManifestEntry { withheld, part, ..ManifestEntry::new(entry, object) });
    }
    Ok(Manifest {
        format: FORMAT,
        job: plan.attempt.job().to_string(),
        prefix: plan.claimed.prefix.clone(),
        drone: site.drone.clone(),
        lane: plan.attempt.lane.settings.name.clone(),
        attempt: plan.attempt.id.to_string(),
        tool: concat!("dronekeeper ", env!("CARGO_PKG_VERSION")).to_owned(),
        incarnation: plan.attempt.incarnation.clone(),
        finished_at: rfc3339(plan.finished_at),
        published_at: rfc3339(site.clock.now()),
        layout: if receipt.packs.is_empty() { "files" } else { "packed" }.to_owned(),
        packs: receipt.packs.iter().map(|pack| pack_of(pack, site.packing.encoding)).collect(),
        files: plan.snapshot.files,
        bytes: plan.snapshot.bytes,
        entries,
    })
}

fn pack_of(pack: &PackSent, encoding: Encoding) -> Pack {
    let object = Object { size: Some(pack.sent.size), ..pack.sent.object.clone() };
    Pack { encoding, object }
}
