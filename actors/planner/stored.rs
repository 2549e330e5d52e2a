//! What each entry of a job becomes in the store: a file its bytes, a link and a fifo a short text that says what
//! they are, everything else a line of the manifest.
//!
//! The texts are the old offloader's (reference A4.3, A4.4). It put them on the disk in the place of the only copy;
//! here they are made on the way, and the manifest holds the truth.

use super::instructions::Withheld;
use crate::lab::{Entry, Kind, RelPath};

/// Where the bytes of an entry's object come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the file.
    File,
    /// They are these.
    Text(Vec<u8>),
    /// It has no object.
    Nothing,
}

/// The file that tells readers why a directory is empty.
const README: &[u8] = b"logs-removed-readme.txt";
const README_TEXT: &[u8] = b"These results have been deleted rather than offloaded.\n\
    This is the expected behavior for passing jobs from the Commit Queue.\n";

/// Where the bytes of this entry's object come from.
pub fn source(entry: &Entry, withheld: &Withheld) -> Source {
    if withheld.begins_at(&entry.path) {
        return Source::Text(README_TEXT.to_vec());
    }
    if withheld.covers(&entry.path) {
        return Source::Nothing;
    }
    match (entry.kind, &entry.target) {
        (Kind::File, _) => Source::File,
        (Kind::Fifo, _) => Source::Text(b"<FIFO>".to_vec()),
        (Kind::Symlink, Some(target)) => Source::Text([b"<symlink to ", &**target, b">"].concat()),
        _ => Source::Nothing,
    }
}

/// The path whose key the entry's object has.
pub fn path(entry: &Entry, withheld: &Withheld) -> RelPath {
    match withheld.begins_at(&entry.path) {
        true => entry.path.join(README).unwrap_or_else(|_| entry.path.clone()),
        false => entry.path.clone(),
    }
}
