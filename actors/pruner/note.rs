//! What is written beside a job in the trash, and into the deletion log: what is deleted, and why it may be.

use crate::lab::{Digest, Entry, RelPath};
use crate::manifest::Manifest;
use crate::verifier::Proof;
use serde::{Deserialize, Serialize};

/// Names the job and the manifest that permits its deletion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The directory's path below the results root, escaped for reading.
    pub job: String,
    /// The lane that it went through.
    pub lane: String,
    /// Where its objects are; empty if there are none, by the operator's order.
    pub prefix: String,
    /// SHA-256 of the manifest's bytes.
    pub manifest_sha256: String,
    /// The attempt that proved it.
    pub attempt: String,
}

impl Note {
    /// The note of a proven job.
    pub fn of(proof: &Proof) -> Self {
        Note {
            job: proof.job().to_string(),
            lane: proof.attempt().lane.settings.name.clone(),
            prefix: proof.manifest().prefix.clone(),
            manifest_sha256: Digest::of(proof.manifest_bytes()).to_string(),
            attempt: proof.attempt().id.to_string(),
        }
    }

    /// The note of a job that is stored nowhere, because its lane's operator said so.
    pub fn unstored(job: &RelPath, lane: &str) -> Self {
        let (prefix, manifest_sha256, attempt) = (String::new(), String::new(), String::new());
        Note { job: job.to_string(), lane: lane.to_owned(), prefix, manifest_sha256, attempt }
    }

    /// Is it of such a job?
    pub fn is_unstored(&self) -> bool {
        self.manifest_sha256.is_empty()
    }

    /// The bytes that lie beside the job.
    ///
    /// # Errors
    /// Never for a note of ours; the encoder's.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads a note; `None` if a crash or somebody else made it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The entries that a manifest proves, as a snapshot gives them. What cannot be read proves nothing.
pub fn entries(manifest: &Manifest) -> Vec<Entry> {
    manifest.entries.iter().filter_map(|entry| entry.entry().ok()).collect()
}
