//! Trouble that is more than one job's failure: the store's, said once when it begins and when it is over; names
//! that were taken.

use crate::lab::RelPath;
use crate::ledger::FailureClass;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{info, warn};

/// Whether the store is in trouble, since when, and with what words.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Present>>);

/// A trouble that is not over.
#[derive(Clone, Debug)]
pub struct Present {
    /// When the first job met it.
    pub since: SystemTime,
    /// What kind of trouble.
    pub class: FailureClass,
    /// The error that the first job met.
    pub error: String,
    /// How many attempts met it.
    pub attempts: u64,
    /// It is more than one job's: another met it too, or the drone itself did.
    pub is_wide: bool,
    jobs: BTreeSet<RelPath>,
}

impl Trouble {
    /// Does a failure of this class concern every job, not this one?
    pub fn is_of_store(&self, class: FailureClass) -> bool {
        use FailureClass::{Auth, DiskFull, Http5xx, Stalled, Throttled, Timeout, Transport};
        matches!(class, Auth | DiskFull | Http5xx | Stalled | Throttled | Timeout | Transport)
    }

    /// A job met trouble, or the drone itself; the first one says so.
    pub fn begin(&self, class: FailureClass, error: &str, job: Option<&RelPath>) {
        let mut present = self.present();
        if present.is_none() {
            warn!(class = class.as_str(), error, "store in trouble; jobs are kept and tried again");
        }
        let present = present.get_or_insert_with(|| Present {
            since: SystemTime::now(),
            class,
            error: error.to_owned(),
            attempts: 0,
            is_wide: false,
            jobs: BTreeSet::new(),
        });
        present.attempts += 1;
        if !present.is_wide {
            present.jobs.extend(job.cloned());
            present.is_wide = job.is_none() || present.jobs.len() > 1;
        }
    }

    /// A job got through.
    pub fn over(&self) {
        if let Some(present) = self.present().take() {
            let lasted = present.since.elapsed().unwrap_or_default();
            info!(class = present.class.as_str(), attempts = present.attempts, ?lasted, "store works again");
        }
    }

    /// The trouble, if there is any now.
    pub fn now(&self) -> Option<Present> {
        self.present().clone()
    }

    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that was taken is a problem for so long: a person is to look whose it was.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The jobs that found their name in the store taken, and went beside it.
#[derive(Debug, Default)]
pub struct Collisions(Mutex<BTreeMap<RelPath, (String, SystemTime)>>);

impl Collisions {
    /// A job found that name taken.
    pub fn note(&self, job: &RelPath, prefix: &str) {
        self.jobs().insert(job.clone(), (prefix.to_owned(), SystemTime::now()));
    }

    /// Those of the last hour, with the name that was taken.
    pub fn recent(&self) -> Vec<(RelPath, String)> {
        let mut jobs = self.jobs();
        jobs.retain(|_, (_, at)| at.elapsed().is_ok_and(|age| age < REMEMBERED));
        jobs.iter().map(|(job, (prefix, _))| (job.clone(), prefix.clone())).collect()
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<RelPath, (String, SystemTime)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What nothing is heard of for so long has come to rest, or is gone.
const AT_REST: Duration = Duration::from_secs(600);

/// The jobs that are said to be finished, and whose files change all the same.
#[derive(Debug, Default)]
pub struct Restless(Mutex<BTreeMap<RelPath, SystemTime>>);

impl Restless {
    /// A job was seen to change again.
    pub fn note(&self, job: &RelPath) {
        if self.jobs().insert(job.clone(), SystemTime::now()).is_none() {
            warn!(%job, "said to be finished, and its files still change: kept until they do not");
        }
    }

    /// Those that are.
    pub fn now(&self) -> Vec<RelPath> {
        let mut jobs = self.jobs();
        jobs.retain(|_, at| at.elapsed().is_ok_and(|age| age < AT_REST));
        jobs.keys().cloned().collect()
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<RelPath, SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_that_fails_again_and_again_is_not_the_store() {
        let (trouble, job) = (Trouble::default(), |name: &str| RelPath::new(name.as_bytes()).unwrap());
        let fail = |job: Option<&RelPath>| {
            trouble.begin(FailureClass::Auth, "refused", job);
            trouble.now().is_some_and(|present| present.is_wide)
        };
        assert!(!fail(Some(&job("1-a"))) && !fail(Some(&job("1-a"))));
        assert!(fail(Some(&job("2-b"))));
        trouble.over();
        assert!(!fail(Some(&job("2-b"))));
        assert!(fail(None));
    }
}
