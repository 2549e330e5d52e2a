//! What the disk and the throughput were in each minute of the last day, for the plots. Kept in a file of ours, which
//! costs only these plots when it is lost.

use crate::kept;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Minutes of a day.
const MOST: usize = 24 * 60;
/// It is written down after so many samples, and when the drone stops.
const OFTEN: usize = 10;

/// One minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Minute {
    /// Seconds since 1970.
    pub at: i64,
    pub used_percent: u8,
    pub bytes_per_second: u64,
}

/// The last day.
#[derive(Debug)]
pub struct Chronicle {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    minutes: VecDeque<Minute>,
    /// The store's count of bytes at the last sample, and when that was.
    last: Option<(u64, i64)>,
    unsaved: usize,
}

impl Chronicle {
    /// Reads what an earlier run kept.
    pub fn open(path: &Path) -> Self {
        let kept = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let inner = Inner { minutes: kept.unwrap_or_default(), ..Inner::default() };
        Chronicle { path: path.to_owned(), inner: Mutex::new(inner) }
    }

    /// Notes how things are now; `sent` counts bytes since the process began.
    pub fn note(&self, at: i64, used_percent: u8, sent: u64) {
        let mut inner = self.inner();
        if let Some((before, since)) = inner.last.replace((sent, at)) {
            let seconds = u64::try_from(at - since).unwrap_or_default().max(1);
            let bytes_per_second = sent.saturating_sub(before).checked_div(seconds).unwrap_or_default();
            inner.minutes.push_back(Minute { at, used_percent, bytes_per_second });
            inner.unsaved += 1;
        }
        // What is older than a day, and what a clock that was set back left in the future.
        inner
            .minutes
            .retain(|minute| (0..=i64::try_from(MOST * 60).unwrap_or(i64::MAX)).contains(&(at - minute.at)));
        while inner.minutes.len() > MOST {
            inner.minutes.pop_front();
        }
        if inner.unsaved >= OFTEN {
            self.save(&mut inner);
        }
    }

    /// The minutes, the oldest first.
    pub fn samples(&self) -> Vec<Minute> {
        self.inner().minutes.iter().copied().collect()
    }

    fn save(&self, inner: &mut Inner) {
        if kept::replace(&self.path, &serde_json::to_vec(&inner.minutes).unwrap_or_default()).is_ok() {
            inner.unsaved = 0;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        let mut inner = std::mem::take(&mut *self.inner());
        if inner.unsaved > 0 {
            self.save(&mut inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_over_a_restart_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let chronicle = Chronicle::open(&path);
        for minute in 0..2000 {
            chronicle.note(1_000_000 + minute * 60, 50, minute.cast_unsigned() * 600);
        }
        let samples = chronicle.samples();
        assert_eq!((samples.len(), samples[0].bytes_per_second), (MOST, 10));
        drop(chronicle);
        let again = Chronicle::open(&path);
        assert_eq!(again.samples(), samples);
        // The first note of a process has nothing to compare with, and a clock that was set back forgets the future.
        again.note(900_000, 50, 0);
        assert!(again.samples().is_empty());
        std::fs::write(&path, "garbage").unwrap();
        assert!(Chronicle::open(&path).samples().is_empty());
    }
}
