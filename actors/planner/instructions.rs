//! `.GS_OFFLOADER_INSTRUCTIONS`: which sub-directories of a job are not to be kept at all.
//!
//! A device under test could write such a file. So it is read only where the lane says `honour_instructions`, it
//! can do nothing but withhold its own directory, and the manifest lists what was withheld. One that says anything
//! that is not understood parks the job for a person.

use crate::lab::{Entry, Kind, RelPath};
use crate::tree::{JobDir, OpenError, Snapshot};
use std::collections::BTreeSet;
use std::io::Read;

/// Its name, in a directory that lies directly in the job's (reference A2.8).
const NAME: &[u8] = b".GS_OFFLOADER_INSTRUCTIONS";
/// More than this is no instruction, in bytes.
const LARGEST: u64 = 64 << 10;

/// The sub-directories, by name, of which nothing is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld(BTreeSet<Box<[u8]>>);

impl Withheld {
    /// Is this a sub-directory that is withheld?
    pub fn begins_at(&self, path: &RelPath) -> bool {
        self.covers(path) && path.parent().is_none()
    }

    /// Is this such a sub-directory, or below one?
    pub fn covers(&self, path: &RelPath) -> bool {
        path.parts().next().is_some_and(|first| self.0.contains(first))
    }

    /// Is nothing withheld?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why instructions are not followed. Their job waits for a person.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InstructionError {
    #[error("{0} is no JSON object with `no_offload` true or false: mend or remove it, then release the job")]
    Malformed(RelPath),
    #[error("{0} changed while it was read")]
    Changed(RelPath),
    #[error("cannot read {0}")]
    Unreadable(RelPath, #[source] std::io::Error),
}

/// Reads the instructions of every sub-directory of a job.
///
/// # Errors
/// The first [`InstructionError`].
pub fn withheld(dir: &JobDir, snapshot: &Snapshot) -> Result<Withheld, InstructionError> {
    let mut withheld = BTreeSet::new();
    for entry in &snapshot.entries {
        let directly = |parent: &RelPath| parent.parent().is_none();
        let Some(parent) = entry.path.parent().filter(directly) else { continue };
        if entry.kind == Kind::File && entry.path.name() == NAME && no_offload(&read(dir, entry)?, entry)? {
            withheld.insert(parent.as_bytes().into());
        }
    }
    Ok(Withheld(withheld))
}

fn read(dir: &JobDir, entry: &Entry) -> Result<Vec<u8>, InstructionError> {
    let file = dir.open_file(entry).map_err(|error| match error {
        OpenError::Io(error) => InstructionError::Unreadable(entry.path.clone(), error),
        OpenError::NotPermitted => {
            InstructionError::Unreadable(entry.path.clone(), std::io::ErrorKind::PermissionDenied.into())
        }
        OpenError::Gone | OpenError::Changed | OpenError::NotAFile => {
            InstructionError::Changed(entry.path.clone())
        }
    })?;
    let mut text = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut text)
        .map_err(|error| InstructionError::Unreadable(entry.path.clone(), error))?;
    Ok(text)
}

fn no_offload(text: &[u8], entry: &Entry) -> Result<bool, InstructionError> {
    let malformed = || InstructionError::Malformed(entry.path.clone());
    let said: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|_| malformed())?;
    match said.get("no_offload") {
        None => Ok(false),
        Some(serde_json::Value::Bool(no_offload)) => Ok(*no_offload),
        Some(_) => Err(malformed()),
    }
}
