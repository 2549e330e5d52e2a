//! The proof, repeated just before a deletion: the manifest as it stands, the objects as they are.

use crate::ledger::FailureClass;
use crate::manifest::{LARGEST, Manifest, ManifestEntry};
use crate::planner::claim::ClaimError;
use crate::planner::names::manifest_key;
use crate::store::Store;
use crate::uploader::transfer::Sent;
use crate::verifier::check::{CheckError, check};
use bytes::Bytes;

/// Why the proof could not be repeated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AgainError {
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("the manifest that stands in the store is another")]
    OtherManifest,
    #[error("cannot read the manifest")]
    Manifest(#[source] ClaimError),
}

impl AgainError {
    /// What kind of failure the ledger records.
    pub fn class(&self) -> FailureClass {
        match self {
            AgainError::Check(error) => error.class(),
            AgainError::OtherManifest => FailureClass::Checksum,
            AgainError::Manifest(ClaimError::Store(error)) => error.class(),
            AgainError::Manifest(_) => FailureClass::Checksum,
        }
    }
}

/// Reads the manifest afresh and asks the store for every object that it lists.
///
/// # Errors
/// [`AgainError`]: the job must not be deleted now.
pub async fn prove_again(store: &Store, manifest: &Manifest, bytes: &Bytes) -> Result<(), AgainError> {
    let standing = store.get(&manifest_key(&manifest.prefix), LARGEST).await.map_err(CheckError::Store)?;
    if standing.is_none_or(|(standing, _)| standing != *bytes) {
        return Err(AgainError::OtherManifest);
    }
    Ok(check(store, &manifest.prefix, &objects(manifest)).await?)
}

/// The objects that a manifest lists.
pub fn objects(manifest: &Manifest) -> Vec<Sent> {
    let stored = |(index, entry): (usize, &ManifestEntry)| {
        Some(Sent::standing(index, entry.object.as_ref()?, entry.size))
    };
    let packs = manifest.packs.iter().map(|pack| Sent::standing(usize::MAX, &pack.object, 0));
    manifest.entries.iter().enumerate().filter_map(stored).chain(packs).collect()
}
