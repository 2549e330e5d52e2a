//! Who was told to end, since when, and why: kept over a restart, so that nobody is told twice or waited for anew.

use super::plan::Seen;
use crate::kept;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// By the engine's name of the container.
#[derive(Debug, Default)]
pub struct Told {
    path: Option<PathBuf>,
    all: BTreeMap<String, Note>,
}

/// One container that is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Seconds since 1970.
    since: u64,
    why: String,
    /// The process inside got its SIGTERM.
    heard: bool,
}

impl Told {
    /// Reads what an earlier run of the process knew; a file that is none costs that memory, and nothing else.
    pub fn open(path: &Path) -> Self {
        let all = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Told { path: Some(path.to_owned()), all: all.unwrap_or_default() }
    }

    /// Since when, and whether the process inside was told.
    pub fn since(&self, id: &str) -> Option<(SystemTime, bool)> {
        self.all.get(id).map(|note| (UNIX_EPOCH + Duration::from_secs(note.since), note.heard))
    }

    /// Why.
    pub fn why(&self, id: &str) -> Option<&str> {
        self.all.get(id).map(|note| note.why.as_str())
    }

    /// It is to end; `heard` says whether the process inside was told. The time counts from the first.
    pub fn note(&mut self, id: &str, why: &str, heard: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let note = self.all.entry(id.to_owned()).or_insert(Note { since: now, why: why.to_owned(), heard });
        if heard && !note.heard {
            (note.since, note.heard) = (now, true);
        }
        self.keep();
    }

    /// Forgets those that are gone.
    pub fn forget_all_but(&mut self, seen: &[Seen]) {
        let before = self.all.len();
        self.all.retain(|id, _| seen.iter().any(|seen| seen.id == *id));
        if self.all.len() != before {
            self.keep();
        }
    }

    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let text = serde_json::to_vec(&self.all).unwrap_or_default();
        if let Err(error) = kept::replace(path, &text) {
            warn!(file = %path.display(), %error, "who was told to end is kept in memory only");
        }
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, id: &str, since: SystemTime, heard: bool) {
        let since = since.duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.all.insert(id.to_owned(), Note { since, why: "x".into(), heard });
    }
}
